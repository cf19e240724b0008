"""The pages in a browser: every link of the navigation, wide and narrow, light and dark."""

import json
import re
from html import unescape
from pathlib import Path

import browser
import pytest
from PIL import Image

from reports.cli import main
from reports.serving import serving

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="there is no chromium")

RECORDS = Path(__file__).resolve().parents[3] / "bench_results" / "published" / "quick.jsonl"
WIDE, NARROW = 1280, 390
PROBE = """<!DOCTYPE html>
<title>nothing</title>
<body style="margin: 0"><iframe style="border: 0; height: 800px"></iframe>
<script type="module">
const frame = document.querySelector("iframe");
const pause = () => new Promise((go) => setTimeout(go, 300));
const load = async (act) => {
  const loaded = new Promise((go) => frame.addEventListener("load", go, {once: true}));
  act();
  await loaded;
  await pause();
};
const found = [];
for (const width of WIDTHS) {
  frame.style.width = `${width}px`;
  await load(() => { frame.src = "index.html"; });
  const links = () => [...frame.contentDocument.querySelectorAll("nav.pages a")];
  for (let place = 0; place < links().length; place++) {
    await load(() => links()[place].click());
    const page = frame.contentDocument;
    const far = [];
    for (const link of page.querySelectorAll("nav:not(.pages) a")) {
      link.click();
      await pause();
      const section = page.querySelector(frame.contentWindow.location.hash);
      const {top} = section.getBoundingClientRect();
      if (top < -1 || top > 800) far.push(link.textContent);
    }
    const lost = [];
    for (const box of page.querySelectorAll(".scroll:has(tbody td)")) {
      const name = box.querySelector("tbody tr > :first-child:not(.prose)");
      box.scrollLeft = box.scrollWidth;
      const {left, right} = box.getBoundingClientRect();
      const cell = name?.getBoundingClientRect();
      if (cell && (cell.left < left - 1 || cell.right > left + 0.6 * (right - left)))
        lost.push(name.textContent);
    }
    found.push({
      width, far, lost, file: frame.contentWindow.location.pathname,
      current: page.querySelector("nav.pages a[aria-current]").getAttribute("href"),
      heading: page.querySelector("h1").textContent,
      tooWide: page.documentElement.scrollWidth - width,
    });
  }
}
document.title = JSON.stringify(found);
</script>
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The report of the committed records of a short run."""
    output = tmp_path_factory.mktemp("html")
    assert main(["--input", str(RECORDS), "--output", str(output)]) == 0
    return output


def test_each_link_leads_to_its_page_which_fits_the_window(folder):
    """Scrolled to their ends, tables show what names a row, and leave room for the rest."""
    pages = {page.name for page in folder.glob("*.html")}
    (folder / "probe.html").write_text(PROBE.replace("WIDTHS", json.dumps([WIDE, NARROW])))
    with serving(folder) as server:
        address = server.address.replace("index.html", "probe.html")
        page = browser.run(address, "--dump-dom", milliseconds=120_000)
    (folder / "probe.html").unlink()
    found = json.loads(unescape(re.search(r"<title>(.*?)</title>", page)[1]))
    assert len(found) == 2 * len(pages)
    assert {visit["file"].lstrip("/") for visit in found} == pages
    assert len({visit["heading"] for visit in found}) == len(pages)
    for visit in found:
        assert visit["file"] == f"/{visit['current']}"
        assert visit["far"] == []
        assert visit["lost"] == []
        assert visit["tooWide"] <= 0, visit


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_light_and_dark(folder, width, tmp_path):
    """Figures, too, are dark on dark pages, where little more than words is bright."""
    light, dark = (_bright(folder, tmp_path, width, scheme) for scheme in (1, 0))
    assert light > 0.8
    assert dark < 0.05


def _bright(folder, tmp_path, width, scheme):
    """The share of bright pixels of the first page, if dark (0) or light (1) is preferred."""
    file, height = tmp_path / f"{scheme}.png", 1600
    browser.run(
        (folder / "index.html").as_uri(),
        f"--screenshot={file}",
        f"--window-size={width},{height}",
        f"--blink-settings=preferredColorScheme={scheme}",
    )
    image = Image.open(file).convert("L")
    assert image.size == (width, height)
    return sum(image.histogram()[160:]) / (width * height)
