"""Tables that can be sorted and searched, where there is JavaScript, and read without it."""

import json
import re

import browser
import pytest

from reports.cli import main
from reports.errors import ReportError
from reports.pages import sorting
from reports.pages.rendering import order

ASCENDING = [
    "2.00 ms",
    "10.0 ms",
    "20.0 ms",
    "100 ms",
    "200 ms",
    "1.00 s",
    "2.00 s",
    "10.0 s",
    "20.0 s",
]
PROBE = """
<script type="module">
const table = document.querySelector("#table-time");
const medians = () => [...table.tBodies[0].rows].map((row) => row.cells[4].innerText);
const wait = () => new Promise((go) => setTimeout(go, 300));
await wait();
[...table.querySelectorAll("th")].find((head) => head.textContent.startsWith("Median")).click();
await wait();
const sorted = medians();
const input = table.closest(".scroll").querySelector("input");
input.value = "out of";
input.dispatchEvent(new Event("input", {bubbles: true}));
await wait();
document.title = JSON.stringify([sorted, medians()]);
</script>
"""


@pytest.fixture
def write(store, make, tmp_path):
    """A page with a table of so many times, the first of which failed."""

    def write_page(rows):
        times = [1e-3 * 10 ** (n % 5) * (1 + n // 5) for n in range(rows)]
        records = [make(samples=[x], batch_size=n) for n, x in enumerate(times)]
        records[0] = make(status="oom", batch_size=0)
        output = tmp_path / "html"
        assert main(["--input", str(store(records)), "--output", str(output)]) == 0
        return output / "speed.html"

    return write_page


@pytest.mark.parametrize("rows", [sorting.LONG, sorting.LONG + 1])
def test_long_tables_bring_the_library(write, rows):
    text = write(rows).read_text()
    assert text.count(sorting.library()) == (rows > sorting.LONG)
    assert ('<table id="table-time" class="long">' in text) == (rows > sorting.LONG)


@pytest.mark.parametrize(
    ("text", "key"), [("1.50 ms", "0.0015"), ("2.00x slower", "0.5"), ("failed", sorting.LAST)]
)
def test_cells_are_sorted_by_their_number(text, key):
    assert order(text) == key


def test_without_the_library_there_are_no_pages(monkeypatch):
    sorting.library.cache_clear()
    monkeypatch.setattr(sorting, "find_spec", lambda name: None)
    with pytest.raises(ReportError, match=r"pages need the package itables.*pip install"):
        sorting.library()


@pytest.mark.skipif(browser.CHROMIUM is None, reason="there is no chromium")
def test_in_a_browser(write):
    page = write(10)
    page.write_text(page.read_text().replace("</body>", f"{PROBE}</body>"))
    title = re.search(r"<title>(.*?)</title>", browser.run(page.as_uri(), "--dump-dom"))[1]
    failed = ["out of memory"]
    assert json.loads(title) == [[*ASCENDING, *failed], failed]
