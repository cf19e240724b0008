"""The bar of progress."""

import subprocess
import sys

import pytest

from benchmarks.process import ROOT

STEPS = """
from concurrent.futures import ThreadPoolExecutor
from benchmarks.progress import progress_bar

def step(bar, name):
    bar.set_description_str(name)
    bar.update()

with progress_bar(100, "cell") as bar:
    input()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(step, [bar] * 100, map(str, range(100))))
print("ended")
"""


@pytest.fixture
def process():
    process = subprocess.Popen(
        [sys.executable, "-c", STEPS],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    yield process
    process.kill()
    process.communicate()


def test_the_bar_is_shown(process):
    output, errors = process.communicate(b"\n", timeout=60)
    assert output == b"ended\n"
    assert b"0/100" in errors
    assert b"100/100" in errors
    assert b"cell/s" in errors


def test_a_run_outlives_the_reader_of_its_progress(process):
    """Also where several threads tell of theirs."""
    assert b"0%" in process.stderr.read(10)
    process.stderr.close()
    process.stderr = None
    output, _ = process.communicate(b"\n", timeout=60)
    assert output == b"ended\n"
    assert process.returncode == 0
