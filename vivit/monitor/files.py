"""Files that are written in one step."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write(path: Path, content: str) -> None:
    """Write a file; whoever looks at it sees the old content or the new, never a part.

    Args:
        path: The file; its folder is created.
        content: The new content.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
