"""Sections of experiments beyond the paper, by hand."""

import numpy as np
import pytest

from reports.sections.experiments import (
    gradient_curvature_variance,
    kfac_step,
    lanczos_spectrum,
    loss_landscape,
)
from reports.sections.experiments.lanczos_spectrum import number_found


def rows(section, found):
    (table,) = section.tables(found)
    assert len(table.shown) == len(table.raw)
    return table.shown.to_dict("records")


@pytest.mark.parametrize(
    "section",
    [
        s.SECTION
        for s in (lanczos_spectrum, loss_landscape, gradient_curvature_variance, kfac_step)
    ],
)
def test_without_records_there_is_nothing(section, sources):
    found = sources()
    assert not len(section.needs(found))
    assert not section.tables(found)
    assert not section.figures(found)
    assert not section.answers(found)


@pytest.fixture
def spectra(make):
    """Mean of the exact spectrum: 4 / 1000."""

    def spectrum(method, samples, epoch=41.0, **details):
        suite = {"suite": "lanczos-spectrum", "quantity": "spectrum", "epoch": epoch}
        return make(method, samples=samples, details=details, **suite)

    return [
        spectrum("gram", [1e-6, 1.0, 3.0]),
        spectrum(
            "lanczos_ggn",
            [-1e-9, 1e-7, 2.9999, 3.0],
            weights=[0.4, 0.55, 0.02, 0.03],
            distances=[0.004, 0.002, 0.008],
        ),
        spectrum("lanczos_hessian", [-0.5, 0.25, 3.5], weights=[0.1, 0.2, 0.7], distances=[0.012]),
        spectrum(
            "diagonal", [6, 2], edges=[1e-4, 1.0, 3.0], above=3, largest=0.5, distances=[0.008]
        ),
    ]


def test_spectra_in_numbers(spectra, sources):
    found = sources(*spectra)
    table = rows(lanczos_spectrum.SECTION, found)
    exact, lanczos, hessian, diagonal = (list(row.values())[3:] for row in table)
    assert exact == ["2", "—", "0.200%", "3.00", "—"]
    assert lanczos == ["—", "1", "5.00%", "3.00", "1.00 (0.500 to 2.00)"]
    assert hessian == ["—", "—", "90.0%", "3.50", "3.00"]
    assert diagonal == ["—", "—", "37.5%", "0.500", "2.00"]
    (answer,) = lanczos_spectrum.SECTION.answers(found)
    assert answer.points == (
        "digits MLP, epoch 41: of 2 eigenvalues above 0.0001, 100 Lanczos steps find 1; their "
        "distance from the exact spectrum, of whose mean nothing but zeros is 1 away, is 1.00.",
    )


def test_spectra_are_drawn_over_the_exact_one(spectra, sources):
    """Stems for Ritz values, negative ones at their size; what failed is left out."""
    (plot,) = lanczos_spectrum.SECTION.figures(sources(*spectra))
    lanczos, hessian, diagonal = plot.draw().axes
    stems, below = lanczos.lines
    assert stems.get_xdata().tolist() == [2.9999, 3.0]
    assert below.get_xdata().tolist() == [1e-4]
    assert below.get_ydata().tolist() == pytest.approx([0.95])
    assert [line.get_label() for line in hessian.lines] == ["Ritz values", "negative (size)"]
    assert hessian.lines[1].get_xdata().tolist() == [0.5]
    assert hessian.lines[1].get_ydata().tolist() == [0.1]
    (step,) = [p for p in diagonal.patches if p.get_label() == "diagonal"]
    np.testing.assert_allclose(step.get_data().values.sum(), 1)
    (plot,) = lanczos_spectrum.SECTION.figures(sources(*spectra[:2]))
    assert [len(axis.lines) for axis in plot.draw().axes] == [2, 0, 0]
    assert not lanczos_spectrum.SECTION.figures(sources(*spectra[1:]))


@pytest.mark.parametrize(
    ("ritz_values", "count"), [([], 0), ([1.0], 1), ([1.0005, 1.0], 1), ([1.0, 1.01, 2.999], 2)]
)
def test_eigenvalues_that_are_found(ritz_values, count):
    """Each once, however many Ritz values lie at it; one that lies at none finds nothing."""
    assert number_found(np.array([1.0, 3.0]), np.array(ritz_values)) == count


def line(make, epoch, index, losses, slope, curvature, accuracy=None):
    details = {
        "steps": [-1.0, 0.0, 1.0],
        "slopes": [slope],
        "curvatures": [curvature],
        "test_loss": [3.0, 3.0, 3.0],
        "train_accuracy": [accuracy] * 3,
        "test_accuracy": [accuracy] * 3,
    }
    suite = {"suite": "loss-landscape", "quantity": "loss", "epoch": epoch, "index": index}
    return make("direction", samples=losses, details=details, **suite)


def test_landscapes_in_numbers(make, sources):
    """The model at -1 and 1 is 2 - 1 + 1 = 2 and 4; the loss is 2 and 5."""
    found = sources(
        line(make, 5.0, 1, [2.0, 2.0, 5.0], 1.0, 2.0),
        line(make, 0.0, 2, [1.0, 2.0, 1.0], 0.0, 2.0, accuracy=0.5),
        line(make, 0.0, 1, [3.0, 2.0, 3.0], 0.0, 2.0, accuracy=0.5),
    )
    first, second, later = rows(loss_landscape.SECTION, found)
    assert [(r["Epoch"], r["Eigenvector"]) for r in (first, second, later)] == [
        ("0", "1"),
        ("0", "2"),
        ("5", "1"),
    ]
    assert (first["Curvature"], first["of the loss"], first["at 1"]) == ("2.00", "2.00", "0.0%")
    assert (second["of the loss"], second["at 1"]) == ("-2.00", "200%")
    assert (later["of the loss"], later["at 1"]) == ("3.00", "10%")
    (plot,) = loss_landscape.SECTION.figures(found)
    axes = plot.draw().axes
    assert [len(axis.lines) for axis in axes] == [5, 2, 0, 3, 0, 0]


def test_planes_are_drawn_beside_the_lines(make, sources):
    details = {
        "steps": [-1.0, 0.0, 1.0],
        "slopes": [0.0, 0.0],
        "curvatures": [2.0, 4.0],
        "test_loss": [1.0] * 9,
        "train_accuracy": [None] * 9,
        "test_accuracy": [None] * 9,
    }
    losses = [4.0, 2.0, 4.0, 3.0, 1.0, 3.0, 4.0, 2.0, 4.0]
    suite = {"suite": "loss-landscape", "quantity": "loss", "epoch": 0.0}
    plane = make("plane", samples=losses, details=details, **suite)
    found = sources(plane, line(make, 0.0, 1, [2.0, 1.0, 2.0], 0.0, 2.0))
    seen = loss_landscape.Seen.of({"samples": losses, "details": details})
    np.testing.assert_allclose(seen.model, seen.losses)
    (plot,) = loss_landscape.SECTION.figures(found)
    assert plot.draw().axes[2].get_xlabel() == "distance along the first direction"


def test_predictions_beside_what_others_show(make, sources):
    def batch(method, curvatures, slopes, variances, epoch=3.0):
        details = {"slope_variances": slopes, "curvature_variances": variances}
        suite = {"suite": "gradient-curvature-variance", "quantity": "curvature"}
        return make(method, samples=curvatures, details=details, epoch=epoch, **suite)

    found = sources(
        batch("gram", [1.0, 2.0], [4.0, 6.0], [1.0, 1.0]),
        batch("mini_batch", [1.0, 1.0], [2.0, 2.0], [0.0, 0.0]),
        batch("gram", [1.0, 2.0], [4.0, 6.0], [1.0, 1.0], epoch=0.0),
    )
    (row,) = rows(gradient_curvature_variance.SECTION, found)
    assert (row["Epoch"], row["Variance of the slope"], row["Curvature"]) == (
        "3",
        "2.50x",
        "1.50x",
    )
    assert row["Variance of the curvature"] == "—"
    (answer,) = gradient_curvature_variance.SECTION.answers(found)
    assert answer.points == (
        "digits MLP: one mini-batch predicts 2.50x the variance of the slope between mini-batches "
        "and 1.50x the curvature (epoch 3).",
    )
    (plot,) = gradient_curvature_variance.SECTION.figures(found)
    deviations, means = plot.draw().axes
    assert deviations.lines[0].get_ydata().tolist() == [2.0, np.sqrt(6.0)]
    assert means.lines[0].get_xdata().tolist() == [1.0, 1.0]


def steps(make, size):
    problem = {"suite": "kfac-step", "problem": "cifar10_wrn16_4", "batch_size": size}
    times = {
        "damped_newton": 8.0,
        "damped_newton_leading": 9.0,
        "kfac_expand": 2.0,
        "kfac_reduce": 1.5,
        "gradient": 0.5,
    }
    angles = {
        "damped_newton_leading": 30.0,
        "kfac_expand": 60.0,
        "kfac_reduce": 61.0,
        "gradient": 88.0,
    }
    return [
        *(make(name, samples=[t], **problem) for name, t in times.items()),
        *(make(name, "angle", samples=[a], **problem) for name, a in angles.items()),
    ]


def test_steps_of_kfac_beside_the_exact_one(make, sources):
    found = sources(*steps(make, 2), *steps(make, 32))
    table = rows(kfac_step.SECTION, found)
    assert len(table) == 10
    by_step = {row["Step"]: row for row in table[5:]}
    assert by_step["K-FAC expand"]["Gradients"] == "4.00x"
    assert by_step["damped Newton"]["Gradients"] == "16.0x"
    assert by_step["damped Newton"]["Angle"] == "—"
    assert by_step["gradient"]["Time"] == "500 ms"
    assert by_step["gradient"]["Memory"] == "—"
    assert by_step["K-FAC reduce"]["Angle"] == "61.0°"
    (answer,) = kfac_step.SECTION.answers(found)
    assert answer.points == (
        "CIFAR-10 Wide ResNet 16-4, batch of 32: the exact damped Newton step takes 8.00 s, a "
        "step of K-FAC expand 2.00 s, 60 degrees away from it; the gradient is 88 degrees away, "
        "a Newton step along 10 eigenvectors (9.00 s) 30.",
    )
    (plot,) = kfac_step.SECTION.figures(found)
    time, _, angle = plot.draw().axes
    assert time.lines[2].get_ydata().tolist() == [4.0, 4.0]
    assert angle.lines[1].get_label() == "Newton along 10"


def test_what_was_not_measured_is_no_answer(make, sources):
    found = sources(*steps(make, 2)[:1])
    assert not kfac_step.SECTION.answers(found)
    row = rows(kfac_step.SECTION, found)[0]
    assert (row["Time"], row["Gradients"], row["Angle"]) == ("8.00 s", "—", "—")
    (plot,) = kfac_step.SECTION.figures(found)
    plot.draw()
