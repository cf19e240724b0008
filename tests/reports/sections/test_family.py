"""The sections with a row for each method: kernels, Fisher, solves, traces, gradients, by hand."""

import pytest

from benchmarks.records.tasks import Computed, Task
from reports.sections import preconditioned
from reports.sections.family import SECTION
from reports.words import units

MIB = 2.0**20
KERNEL = {"suite": "family", **Task(Computed.NTK).parameters}
TRACE = {"suite": "family", **Task(Computed.TRACE).parameters}


@pytest.fixture
def found(make, sources):
    """A kernel by two methods and the yardstick; traces on two problems, one of which failed."""
    return sources(
        make("gram", "time", [1.0, 2.0, 9.0], **KERNEL),
        make("ntk_jacobian", "time", [8.0], **KERNEL),
        make("gradient", "time", [0.1], **KERNEL),
        make("gram", "memory", [10 * MIB], **KERNEL),
        make("ntk_jacobian", "memory", [5 * MIB], **KERNEL),
        make("gram", "accuracy", [1e-7], **KERNEL),
        make("ntk_jacobian", "accuracy", [0.0], **KERNEL),
        make("gram", "time", [1.0], **TRACE),
        make("gram", "accuracy", [2e-7], **TRACE),
        make("skerch_trace", "time", [0.5], **TRACE),
        make("skerch_trace", "accuracy", [0.03], **TRACE),
        make("gram", "time", [1.0], problem="digits_cnn", **TRACE),
        make("skerch_trace", "time", status="oom", reason="4 GiB", problem="digits_cnn", **TRACE),
    )


def test_a_row_for_each_method(found):
    kernel, trace = SECTION.tables(found)
    assert (kernel.title, trace.title) == ("Neural tangent kernel", "Trace")
    ours, theirs, gradient = kernel.shown.to_dict("records")
    assert ours["Method"] == "vivit (Gram)"
    assert (ours["Time"], ours["to vivit's time"]) == ("2.00 s", "—")
    assert (theirs["Time"], theirs["to vivit's time"]) == ("8.00 s", "4.00x")
    assert (theirs["Memory"], theirs["to vivit's memory"]) == ("5.00 MiB", "0.500x")
    assert (ours["Error"], theirs["Error"], gradient["Error"]) == ("1.0e-07", "0", "—")
    assert gradient["Memory"] == "not measured"
    assert kernel.kinds[1, "to vivit's time"] == "better"
    assert kernel.kinds[1, "to vivit's memory"] == "worse"
    assert kernel.kinds[2, "to vivit's time"] == "plain"
    assert kernel.raw["time ratio"].tolist()[1:] == [4.0, 0.05]
    assert "Frobenius" in kernel.caption


def test_what_failed_says_why(found):
    _, trace = SECTION.tables(found)
    (failed,) = (row for row in trace.shown.to_dict("records") if "memory" in row["Time"])
    assert failed["Time"] == "out of memory [1]"
    assert failed["to vivit's time"] == "—"
    assert trace.notes == ("XTrace (skerch): out of memory: 4 GiB",)


def test_answers_say_how_exact_a_method_is(found):
    kernel, trace = SECTION.answers(found)
    assert kernel.title == "Neural tangent kernel"
    assert kernel.points[0].startswith("Against Jacobian contraction (torch.func): time 4.00x fas")
    assert kernel.points[-1] == "Largest errors: vivit 1.0e-07, Jacobian contraction 0."
    assert "XTrace of skerch 3.0e-02" in trace.points[-1]
    assert "did not finish in 1 of 2 cases" in trace.points[0]


def test_errors_over_time(found):
    """A panel for each result; ours stands at one, the yardstick is left out."""
    (plot,) = SECTION.figures(found)
    kernel, trace = plot.draw().axes
    assert [line.get_label() for line in kernel.lines] == ["vivit", "Jacobian contraction"]
    assert [line.get_xdata().tolist() for line in kernel.lines] == [[1.0], [4.0]]
    assert [line.get_ydata().tolist() for line in kernel.lines] == [[1e-7], [1e-8]]
    assert [line.get_xdata().tolist() for line in trace.lines] == [[1.0], [0.5]]
    assert "XTrace of skerch 0.500x time, error 3.0e-02" in plot.alt


def test_without_ours_there_is_no_ratio(make, sources):
    found = sources(
        make("skerch_trace", "time", [0.5], **TRACE),
        make("skerch_trace", "accuracy", [0.03], **TRACE),
    )
    (table,) = SECTION.tables(found)
    assert table.shown["to vivit's time"].tolist() == ["—"]
    assert SECTION.figures(found) == []


def test_several_numbers_of_pairs_share_a_table(make, sources):
    pairs = [{"suite": "family", **Task.leading(k).parameters} for k in (1, 10)]
    (table,) = SECTION.tables(sources(*(make("gram", "time", **names) for names in pairs)))
    assert table.title == "Leading eigenpair (k = 1) and 10 leading eigenpairs"


def test_products_of_transformers_have_a_figure_of_their_own(make, sources):
    """And share the table of products."""
    product = Task(Computed.PRODUCT).parameters
    found = sources(
        *(
            make(method, quantity, suite=suite, **product)
            for suite in ("family", "matrix_free")
            for method in ("gram", "matrix_free_product")
            for quantity in ("time", "accuracy")
        ),
        make("eigenthings_differences", "time", suite="matrix_free", **product),
    )
    (table,) = SECTION.tables(found)
    assert "finite differences" in table.caption
    assert table.shown["Method"].tolist()[-1] == "hessian-eigenthings, finite differences"
    plots = SECTION.figures(found)
    assert [plot.name for plot in plots] == ["family", "matrix-free"]
    assert plots[1].title == "Error over time: products and leading pairs of transformers"


def test_gradients_times_an_inverse_are_told_without_a_method_of_ours(make, sources):
    """Times, memory and errors of the others; a ratio to ours there is not."""
    made = [
        make(method, quantity, [value], suite="preconditioned")
        for method, value in (("kfac_expand", 2.0), ("gradient", 1.0))
        for quantity in ("time", "memory", "accuracy")
    ]
    (table,) = preconditioned.SECTION.tables(sources(*made))
    shown = table.shown.set_index("Method")
    assert list(shown["Time"]) == ["2.00 s", "1.00 s"]
    assert list(shown["Error"]) == [units.error(2.0), units.error(1.0)]
    assert set(shown["to vivit's time"]) == set(shown["to vivit's memory"]) == {units.NOTHING}
    assert "not measured" not in shown.to_numpy()
