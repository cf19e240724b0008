"""Names and numbers as people read them."""

import pytest

from reports.words import labels, units


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
