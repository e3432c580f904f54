"""The lanes engine: 16 images side by side in the processor's SIMD lanes.

jit.py compiles kernels and keeps them on disk; twin.py defines the lane operations on NumPy arrays, simd.py says
how each one compiles. Numba is imported in jit.py and simd.py only.
"""
