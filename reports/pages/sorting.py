"""The library that sorts and searches tables, embedded in pages: DataTables, as itables has it."""

from __future__ import annotations

import base64
import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from reports.errors import ReportError

PACKAGE = "itables"
BUNDLE = Path("html", "dt_bundle.js")
LONG = 8
"""Rows above which a table is worth to be sorted and searched."""

LAST = "1e300"
"""What stands for text in a column of numbers: behind all of them."""


@cache
def library() -> str:
    """The JavaScript module, compressed, as text.

    Returns:
        Base64 of gzip, the same for the same version.

    Raises:
        ReportError: Its package is not installed.
    """
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ReportError(
            f"pages need the package {PACKAGE}, which is not installed: pip install "
            "'vivit[report]'"
        )
    code = (Path(found.origin).parent / BUNDLE).read_bytes()
    return base64.b64encode(gzip.compress(code, mtime=0)).decode()
