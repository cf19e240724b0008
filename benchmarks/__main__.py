"""``python -m benchmarks``."""

import sys

from benchmarks.cli import main

if __name__ == "__main__":  # asv imports every module
    sys.exit(main())
