"""The README can be read in a minute, and its example runs as written.

Its figures are held by `test_measured_pages.py`.
"""

import re
from pathlib import Path

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def test_example(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip()]) <= 12
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_length():
    assert len(README.splitlines()) <= 120
