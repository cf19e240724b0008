"""The built wheel in an empty environment: the README's example runs with what it brings.

``python tests/installed_wheel.py FOLDER`` looks for it in ``FOLDER/dist``, where ``tox run -e
dist`` builds it, and makes the environment beside it.
"""

import re
import subprocess
import sys
import venv
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"
WHICH = 'assert "site-packages" in vivit.__file__\nprint("vivit", vivit.__version__)\n'


def main(folder: Path) -> None:
    (wheel,) = (folder / "dist").glob("*.whl")
    environment = folder / "empty"
    venv.create(environment, clear=True, with_pip=True)
    isolated = [environment / "bin" / "python", "-I"]  # sees nothing of the repository
    subprocess.run([*isolated, "-m", "pip", "install", "--quiet", wheel], check=True)
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    subprocess.run([*isolated, "-c", example + WHICH], cwd=folder, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
