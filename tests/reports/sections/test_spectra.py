"""The spectra by hand."""

import pytest

from reports.sections import spectra


def test_spectrum_by_hand(make, tabulate):
    record = make("reference", "spectrum", [-1e-17, 1e-16, 0.5, 2.0], suite="reference")
    values = spectra.eigenvalues(tabulate(record))
    assert values["eigenvalue"].tolist() == [2.0, 0.5]
    assert values["rank"].tolist() == [1, 2]
    assert values["weight"].tolist() == [1e-3, 1e-3]


@pytest.mark.parametrize(("samples", "count"), [([0.0], 0), ([1.0], 1), ([1e-3, 1.0], 1)])
def test_small_spectra(make, tabulate, plots, samples, count):
    frame = tabulate(make("reference", "spectrum", samples, suite="reference"), make())
    drawn = [plot.draw() for name, plot in plots(frame).items() if name == "spectra"]
    assert len(drawn) == count
