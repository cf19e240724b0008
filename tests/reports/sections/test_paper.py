"""Published figures beside ours."""

import pandas as pd
import pytest

from reports.sections.paper import paper_table
from reports.sources.published import FOLDER

RUN = {"problem": "cifar10_3c3d", "batch_size": 128, "data": "synthetic"}


def published(file, **where):
    table = pd.read_csv(FOLDER / file)
    for name, value in where.items():
        table = table[table[name] == value]
    return table


def test_run_times(make, tabulate):
    leading = {"suite": "leading", "computed": "eigenpairs", "k": 10, **RUN}
    table = paper_table(
        tabulate(
            make("gram", "time", [2.0], **leading),
            make("original", "time", [7.0], **leading),
            make("original_lean", "time", [5.0], **leading),
            make("gram", "time", [2.0], **{**leading, "batch_size": 17}),
            make("gram", "time", [2.0], **{**leading, "problem": "digits_mlp"}),
        )
    )
    (row,), (raw,) = table.shown.to_dict("records"), table.raw.to_dict("records")
    assert (row["vivit here"], row["original here"]) == ("2.00 s", "5.00 s")
    exact = published(
        "runtime_eigenpairs.csv",
        problem="cifar10_3c3d",
        grouping="one_group",
        method="full_batch_exact",
        k=10,
    ).set_index("device")["min_s"]
    assert raw == exact.to_dict()


def test_critical_batch_sizes(make, tabulate):
    found = {
        "suite": "critical",
        "quantity": "critical_batch_size",
        "computed": "newton_step",
        "approximation": "monte_carlo",
        "budget": 2**30,
        **{**RUN, "batch_size": None},
    }
    table = paper_table(tabulate(make("gram", samples=[1000.0], **found)))
    (row,), (raw,) = table.shown.to_dict("records"), table.raw.to_dict("records")
    assert (row["Budget"], row["vivit here"], row["original here"]) == ("1.00 GiB", "1000", "—")
    exact = published(
        "critical_batch_size.csv",
        problem="cifar10_3c3d",
        grouping="one_group",
        quantity="newton_step",
        approximation="full_batch_mc",
    ).set_index("device")["n_crit"]
    assert raw == exact.to_dict()
    assert row["Published: CPU"] == str(exact["cpu"])


@pytest.mark.parametrize(
    "changes",
    [{"computed": "gram_matrix"}, {"grouping": "parameter", "computed": "eigenpairs", "k": 1}],
)
def test_what_was_not_published_has_no_row(make, tabulate, changes):
    assert not len(paper_table(tabulate(make("gram", **{**RUN, **changes}))).shown)


def test_without_a_measurement_of_ours_there_is_no_row(make, tabulate):
    """As in a run of the drop-in computations alone."""
    assert not len(paper_table(tabulate(make("drop_in", **RUN))).shown)
