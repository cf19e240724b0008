"""CSV files as a spreadsheet reads them, and images as their format allows them."""

import csv
import io
import re
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

import reports
from reports.cli import main
from reports.pages import files

DANGEROUS = ["=1+1", "+cmd|x", "-1+2", "@SUM(A1)", "\t=1", "\n=1", "-", "-inf", "=", "-1;2"]
NUMBERS = ["-1", "+2.5", "-1.5e-05", "-.5", "3", "-4%", "+12.5%"]
TEXT = ["gram", "1+1", "a=b", "", " x", "'=1"]


def read(content):
    return [*csv.reader(io.StringIO(content.decode(), newline=""))]


@pytest.mark.parametrize("text", DANGEROUS)
def test_text_is_no_formula(text):
    header, (cell, other) = read(files.csv(pd.DataFrame({text: [text], "b": [1]})))
    assert (header, cell, other) == ([f"'{text}", "b"], f"'{text}", "1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("\r=1", "'\n=1"), ("a\r=1", "a\n=1"), ("a\r\n=1", "a\n=1"), ("a,\r=1", "a,\n=1")],
)
def test_no_cell_begins_another_row(text, expected):
    assert read(files.csv(pd.DataFrame({"a": [text], "b": [1]})))[1:] == [[expected, "1"]]


@pytest.mark.parametrize("size", [(1.0, 3.0), (0.5, 200.0), (200.0, 0.5)])
def test_images_of_any_size(size):
    """More pixels than WebP has, at the resolution of others, make an image all the same."""
    image = Image.open(io.BytesIO(files.webp(Figure(figsize=size))))
    wide, high = image.size
    assert wide / high == pytest.approx(size[0] / size[1], rel=0.05)
    assert (max(image.size) > 16000) == (max(size) == 200)


@pytest.mark.parametrize("text", NUMBERS + TEXT)
def test_all_else_stays(text):
    (_, (cell, _)) = read(files.csv(pd.DataFrame({"a": [text], "b": [1]})))
    assert cell == text


def test_numbers_stay_numbers():
    frame = pd.DataFrame({"a": [-1.5, 2.0], "b": [-1, 2], "c": [None, -3], "d": ["x", -4]})
    frame["e"] = pd.Categorical(["=1", "x"])
    assert files.csv(frame) == frame.assign(e=["'=1", "x"]).to_csv(index=False).encode()


def test_columns_of_the_same_name_and_none():
    frame = pd.DataFrame([["=1", "x"], ["y", "=2"]], columns=["a", "a"])
    assert files.csv(frame) == b"a,a\n'=1,x\ny,'=2\n"
    assert files.csv(frame.iloc[:0]) == b"a,a\n"


def test_no_cell_of_a_report_is_a_formula(store, make, tmp_path):
    """Whatever records say: names of problems and methods, reasons."""
    bad = "=HYPERLINK(1)"
    records = [
        make(problem=bad),
        make(problem=bad, method="@method"),
        make(problem=bad, method="gradient", samples=[0.5]),
        make(problem=bad, method="+failed", status="error", reason="-cmd|x"),
        make(problem=bad, quantity="accuracy", samples=[1e-6]),
    ]
    output = tmp_path / "html"
    assert main(["--input", str(store(records)), "--output", str(output)]) == 0
    tables = [read(file.read_bytes()) for file in (output / "csv").glob("*.csv")]
    cells = [cell for table in tables for row in table for cell in row]
    assert f"'{bad}" in " ".join(cells)
    assert not [cell for cell in cells if re.match(r"[=+@\t\r\n]|-(?!\d)", cell)]


def test_there_is_one_writer():
    """Any other would need the same care."""
    folder = Path(reports.__file__).parent.parent
    code = [*folder.glob("reports/**/*.py"), *folder.glob("benchmarks/**/*.py")]
    writers = [f.name for f in code if re.search(r"to_csv|csv\.(Dict)?[wW]riter", f.read_text())]
    assert writers == ["files.py"]
