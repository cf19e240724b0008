"""Chromium without a window, for pages of this machine."""

import shutil
import subprocess

CHROMIUM = shutil.which("chromium")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")


def run(address, *options, milliseconds=5000):
    """Load a page, and let time of the page's own go by as fast as it can.

    Returns:
        What was written to standard output. What a page says on its console is an error.
    """
    waiting = f"--virtual-time-budget={milliseconds}"
    command = [CHROMIUM, *OPTIONS, waiting, "--enable-logging=stderr", *options, address]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    return done.stdout
