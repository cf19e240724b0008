"""A copy of the project in which a test adds something, as a user would."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

COPIED = ("benchmarks", "reports", "vivit", "tests", "conftest.py", "constraints.txt")


class Copy:
    """The project in a folder of its own.

    Attributes:
        path: The folder.
    """

    def __init__(self, path):
        self.path = path
        for name in (*COPIED, "pyproject.toml"):
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, path / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, path / name)

    def add(self, name, text):
        """A new file."""
        assert not (self.path / name).exists()
        (self.path / name).write_text(text.lstrip("\n"))

    def insert(self, name, behind, line):
        """A new entry, behind the only place with this text."""
        file = self.path / name
        before, found, after = file.read_text().partition(behind)
        assert found
        assert behind not in after
        file.write_text(before + found + line + after)

    def run(self, *words):
        """What a module prints."""
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=self.path,
            env={**os.environ, "PYTHONPATH": str(self.path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
