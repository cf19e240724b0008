"""What is slow to load is loaded where it is used: each measurement has a process of its own."""

import json
import subprocess
import sys

import pytest

SLOW = {"matplotlib", "pandas", "scipy.optimize", "scipy.stats", "seaborn", "sklearn", "sympy"}
"""Each takes as long as a good part of torch."""

OPTIONAL = {"backpack", "curvlinops", "laplace", "rich", "transformers"}
"""What the library does without."""


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [("vivit", SLOW | OPTIONAL), ("benchmarks.run.serve", SLOW), ("benchmarks.cli", SLOW)],
)
def test_slow_packages_wait_until_they_are_used(module, unwanted):
    code = f"import json, sys, {module}; print(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {*json.loads(done.stdout)}
    assert module in loaded
    assert not loaded & unwanted
