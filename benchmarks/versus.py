"""rot180 beside PyTorch, as `rot180 bench` measures it.

python benchmarks/versus.py [WORK ...] [--threads 2] [--rounds 7] [--json]
"""

import os
import sys


def main() -> int:
    if "--threads" in sys.argv:  # OpenBLAS and OpenMP read theirs when they are loaded
        threads = sys.argv[sys.argv.index("--threads") + 1]
        os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads))
    from rot180.cli import main as rot180

    return rot180(["bench", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
