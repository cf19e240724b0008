"""Entry point of a worker in the environment of the original package.

Run as a script by ``python -I``, so that neither the working directory nor the script's is
searched for modules.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    import vivit  # noqa: F401 - the original, before our library of that name can be found

    sys.path.append(str(Path(__file__).resolve().parents[2]))
    from benchmarks.run.serve import main

    main()
