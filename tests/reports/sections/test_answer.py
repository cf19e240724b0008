"""The answer on the first page."""

import pytest

from reports.sections import answer


def charts(frame):
    return {chart.name: chart for chart in answer.charts(frame)}


@pytest.fixture
def found(make, sources):
    """Two cases of one rival; what runs on vivit itself, and yardsticks, are none."""
    sizes = {"quantity": "critical_batch_size", "suite": "critical", "budget": 2**30}
    return sources(
        make(samples=[1.0]),
        make("original", samples=[4.0]),
        make(samples=[2.0], batch_size=64),
        make("original", samples=[1.0], batch_size=64),
        make("original", status="oom", batch_size=128),
        *(make(name, samples=[8.0]) for name in ("drop_in", "gradient", "gram_power_iteration")),
        make(quantity="memory", samples=[2.0**20]),
        make("original", "memory", samples=[2.0**21]),
        make(samples=[30.0], **sizes),
        make("original", samples=[10.0], **sizes),
        make("naive_gram", samples=[0.0], **sizes),
        make(quantity="accuracy", samples=[1e-6]),
        make("original", "accuracy", samples=[0.0]),
    )


def test_values_of_the_charts(found):
    assert {name: chart.values for name, chart in charts(found.frame).items()} == {
        "time": {"original": [4.0, 0.5]},
        "memory": {"original": [2.0]},
        "batch": {"original": [3.0]},
        "error": {"gram": [1e-6]},
    }


def test_the_sentence(found):
    (words,) = answer.SECTION.words(found)
    assert words.points == (
        "Others take 2.25x the time of vivit (median; vivit is better in 1 of 2 cases); "
        "2.00x its memory (median; vivit is better in 1 of 1 cases); a batch may be 3.00x as "
        "large with vivit (median; vivit is better in 1 of 1 cases); its relative error is "
        "1.0e\u201106 (median; at most 1.0e\u201106).",
        "Measured on Test CPU, 2026-01-01, abc123.",
    )


def test_charts_are_drawn_with_medians_and_alternative_text(found):
    plots = answer.SECTION.figures(found)
    assert [plot.title for plot in plots] == [
        "How much faster?",
        "How much less memory?",
        "How large a batch?",
        "How exact?",
    ]
    assert plots[0].alt == "How much faster? vivit-for-pytorch 1.0.0: 0.500x to 4.00x."
    assert [text.get_text() for text in plots[0].draw().axes[0].texts] == ["2.25x"]


def test_the_setting_with_most_comparisons_is_chosen(make, sources):
    few = [make(samples=[1.0], commit="a"), make("original", samples=[9.0], commit="a")]
    many = [
        make(name, samples=[x], commit="b", batch_size=size)
        for name, x in (("gram", 1.0), ("original", 2.0))
        for size in (8, 16)
    ]
    (words,) = answer.SECTION.words(sources(*few, *many))
    assert "Others take 2.00x" in words.points[0]
    assert words.points[1] == (
        "Measured on Test CPU, 2026-01-01, b, where most was compared; all others are below."
    )


def test_nothing_to_compare(make, sources):
    found = sources(make("reference", "spectrum", suite="reference"))
    (words,) = answer.SECTION.words(found)
    assert words.points == (answer.NOTHING,)
    assert not answer.SECTION.figures(found)
