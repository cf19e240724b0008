"""Entry point of a worker that measures another copy of the library than ours.

Run as a script by ``python -I``, so that neither the working directory nor the script's is
searched for modules; its argument is the folder that holds the package.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    folder = Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(folder))
    import vivit

    if not Path(vivit.__file__).is_relative_to(folder):
        sys.exit(f"expected the library of {folder}, got {vivit.__file__}")
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from benchmarks.run.serve import main

    main()
