"""Sections of the published experiments, by hand."""

import pytest

from benchmarks.experiments import EXPERIMENTS
from benchmarks.records.record import RecordStore
from benchmarks.records.tasks import Task
from reports.cli import main
from reports.sections.experiments import (
    critical_batch_eigenvalues,
    gram_power,
    learning_rate_grid,
    linear_gram,
    noisy_quadratic,
    power_tolerance,
    runtime_eigenpairs,
    second_order_training,
    spectral_density,
    training_derivatives,
    training_overlap,
)
from reports.sources.sources import Sources

PAIRS = Task.leading(1).parameters
LOSSES = ("mean_loss", "median_loss", "lower_quartile", "upper_quartile")


def rows(section, found):
    (table,) = section.tables(found)
    assert len(table.shown) == len(table.raw)
    return table.shown.to_dict("records")


def test_critical_batch_sizes_stand_beside_the_published(make, sources):
    """Published: 2688 on the CPU, 909 on the GPU, of the exact GGN of 3c3d."""
    search = {
        "suite": "critical-batch-eigenvalues",
        "quantity": "critical_batch_size",
        "problem": "cifar10_3c3d",
        "data": "synthetic",
        "batch_size": None,
        "budget": 2**29,
        **Task().parameters,
    }
    found = sources(
        make("gram", samples=[30.0], **search),
        make("original", samples=[2.0], **search),
        make("original_lean", samples=[11.0], **search),
        make("gram", samples=[240.0], **search | {"approximation": "monte_carlo"}),
    )
    exact, sampled = rows(critical_batch_eigenvalues.SECTION, found)
    assert (exact["vivit here"], exact["original here"]) == ("30", "11")
    assert (exact["Published: CPU"], exact["Published: GPU"]) == ("2688", "909")
    assert (sampled["Loss Hessian"], sampled["vivit here"]) == ("Monte-Carlo", "240")
    assert sampled["original here"] == "—"
    (answer,) = critical_batch_eigenvalues.SECTION.answers(found)
    assert answer.points == (
        "CIFAR-10 3c3d (synthetic data), 512 MiB: a batch of 30 samples, of the original 11.",
    )


def test_run_times_stand_beside_the_published(make, sources):
    pairs = {
        "suite": "runtime-eigenpairs",
        "problem": "cifar10_3c3d",
        "batch_size": 128,
        "k": 1,
        **PAIRS,
    }
    found = sources(
        make("gram", samples=[2.0], **pairs),
        make("power_iteration", samples=[5.0], **pairs),
        make("gram", samples=[0.5], **pairs | {"subset": "eighth"}),
    )
    (row,) = rows(runtime_eigenpairs.SECTION, found)
    assert (row["vivit here"], row["power iteration here"], row["Ratio here"]) == (
        "2.00 s",
        "5.00 s",
        "2.50x",
    )
    published = row["vivit published"], row["power iteration published"], row["Ratio published"]
    assert published == ("1.76 s", "1.88 s", "1.07x")
    (answer,) = runtime_eigenpairs.SECTION.answers(found)
    assert answer.points == (
        "CIFAR-10 3c3d, k = 1: power iteration takes 2.50x as long as vivit (published: 1.07x).",
    )
    (plot,) = runtime_eigenpairs.SECTION.figures(found)
    (axis,) = plot.draw().axes
    assert len(axis.lines) == 3 + 5


def test_power_iteration_on_both_matrices(make, sources):
    pairs = {"suite": "gram-power", "problem": "cifar10_3c3d", "k": 1, **PAIRS}
    times = {"gram": 1.0, "gram_power_iteration": 2.0, "power_iteration": 6.0}
    found = sources(*(make(name, samples=[t], **pairs) for name, t in times.items()))
    (row,) = rows(gram_power.SECTION, found)
    assert (row["vivit"], row["on the Gram matrix"], row["on the GGN"]) == (
        "1.00 s",
        "2.00 s",
        "6.00 s",
    )
    assert row["Ratio"] == "3.00x"


def test_time_over_error_of_power_iteration(make, sources):
    pairs = {"suite": "power-tolerance", "problem": "cifar10_3c3d", "k": 1, **PAIRS}
    error = {"quantity": "accuracy", "details": {"mean_error": 0.01}}
    settings = {"settings": {"tolerance": 0.1}}
    found = sources(
        make("gram", samples=[1.0], **pairs),
        make("gram", **pairs | error),
        make("power_iteration", samples=[4.0], **pairs | settings),
        make("power_iteration", **pairs | error | settings),
    )
    (plot,) = power_tolerance.SECTION.figures(found)
    here, published = plot.draw().axes
    assert sorted((*line.get_xdata(), *line.get_ydata()) for line in here.lines) == [
        (0.01, 1.0),
        (0.01, 4.0),
    ]
    assert sum(len(line.get_xdata()) for line in published.lines) == 1 + 21


def test_what_is_added_to_a_gradient(make, sources):
    """Minima, and what is beyond the gradient's."""
    times = {"gradient": [1.0, 2.0], "naive_gram": [9.0, 5.0], "gram": [3.0, 4.0]}
    found = sources(
        *(make(name, samples=t, suite="linear-gram") for name, t in times.items()),
        make("gram", "memory", samples=[2.0**20], suite="linear-gram"),
    )
    gradient, naive, ours = rows(linear_gram.SECTION, found)
    assert (gradient["Beyond the gradient"], gradient["Ratio to the gradient"]) == ("—", "1.00x")
    assert (naive["Beyond the gradient"], naive["Ratio to the gradient"]) == ("4.00 s", "5.00x")
    assert (ours["Time"], ours["Peak memory"]) == ("3.00 s", "1.00 MiB")


def test_ranks_of_spectra(make, sources):
    spectrum = {"suite": "spectral-density", "quantity": "spectrum", **Task().parameters}
    found = sources(
        make(samples=[0.0, 1e-5, 0.5, 2.0], **spectrum),
        make(samples=[3.0], **spectrum | {"approximation": "monte_carlo"}),
    )
    exact, sampled = rows(spectral_density.SECTION, found)
    assert (exact["Parameters"], exact["Nonzero eigenvalues"], exact["Largest"]) == (
        "1,000",
        "2",
        "2.00",
    )
    assert sampled["Approximation"] == "Monte-Carlo, all samples"
    (plot,) = spectral_density.SECTION.figures(found)
    bars = plot.draw().axes[0].patches
    heights = [bar.get_height() for bar in bars if bar.get_height()]
    assert heights == pytest.approx([998 / 1000, 1 / 1000, 1 / 1000])


def test_the_best_learning_rates(make, sources):
    def training(optimizer, rate, accuracies, **details):
        return make(
            optimizer,
            "test_accuracy",
            samples=accuracies,
            suite="learning-rate-grid",
            optimizer=optimizer,
            learning_rate=rate,
            details={"is_accuracy": True, **details},
        )

    found = sources(
        training("sgd", 0.1, [0.1, 0.9, 0.8]),
        training("sgd", 0.01, [0.1, 0.9, 0.7]),
        training("sgd", 1.0, [0.1], diverged=1),
        training("adam", 0.01, [0.1, 0.5]),
    )
    sgd, adam = rows(learning_rate_grid.SECTION, found)
    assert (sgd["Best rate here"], sgd["Accuracy here"]) == ("0.0100", "90.0%")
    assert (sgd["Best rate published"], sgd["Accuracy published"]) == ("0.0631", "89.3%")
    assert (adam["Optimizer"], adam["Accuracy here"]) == ("Adam", "50.0%")


def test_overlaps_of_the_last_checkpoint(make, sources):
    def overlap(method, epoch, value, **parameters):
        return make(
            method,
            "overlap",
            samples=value,
            suite="training-overlap",
            optimizer="sgd",
            epoch=epoch,
            **{"batch_size": None} | parameters,
        )

    found = sources(
        overlap("hessian", 0.0, [0.2]),
        overlap("hessian", 9.0, [0.9]),
        overlap("mini_batch", 9.0, [0.3, 0.5, 0.4], batch_size=2),
        overlap("mini_batch", 9.0, [0.8], batch_size=128),
        overlap("both", 9.0, [0.25]),
    )
    (row,) = rows(training_overlap.SECTION, found)
    assert row["Epoch"] == "9"
    assert (row["Hessian of all data"], row["GGN, batch of 2"], row["both"]) == (
        "0.90",
        "0.40",
        "0.25",
    )
    assert row["Monte-Carlo"] == "—"
    (answer,) = training_overlap.SECTION.answers(found)
    assert answer.points == (
        "Does the GGN share its leading eigenspace with the Hessian after 9 epochs? The overlap "
        "is 0.90.",
        "Does a mini-batch of 128 know that of all data after 9 epochs? The overlap is 0.80.",
    )


@pytest.mark.parametrize(
    ("late", "verdicts"),
    [
        ({}, ["yes", "yes", "yes"]),
        ({"slopes": [0.9, 0.1]}, ["no", "yes", "yes"]),
        ({"curvature_signal_to_noise": [9.0, 9.0]}, ["yes", "no", "yes"]),
        ({"slope_signal_to_noise": [0.1, 2.0]}, ["yes", "yes", "no"]),
        ({"slope_signal_to_noise": [0.1, None]}, ["yes", "yes", "no"]),
    ],
)
def test_claims_are_checked(make, sources, late, verdicts):
    """Of two moments, with one leading direction of two; what does not vary proves nothing."""

    def moment(epoch, **changes):
        details = {
            "outputs": 1,
            "slopes": [0.1, 0.9],
            "slope_signal_to_noise": [0.1, 0.2],
            "curvature_signal_to_noise": [5.0, 10.0 if epoch == 0 else 0.5],
            "squared_gradient": 0.82,
        }
        return make(
            quantity="derivatives",
            samples=[0.5, 2.0],
            suite="training-derivatives",
            epoch=epoch,
            details=details | changes,
        )

    found = sources(moment(0.0), moment(40.0, **late))
    table = rows(training_derivatives.SECTION, found)
    assert [row["Holds"] for row in table] == verdicts
    assert table[0]["First (epoch)"] == "0.988 (0)"
    (answer,) = training_derivatives.SECTION.answers(found)
    assert [point.rpartition("? ")[2] for point in answer.points] == [
        f"{verdict.capitalize()}." for verdict in verdicts
    ]


@pytest.mark.parametrize(("distance", "verdict"), [(1.0, "Yes"), (9.0, "No")])
def test_whether_bootstrap_damping_is_best(make, sources, distance, verdict):
    def optimizer(method, samples):
        details = {name: [5.0, 1.0] for name in LOSSES} | {"dampings_by_step": [[1.0]]}
        return make(method, "distance", samples=samples, suite="noisy-quadratic", details=details)

    found = sources(
        optimizer("bootstrap", [distance]),
        optimizer("damping_1", [2.0, 3.0, 4.0]),
        optimizer("gradient_descent", [100.0]),
    )
    (answer,) = noisy_quadratic.SECTION.answers(found)
    assert f"nearest to the minimum? {verdict}: median distance {distance:.2f}" in answer.points[0]
    assert "the best of the others, damping 1, 3.00." in answer.points[0]
    names = [row["Optimizer"] for row in rows(noisy_quadratic.SECTION, found)]
    assert names == ["bootstrap damping", "damping 1", "gradient descent"]


@pytest.fixture
def second_order(make):
    """A training with 10 steps per epoch; an epoch takes some seconds, a loss that is None ends
    it."""

    def training(optimizer, rate, losses, pace=0.1, accuracy=0.5, **parameters):
        finite = [loss for loss in losses if loss is not None]
        return make(
            optimizer,
            "test_accuracy",
            samples=[0.1] * (len(finite) - 1) + [accuracy],
            suite="second-order-training",
            optimizer=optimizer,
            learning_rate=rate,
            details={
                "is_accuracy": accuracy <= 1,
                "train_loss": finite,
                "seconds": [pace * epoch for epoch in range(len(finite))],
                "steps_per_epoch": 10,
                "diverged": len(finite) if None in losses else None,
            },
            **parameters,
        )

    return training


NEWTON = {"damping": 0.1, "directions": "all"}
LANCZOS = {"damping": 10.0, "iterations": 5, "start": "random"}


def test_the_best_settings_of_second_order_training(second_order, sources):
    """The lowest loss in the end, not on the way; what diverged is none, however low it was."""
    found = sources(
        second_order("newton", 1.0, [2.0, 0.3, 0.2], 3.0, 0.8, **NEWTON),
        second_order("newton", 0.5, [2.0, 0.1, 0.3], 4.0, **NEWTON),
        second_order("newton", 0.5, [2.0, 0.01, None], 4.0, **NEWTON | {"damping": 0.01}),
        second_order("lanczos_newton", 1.0, [2.0, None], **LANCZOS),
        second_order("lanczos_newton", 1.0, [2.0, 1.1, 0.4], 1.0, **LANCZOS | {"damping": 1.0}),
        second_order("sgd", 0.1, [2.0, 1.0, 0.4], 0.1, 0.9),
        second_order("sgd", 1.0, [2.0, 3.0, 9.0]),
    )
    sgd, newton, lanczos = rows(second_order_training.SECTION, found)
    assert list(sgd.values()) == [
        *("digits MLP", "SGD (momentum 0.9)", "learning rate 0.1", "1 of 2"),
        *("0.400", "90.0%", "200 ms", "10.0 ms"),
    ]
    assert list(newton.values()) == [
        *("digits MLP", "Newton (constant damping)", "damping 0.1, all directions", "2 of 3"),
        *("0.200", "80.0%", "6.00 s", "300 ms"),
    ]
    assert (lanczos["Learnt"], lanczos["Best setting"][:10]) == ("1 of 2", "damping 1,")
    (answer,) = second_order_training.SECTION.answers(found)
    assert answer.points == (
        "digits MLP, 20 steps: the lowest training loss with curvature is 0.200 (Newton (constant "
        "damping)), without 0.400 (SGD (momentum 0.9)). A loss of 0.400 takes 10 steps with "
        "curvature, 20 without; and 2.00 s (Lanczos Gauss-Newton), without 200 ms (SGD (momentum "
        "0.9)).",
    )
    (plot,) = second_order_training.SECTION.figures(found)
    steps, seconds = plot.draw().axes
    drawn = [(*line.get_xdata(),) for axis in (steps, seconds) for line in axis.lines]
    assert drawn == [*[(0, 10, 20)] * 3, (0.1, 0.2), (3.0, 6.0), (1.0, 2.0)]


@pytest.mark.parametrize(
    ("rate", "parameters", "text"),
    [
        (1.0, {}, "learning rate 1"),
        (0.5, NEWTON, "damping 0.1, all directions, learning rate 0.5"),
        (0.3, {"directions": "leading"}, "leading directions, learning rate 0.3"),
        (1.0, LANCZOS, "damping 10, 5 products from a random vector"),
        (1.0, LANCZOS | {"start": "gradient"}, "damping 10, 5 products from the gradient"),
    ],
)
def test_settings_in_words(rate, parameters, text):
    found = second_order_training.setting_text({"learning_rate": rate} | parameters)
    assert found == text


def test_second_order_training_without_a_rival_or_classes(second_order, sources):
    """Nothing to compare with: no answer; no classes: no accuracy."""
    found = sources(second_order("newton", 1.0, [2.0, 0.5], accuracy=3.0, **NEWTON))
    (row,) = rows(second_order_training.SECTION, found)
    assert row["Test accuracy"] == "—"
    assert second_order_training.SECTION.answers(found) == []


def test_second_order_training_of_which_nothing_is_left(second_order, sources):
    found = sources(second_order("sgd", 1.0, [2.0, None]), second_order("adam", 1.0, [None]))
    section = second_order_training.SECTION
    assert section.tables(found) == section.figures(found) == section.answers(found) == []


def test_the_largest_run_of_an_experiment_is_shown(make, tmp_path):
    """Figures of several runs are not mixed; what compares methods is on its own page."""
    distance = {"suite": "noisy-quadratic", "quantity": "distance"}
    for folder, count in (("smoke", 1), ("quick", 2)):
        store = RecordStore(tmp_path / folder / "noisy-quadratic.jsonl")
        store.append([make(f"damping_{n}", **distance, runs=count) for n in range(count)])
    reference = {"suite": "reference", "method": "reference", "quantity": "spectrum"}
    runtime = {"suite": "runtime-eigenpairs", "k": 1, **PAIRS}
    RecordStore(tmp_path / "time.jsonl").append([make(**runtime), make(**reference)])
    RecordStore(tmp_path / "compared.jsonl").append([make(), make(**reference, seed=1)])
    found = Sources.find([tmp_path])
    assert {*found.frame["suite"]} == {"eigenvalues", "reference"}
    experiments = found.of_experiments.frame
    assert sorted(experiments["suite"]) == [
        "noisy-quadratic",
        "noisy-quadratic",
        "reference",
        "runtime-eigenpairs",
    ]
    assert found.experiments.left_out == 1


def test_a_single_moment_proves_nothing(make, sources):
    details = {
        "outputs": 1,
        "slopes": [0.9],
        "slope_signal_to_noise": [0.2],
        "curvature_signal_to_noise": [10.0],
        "squared_gradient": 0.81,
    }
    suite = {"quantity": "derivatives", "suite": "training-derivatives", "epoch": 0.0}
    found = sources(make(samples=[2.0], details=details, **suite))
    table = rows(training_derivatives.SECTION, found)
    assert {row["Holds"] for row in table} == {"not known yet"}


def test_what_has_no_classes_has_no_curve(make, sources):
    losses = {"suite": "training-overlap", "quantity": "test_accuracy", "optimizer": "sgd"}
    found = sources(make("sgd", samples=[0.5, 0.1], details={"is_accuracy": False}, **losses))
    assert training_overlap.SECTION.figures(found) == []


@pytest.mark.parametrize(
    ("name", "value"), [("seed", 1), ("device", "cuda"), ("data", "synthetic"), ("threads", 8)]
)
def test_settings_of_one_file_are_not_mixed(make, tmp_path, name, value):
    """Of each experiment the setting with the most results; what failed is none."""
    epochs = {"suite": "training-derivatives", "quantity": "derivatives", "method": "gram"}
    RecordStore(tmp_path / "records.jsonl").append(
        [
            *(make(**epochs, epoch=float(n)) for n in range(3)),
            *(make(**epochs, epoch=float(n), **{name: value}) for n in range(2)),
            *(make(**epochs, epoch=float(n), **{name: value}, status="error") for n in (7, 8, 9)),
        ]
    )
    found = Sources.find([tmp_path])
    assert sorted(p["epoch"] for p in found.of_experiments.frame["parameters"]) == [0, 1, 2]
    assert found.experiments.left_out == 5


def test_a_page_of_experiments_alone(make, tmp_path, capsys):
    store = RecordStore(tmp_path / "records.jsonl")
    store.append([make(suite="linear-gram"), make("gradient", suite="linear-gram")])
    assert main(["--input", str(store.path), "--output", str(tmp_path / "html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "html" / "experiments.html")
    text = (tmp_path / "html" / "experiments.html").read_text()
    assert "python -m benchmarks experiment linear-gram" in text
    assert f"1 of\n{len(EXPERIMENTS)} experiments, 2 records" in text
    assert not (tmp_path / "html" / "index.html").exists()
