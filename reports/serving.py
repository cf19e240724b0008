"""The report for this machine alone, made again when records change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"
VERSION = "/version"
SECONDS = 2.0
"""Between two looks at the records, and at the version of a page."""

RELOAD = f"""<script>
let seen;
setInterval(async () => {{
  const answer = await fetch("{VERSION}").catch(() => null);
  const version = answer && await answer.text();
  if (seen && version && version !== seen) location.reload();
  seen = version || seen;
}}, {SECONDS * 1000:.0f});
</script>
"""
"""Added to pages as they are served; those on disk stay as they are."""

Stamp = list[tuple[str, int, int]]


class Server(ThreadingHTTPServer):
    """Serves a folder on the loopback device.

    Attributes:
        version: Of the report; pages that have another one load again.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0) -> None:
        """Listen, without answering yet.

        Args:
            folder: What to serve.
            port: Where; 0 for any that is free.
        """
        self.folder, self.version = folder, 1
        super().__init__((LOOPBACK, port), Handler)

    @property
    def address(self) -> str:
        """Of the first page."""
        return f"http://{LOOPBACK}:{self.server_port}/index.html"


class Handler(SimpleHTTPRequestHandler):
    """Answers with files, pages with a script that loads them again."""

    server: Server

    def __init__(self, *args: Any) -> None:
        """As its base, for the folder of the server."""
        super().__init__(*args, directory=str(args[2].folder))

    def do_GET(self) -> None:
        """The version, a page or any other file."""
        path = Path(self.translate_path(self.path))
        if self.path == VERSION:
            self._answer(str(self.server.version).encode(), "text/plain")
        elif path.suffix == ".html" and path.is_file():
            self._answer(path.read_bytes() + RELOAD.encode(), "text/html; charset=utf-8")
        else:
            super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: the terminal says when the report was made."""

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[Server]:
    """Answer in the background.

    Args:
        folder: What to serve.
        port: Where; 0 for any that is free.

    Yields:
        The server, which has stopped afterwards.
    """
    with Server(folder, port) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def watch(
    inputs: Sequence[Path],
    changed: Callable[[], None],
    go_on: Callable[[], bool] = lambda: True,
    seconds: float = SECONDS,
) -> None:
    """Look at files again and again.

    Args:
        inputs: Files or folders.
        changed: Called when one has changed since the last look; the first look is one.
        go_on: Whether to look once more.
        seconds: Between two looks.
    """
    seen: Stamp | None = None
    while go_on():
        now = stamp(inputs)
        if now != seen:
            seen = now  # what changes meanwhile is seen at the next look
            changed()
        time.sleep(seconds)


def stamp(inputs: Sequence[Path]) -> Stamp:
    """What changes when a file does: names, sizes and times.

    Args:
        inputs: Files or folders; some may not exist yet.

    Returns:
        An entry for each file.
    """
    files = [file for path in inputs for file in (path.rglob("*") if path.is_dir() else [path])]
    facts = ((str(file), file.stat()) for file in files if file.is_file())
    return sorted((name, fact.st_mtime_ns, fact.st_size) for name, fact in facts)
