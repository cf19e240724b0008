"""Ours in BackPACK against the original."""

from reports.sections.drop_in import drop_in_table

MIB = 2.0**20


def test_the_better_setting_counts_for_each_figure_by_itself(make, tabulate):
    common = {"suite": "drop_in", "computed": "eigenvalues"}
    rows = [
        make("drop_in", "time", [1.0, 2.0, 9.0], **common),
        make("original", "time", [3.0], **common),
        make("original_lean", "time", [4.0], **common),
        make("drop_in", "memory", [10 * MIB], **common),
        make("original", "memory", [80 * MIB], **common),
        make("original_lean", "memory", [9 * MIB], **common),
    ]
    table = drop_in_table(tabulate(*rows))
    (row,) = table.shown.to_dict("records")
    assert (row["vivit: time"], row["original: time"], row["Time ratio"]) == (
        "2.00 s",
        "3.00 s",
        "1.50x",
    )
    assert (row["vivit: memory"], row["Memory ratio"]) == ("10.0 MiB", "0.900x")
    assert (table.kinds[0, "Time ratio"], table.kinds[0, "Memory ratio"]) == ("better", "worse")


def test_what_is_missing(make, tabulate):
    common = {"suite": "drop_in", "computed": "eigenvalues"}
    table = drop_in_table(
        tabulate(
            make("drop_in", "time", [1.0], **common),
            make("original", "time", status="skipped", reason="no environment", **common),
        )
    )
    (row,) = table.shown.to_dict("records")
    assert (row["vivit: time"], row["original: time"], row["Time ratio"]) == ("1.00 s", "—", "—")
    assert not table.kinds
