"""Which method for which situation, and which is the best of a case."""

import pytest

from reports.sections import choice
from reports.sections.memory import memory_table
from reports.sections.time import time_table
from reports.tables.best import Leader, leader

SHAPE = {"details": {"num_columns": 288}}


def exact(make, method, seconds, size=None, error=1e-6, **names):
    """A method of a case: its time, memory and error."""
    rows = [make(method, "time", [seconds], **names)]
    rows += [make(method, "accuracy", [error], **names)] if error is not None else []
    return rows + ([make(method, "memory", [size * 2.0**20], **names)] if size else [])


def shown(sources, table=0):
    return choice.SECTION.tables(sources)[table].shown.to_dict("records")


def test_the_table_by_hand(make, sources):
    (row,) = shown(
        sources(
            *exact(make, "gram", 1.0, 10, **SHAPE),
            *exact(make, "original", 3.0, 80, **SHAPE),
            *exact(make, "naive_gram", 2.5, 5, **SHAPE),
        )
    )
    assert row == {
        "You want": "all eigenvalues",
        "C": "9",
        "N": "32",
        "D": "1.00 k",
        "Cases": "1",
        "Fastest": "vivit",
        "Faster by": "2.50x",
        "Least memory": "naive Gram",
        "Less by": "2.00x",
    }


@pytest.mark.parametrize(
    ("rival", "error"),
    [
        ("original", 2e-3),  # another result
        ("original", None),  # nobody has looked
        ("drop_in", 1e-6),  # vivit itself
        ("gradient", 0.0),  # a yardstick
    ],
)
def test_what_is_no_rival_is_left_out(make, sources, rival, error):
    found = sources(*exact(make, "gram", 1.0), *exact(make, rival, 0.5, error=error))
    assert not choice.SECTION.needs(found)


def test_all_may_be_as_inexact_as_the_best(make, sources):
    rows = [exact(make, "gram", 1.0, error=5e-3), exact(make, "original", 3.0, error=8e-3)]
    assert [row["Faster by"] for row in shown(sources(*rows[0], *rows[1]))] == ["3.00x"]


def test_methods_that_only_failed_are_no_choice(make, sources):
    found = sources(*exact(make, "gram", 1.0), make("original", status="oom"))
    assert not choice.SECTION.needs(found)


def test_cases_of_a_kind_share_a_row(make, sources):
    small, large = ({"num_parameters": count} for count in (1_000, 200_000))
    pairs = [(1.0, 4.0, 64, large), (2.0, 1.0, 128, large), (1.0, 2.0, 256, large)]
    pairs.append((1.0, 9.0, 8, small))
    rows = [
        row
        for ours, theirs, size, details in pairs
        for method, time in (("gram", ours), ("original", theirs))
        for row in exact(
            make, method, time, batch_size=size, details=details, problem=str(details)
        )
    ]
    small, large = sorted(shown(sources(*rows)), key=lambda row: row["Cases"])
    assert (small["N"], small["Faster by"]) == ("8", "9.00x")
    assert (large["N"], large["D"]) == ("64 to 256", "200 k")
    assert large["Fastest"] == "vivit (2 of 3)"
    assert large["Faster by"] == "2.00x (0.500x to 4.00x)"


def test_a_situation_counts_once(make, sources):
    """In the environment with most methods, never across environments."""
    names = ("gram", "original", "naive_gram")
    rows = [x for i, name in enumerate(names) for x in exact(make, name, 1.0 + i, commit="a")]
    rows += [x for name in names[:2] for x in exact(make, name, 9.0, commit="b")]
    (row,) = shown(sources(*rows))
    assert (row["Cases"], row["Fastest"], row["Faster by"]) == ("1", "vivit", "2.00x")


def test_batches_by_memory(make, sources):
    sizes = {"quantity": "critical_batch_size", "suite": "critical"}
    rows = [
        make(method, samples=[size], budget=budget, **sizes)
        for budget in (2**29, 2**30)
        for method, size in (("gram", budget / 2**24), ("original", 16.0), ("matrix_memory", 1e6))
    ]
    assert shown(sources(*rows)) == [
        {
            "You want": "critical batch size",
            "Memory": memory,
            "Cases": "1",
            "Largest batch": "vivit",
            "Larger by": factor,
        }
        for memory, factor in (("512 MiB", "2.00x"), ("1.00 GiB", "4.00x"))
    ]


@pytest.mark.parametrize(
    ("cases", "expected"),
    [
        ([], None),
        ([{"gram": 1.0}], None),
        ([{"gram": 1.0, "drop_in": 2.0}], None),
        ([{"gram": 1.0, "drop_in": 2.0, "lanczos": 3.0}], Leader("gram", 1, 1, (3.0,))),
        ([{"drop_in": 1.0, "gram": 2.0, "lanczos": 3.0}], Leader("drop_in", 1, 1, (3.0,))),
        ([{"lanczos": 2.0, "gram": 4.0}], Leader("lanczos", 1, 1, (2.0,))),
        (
            [{"lanczos": 2.0, "gram": 4.0}, {"lanczos": 4.0, "gram": 2.0}],
            Leader("gram", 1, 2, (0.5, 2.0)),
        ),
    ],
)
def test_leaders_by_hand(cases, expected):
    assert leader(cases) == expected


def test_the_best_of_a_case_is_marked(make, tabulate):
    frame = tabulate(
        *exact(make, "gram", 1.0, 10),
        *exact(make, "original", 3.0, 5),
        *exact(make, "power_iteration", 0.5, 1, error=0.1),
        *exact(make, "gradient", 0.1, 1),
        *exact(make, "gram", 1.0, 10, batch_size=64),
    )
    for table, best in ((time_table(frame), "vivit"), (memory_table(frame), "original")):
        marked = [row for (row, column), kind in table.kinds.items() if kind == "best"]
        assert [table.shown["Method"][row] for row in marked] == [
            {"vivit": "vivit (Gram)", "original": "vivit-for-pytorch 1.0.0"}[best]
        ]
        assert all(column == "Median" for _, column in table.kinds)
