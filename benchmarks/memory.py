"""Peak memory of training, rot180 beside PyTorch: each side in a process of its own, three updates.

    python benchmarks/memory.py [--threads 2]

Prints the largest resident size of each process, libraries included.
"""

import argparse
import multiprocessing
import resource

WORKS = ("lenet-5", 64), ("lenet-5", 256), ("resnet-20", 128), ("resnet-18", 64)
KIBIBYTES_PER_MEGABYTE = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    threads = parser.parse_args().threads
    for network, batch in WORKS:
        sizes = {}
        for side in ("rot180", "PyTorch"):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                pool.apply(peak, (side, network, batch, threads))  # the first run may compile
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                sizes[side] = pool.apply(peak, (side, network, batch, threads))
        share = 100 * sizes["rot180"] / sizes["PyTorch"]
        print(f"{network}, batch {batch}: rot180 {sizes['rot180']} MB, PyTorch {sizes['PyTorch']} MB: {share:.0f} %")


def peak(side: str, network: str, batch: int, threads: int) -> int:
    """Megabytes, after three updates on images of 32x32 or 28x28."""
    import numpy as np

    from rot180 import bench, models
    from rot180.network import Network

    graph = models.resnet(18, 10, (3, 32, 32)) if network == "resnet-18" else models.build(network)
    engine = "lanes" if side == "rot180" else "reference"
    whole = Network(graph, seed=1, engine=engine, threads=threads)
    images, labels = np.zeros((batch, *graph.input_shape), np.uint8), np.zeros(batch, np.int64)
    if side == "rot180":
        bench.rot180_side(whole, images, labels, True, threads)(3)
    else:
        bench.torch_side(whole, images, labels, True, "channels_last")(3)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // KIBIBYTES_PER_MEGABYTE


if __name__ == "__main__":
    main()
