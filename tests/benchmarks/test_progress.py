"""The bar of progress."""

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios

import pytest

from benchmarks.run.process import ROOT

STEPS = """
from concurrent.futures import ThreadPoolExecutor
from benchmarks.run.progress import progress_bar

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
def start():
    """Run the steps, with some standard error."""
    started = []

    def start(stderr):
        process = subprocess.Popen(
            [sys.executable, "-c", STEPS],
            cwd=ROOT,
            env=os.environ | {"PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_bar_is_shown(start):
    output, errors = start(subprocess.PIPE).communicate(b"\n", timeout=60)
    assert output == b"ended\n"
    shown = errors.decode()
    assert "0/100" in shown
    assert "100/100" in shown
    assert "cell/s" in shown
    assert "█" in shown


def terminal():
    reader, writer = os.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    return reader, writer


@pytest.mark.parametrize("opened", [os.pipe, terminal])
def test_a_run_outlives_the_reader_of_its_progress(start, opened):
    """Also where several threads tell of theirs."""
    reader, writer = opened()
    process = start(writer)
    os.close(writer)
    assert select.select([reader], [], [], 60)[0]
    assert b"0%" in os.read(reader, 10)
    os.close(reader)
    output, _ = process.communicate(b"\n", timeout=60)
    assert output == b"ended\n"
    assert process.returncode == 0
