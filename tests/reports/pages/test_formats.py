"""Tables as LaTeX and Parquet."""

import io
import re

import pandas as pd
import pytest

from reports.cli import main
from reports.pages import formats
from reports.tables.table import Table

TABLE = Table(
    name="times",
    title="Times & more",
    caption="How to read it.",
    shown=pd.DataFrame(
        {"Name": ["a_b\n50%", "[1]"], "Time": ["1.0 s [1]", "~2"], "Computed": ["x", "\\y"]}
    ),
    raw=pd.DataFrame({"time [s]": [1.0, None], "Name": [1, "two"]}),
    measured=("Time",),
    kinds={(0, "Time"): "best", (1, "Time"): "failed"},
    notes=("why {it} failed",),
)


def test_latex_by_hand():
    text = formats.latex(TABLE).decode()
    assert r"\begin{longtable}{lrp{0.18\linewidth}}" in text
    assert r"\caption{Times \& more}\label{tab:times}\\" in text
    assert r"a\_b 50\% & \textbf{1.0 s {[}1]} & x \\" in text
    assert r"{[}1] & \textasciitilde{}2 & \textbackslash{}y \\" in text
    assert r"{[}1] why \{it\} failed\par" in text


@pytest.mark.parametrize("text", list(formats.SPECIAL))
def test_no_text_is_a_command(text):
    shown = pd.DataFrame({text: [text]})
    found = formats.latex(Table("t", text, "", shown, pd.DataFrame(index=[0]))).decode()
    caption = re.search(r"\\caption\{(.*)\}\\label", found)[1]
    assert caption == formats.SPECIAL[text]
    assert found.count(formats.SPECIAL[text]) >= 3


def test_parquet_has_text_and_numbers():
    frame = pd.read_parquet(io.BytesIO(formats.parquet(TABLE)))
    assert frame["time [s]"].dtype == float
    assert frame["Name"].tolist() == ["a_b\n50%", "[1]"]
    assert frame["Name (2)"].tolist() == ["1", "two"]


def test_both_stand_beside_the_csv(store, records, tmp_path, read_page):
    output = tmp_path / "html"
    assert main(["--input", str(store(records)), "--output", str(output), "--latex"]) == 0
    names = [{path.stem for path in (output / kind).iterdir()} for kind in ("csv", "tex")]
    assert names[0] == names[1]
    links = read_page(output / "speed.html").links
    assert {"csv/time.csv", "tex/time.tex"} <= {*links}


def test_without_pyarrow_nothing_is_written(store, records, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    output = tmp_path / "html"
    assert main(["--input", str(store(records)), "--output", str(output), "--parquet"]) == 2
    assert not output.exists()
    assert capsys.readouterr().err == (
        "error: Parquet files need the package pyarrow, which is not installed: pip install "
        "'vivit[parquet]', or leave out --parquet\n"
    )
