"""Names and numbers as people read them."""

import pytest

from benchmarks.grid.suites import SUITES
from benchmarks.methods import METHODS
from reports.words import labels, units
from reports.words.hints import hint


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (units.seconds, 12.34, "12.3 s"),
        (units.seconds, 0.0123, "12.3 ms"),
        (units.seconds, 0.99996, "1.00 s"),
        (units.seconds, 4.2e-5, "42.0 µs"),
        (units.seconds, 0.0, "0.00 µs"),
        (units.size, 512.0, "512 B"),
        (units.size, 1.5 * 2**20, "1.50 MiB"),
        (units.size, 3 * 2**30, "3.00 GiB"),
        (units.error, 1.234e-7, "1.2e-07"),
        (units.error, 0.0, "0"),
        (units.significant, 999.6, "1,000"),
        (units.significant, 0.01234, "0.0123"),
        (units.tick_seconds, 0.1, "100 ms"),
        (units.tick_size, 2.0**28, "256 MiB"),
    ],
)
def test_units(function, value, text):
    assert function(value) == text


@pytest.mark.parametrize(
    ("problem", "data", "label"),
    [
        ("digits_mlp", "real", "digits MLP"),
        ("cifar10_3c3d", "synthetic", "CIFAR-10 3c3d (synthetic data)"),
        ("brand_new", "synthetic", "brand new (synthetic data)"),
        ("digits_mlp", "", "digits MLP (data source not recorded)"),
    ],
)
def test_problem_labels(problem, data, label):
    assert labels.problem_label(problem, data) == label


def test_names_are_those_of_the_harness():
    assert labels.method_label("gram") == METHODS["gram"].label.name
    assert labels.short_method_label("gram") == METHODS["gram"].label.short
    assert labels.method_description("gram") == METHODS["gram"].description
    assert labels.suite_label("engine") == SUITES["engine"].label.name
    assert labels.suite_description("engine") == SUITES["engine"].description
    assert labels.sorted_methods([*METHODS][::-1]) == list(METHODS)


def test_what_the_harness_does_not_know_has_a_name_and_no_description():
    assert labels.method_label("brand_new") == "brand new"
    assert labels.method_description("brand_new") == labels.suite_description("brand_new") == ""
    assert labels.suite_label("brand_new") == "brand new"
    assert labels.task_label("brand_new", None, {"computed": "something_else"}) == "something else"


def test_the_reference_has_a_name():
    assert labels.method_label("reference") == labels.suite_label("reference")
    assert labels.method_description("reference").endswith("the ground truth")
    assert labels.suite_description("reference").startswith("spectra in double precision")


def test_settings_are_said_and_sorted_by_value():
    coarse, fine = (f"power_iteration:tolerance={value}" for value in ("0.1", "1e-05"))
    assert labels.method_label(coarse) == "power iteration, tolerance 0.1"
    assert labels.short_method_label("lobpcg:most_iterations=5,tolerance=0.1") == (
        "LOBPCG, most iterations 5, tolerance 0.1"
    )
    said = labels.method_description(fine)
    assert said.startswith(METHODS["power_iteration"].description + "; ")
    assert "tolerance 1e-05, most iterations" in said
    ordered = ["power_iteration", fine, coarse, "lanczos", "reference", "a:b", "unknown"]
    assert labels.sorted_methods(reversed(ordered)) == ordered


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("Batch", "Number of samples in the mini-batch"),
        ("Time vs naive Gram", METHODS["naive_gram"].description),
        ("Memory vs something new", ""),
        ("Outcome", ""),
    ],
)
def test_headings_of_columns_are_explained(column, text):
    assert hint(column) == text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (units.seconds(0.0123), 0.0123),
        (units.seconds(12.0), 12.0),
        (units.seconds(1.5e-6), 1.5e-6),
        (units.size(3 * 2**20), 3 * 2**20),
        (units.size(1540 * 2**30), 1540 * 2**30),
        (units.size(12), 12),
        (units.factor(1230.0), 1230),
        (units.count(895_210), 895_000),
        (units.count(128), 128),
        (units.error(4.2e-7), 4.2e-7),
        ("2.00x faster [1]", 2.0),
        ("4.00x slower", 0.25),
        ("4.00x more", 0.25),
        ("3.00x (1.00x to 4.00x)", 3.0),
        ("worse, 1.100x (abc)", 1.1),
        ("30.0 gradients", 30.0),
        ("8 to 128", 8),
        ("5%", 0.05),
        ("out of memory [1]", None),
        (units.NOTHING, None),
        ("N^1.9", None),
    ],
)
def test_texts_are_sorted_by_their_number(text, number):
    assert units.amount(text) == (number if number is None else pytest.approx(number))
