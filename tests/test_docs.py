"""What can be said of the documentation without building it: pages, links, names, examples."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import vivit

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [*DOCS.glob("*.md"), *(DOCS / "reference").glob("*.md")]
TEXTS = [*PAGES, *ROOT.glob("*.md")]
MADE = "gallery/index"
"""By sphinx-gallery, of ``docs/examples``."""

RUN = ["index", "start", "how-to"]
"""Pages whose Python code runs from top to bottom."""


BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def anchors(text):
    """Of headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def children(page):
    """What the table of contents of a page names."""
    lists = re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    names = [x for lines in lists for x in lines.split("\n") if x and not x.startswith(":")]
    return [(page.parent / f"{name}.md").resolve() for name in names if name != MADE]


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = re.sub(r"`[^`\n]*`", "", BLOCK.sub("", page.read_text()))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / path) if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def test_every_page_is_in_one_table_of_contents():
    named = [child for page in PAGES for child in children(page)]
    assert sorted(named) == sorted({*PAGES} - {DOCS / "index.md"})


def test_every_public_name_is_in_the_reference():
    pages = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    documented = set(re.findall(r":: vivit\.(?:presets\.)?(\w+)", pages))
    by_hand = {"__version__"}
    assert {*vivit.__all__, *vivit._ON_BACKPACK} <= documented | by_hand
    assert all(f"vivit.{name}" in pages for name in by_hand)


@pytest.mark.parametrize("name", RUN)
def test_examples_run_from_top_to_bottom(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", (DOCS / f"{name}.md").read_text(), re.DOTALL)
    names = {}
    for example in examples:
        exec(compile(example, f"{name}.md", "exec"), names)
    plt.close("all")
    assert capsys.readouterr().out


def test_the_lowest_torch_is_one_that_tests_run_with():
    """Nothing is claimed of versions that nobody has tried."""
    (lowest,) = re.findall(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    (environment,) = (x for x in (ROOT / "tox.ini").read_text().split("\n[") if "lowest}]" in x)
    assert f" lowest: torch=={lowest}.0\n" in environment
    assert "\n    pytest {posargs:tests/vivit " in environment
    (pinned,) = re.findall(r"^torch==([\d.]+)$", (ROOT / "constraints.txt").read_text(), re.M)
    page = (DOCS / "installation.md").read_text()
    assert f"| torch | {lowest} or newer | {pinned}, CPU build, all tests" in page
    assert f"; {lowest}.0, tests of the library" in page
