"""Two machines, or two commits, beside each other."""

import pandas as pd
import pytest

from benchmarks.records.record import RecordStore
from reports.cli import main
from reports.sources.sides import Side, pairs
from reports.tables.change import Figure, judge
from reports.tables.pairs import as_text, pair_summary, pair_table


@pytest.fixture
def write(tmp_path):
    """Write a file of records."""

    def write_records(name, *records):
        path = tmp_path / f"{name}.jsonl"
        RecordStore(path).append(records)
        return path

    return write_records


@pytest.fixture
def compare(tmp_path, capsys):
    """Run the command; what it says."""

    def run(a, b, *arguments, code=0):
        assert main(["compare", str(a), str(b), *map(str, arguments)]) == code
        said = capsys.readouterr()
        return said.err if code else said.out

    return run


def table(a, b):
    return pair_table(pairs(Side("a", a), Side("b", b)))


@pytest.mark.parametrize(
    ("quantity", "before", "after", "text", "kind"),
    [
        ("time", [1.0, 1.0, 1.0], [2.0, 2.0, 2.0], "2.00x (2.00x to 2.00x)", "worse"),
        ("time", [1.0, 2.0, 3.0], [1.0, 1.0, 1.0], "0.500x (0.400x to 0.667x)", "better"),
        ("time", [1.0, 2.0, 3.0], [1.4, 1.6, 1.8], "0.800x (0.600x to 1.13x)", "unchanged"),
        ("time", [1.0], [1.2], "1.20x", "unchanged"),
        ("time", [1.0], [1.3], "1.30x", "worse"),
        ("memory", [100.0], [108.0], "1.08x", "unchanged"),
        ("memory", [100.0], [80.0], "0.800x", "better"),
        ("accuracy", [1e-7], [9e-7], "9.00x", "unchanged"),
        ("accuracy", [0.0], [0.0], "1.00x", "unchanged"),
        ("critical_batch_size", [10.0], [20.0], "2.00x", "better"),
        ("critical_batch_size", [20.0], [10.0], "0.500x", "worse"),
    ],
)
def test_ratios_and_their_noise_by_hand(make, quantity, before, after, text, kind):
    shown = table(
        [make(quantity=quantity, samples=before)], [make(quantity=quantity, samples=after)]
    )
    assert shown.shown.loc[0, ["B / A", "Change"]].tolist() == [text, kind]


@pytest.mark.parametrize(
    ("before", "after", "kind", "text"),
    [("ok", "oom", "lost", "out of memory [1]"), ("timeout", "ok", "gained", "1.00 s")],
)
def test_failures_are_named_with_their_reason(make, before, after, kind, text):
    sides = ([make(status=status, reason="why")] for status in (before, after))
    found = table(*sides)
    assert found.shown.loc[0, ["B", "B / A", "Change"]].tolist() == [text, "—", kind]
    assert found.notes[0] in ("A: why", "B: why")


def test_what_both_lack_is_left_out(make):
    failed, done = make(status="oom"), make(batch_size=64)
    assert table([failed, done], [failed, done]).shown["Batch"].tolist() == ["64"]


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (Figure(1.0, 0.9, 1.1), Figure(1.2, 1.15, 1.3), "worse"),
        (Figure(1.0, 0.9, 1.1), Figure(1.2, 1.05, 1.3), "unchanged"),
        (Figure(0.0), Figure(1.0), "worse"),
        (Figure(1.0), Figure(1.04), "unchanged"),
    ],
)
def test_judgements(before, after, kind):
    assert judge(before, after) == kind


def test_two_files(make, write, compare, tmp_path, read_page):
    names = ("gram", "original")
    a = write("a", *(make(name, commit="aaaa", samples=[2.0]) for name in names))
    b = write("b", *(make(name, commit="bbbb", samples=[1.0]) for name in (*names, "lanczos")))
    said = compare(a, b, "--output", tmp_path / "html")
    assert "Time: B / A is 0.500x (median; 0.500x to 0.500x), 2 better, of 2 in common." in said
    assert said.splitlines()[-1] == str(tmp_path / "html" / "compared.html")
    page = read_page(tmp_path / "html" / "compared.html")
    header, *rows = page.tables["table-compared"]
    assert [row[header.index("B / A")] for row in rows] == ["0.500x", "0.500x"]
    csv = pd.read_csv(tmp_path / "html" / "csv" / "compared.csv")
    assert csv[["value of A", "value of B", "ratio"]].to_numpy().tolist() == [[2.0, 1.0, 0.5]] * 2


def test_two_commits_of_one_file(make, write, compare):
    path = write("both", make(commit="abcd1"), make(commit="abce1", samples=[4.0]))
    assert "4.00x" in compare("abcd", "abce", "--input", path)


def test_neither_file_nor_commit(make, write, compare):
    path = write("one", make(commit="abcd1234"))
    said = compare("abcd", "never", "--input", path, code=2)
    assert "expected a file or folder of records, or at least four letters of a commit" in said
    assert "got 'never'; commits there: abcd1234" in said


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ({"threads": 8}, "They differ in threads (2 against 8)."),
        ({"method": "lanczos"}, "They differ in method (gram against lanczos)."),
        ({"quantity": "memory"}, "They differ in quantity (time against memory)."),
    ],
)
def test_nothing_in_common(make, write, compare, names, why):
    said = compare(write("a", make()), write("b", make(**names)), code=2)
    assert "have no measurement in common." in said
    assert why in said


def test_nothing_in_common_though_each_part_is(make, write, compare):
    a, b = ([make(threads=2, k=k), make(threads=8, k=3 - k)] for k in (1, 2))
    assert "No single parameter tells why." in compare(write("a", *a), write("b", *b), code=2)


def test_an_empty_side(make, write, compare, tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    said = compare(tmp_path / "empty.jsonl", write("b", make()), code=2)
    assert "no records in" in said


def test_the_summary_counts_each_kind(make):
    a = [make(batch_size=size, samples=[1.0] * 3) for size in (8, 16, 32)]
    b = [make(batch_size=8, samples=[0.5] * 3), make(batch_size=16, samples=[2.0] * 3)]
    b.append(make(batch_size=32, status="oom"))
    assert pair_summary(pairs(Side("a", a), Side("b", b))) == [
        "Time: B / A is 1.25x (median; 0.500x to 2.00x), 1 better, 1 worse, 1 lost, "
        "of 3 in common."
    ]


def test_text_for_the_terminal():
    shown = pd.DataFrame({"Name": ["a", "bcd"], "A": ["1 s", "10.0 s"]})
    assert as_text(shown, ["A"]).splitlines() == ["Name       A", "a        1 s", "bcd   10.0 s"]
