"""Inference with few images: one image after the other, 16 channels in the lanes.

With fewer images than lanes, channels fill them: the same register tile holds pixels x vectors of 16 output channels,
and an input value is the number that is multiplied with a vector of 16 weights. So any number of input channels will
do, and the image itself is read as it is, with 1 or 3 channels. Weights are laid out for it once, with the batch
normalization behind a convolution multiplied into them.

layout.py says how values lie, plan.py which rows a graph becomes, program.py packs and runs them.
"""
