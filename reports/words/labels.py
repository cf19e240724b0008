"""Plain names and descriptions of what the records name by identifiers.

An identifier that is not listed appears under a name made from the identifier itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmarks.records.record import Quantity, Status

OURS = "gram"
YARDSTICK = "gradient"
REFERENCE = "reference"
MISSING = "missing"


@dataclass(frozen=True)
class Entry:
    """How an identifier appears.

    Attributes:
        label: Its name.
        short: Its name where space is scarce.
        description: One line of explanation; may be empty.
    """

    label: str
    short: str
    description: str = ""


METHODS = {
    OURS: Entry(
        "vivit (Gram)",
        "vivit",
        "this library: the exact Gram matrix of the low-rank factor V, summed up layer by layer "
        "without storing V as a whole, then decomposed",
    ),
    "drop_in": Entry(
        "vivit in BackPACK",
        "vivit in BackPACK",
        "this library under the interface of vivit-for-pytorch 1.0.0, in BackPACK's backward pass",
    ),
    "naive_gram": Entry(
        "naive Gram (BackPACK, V stored)",
        "naive Gram",
        "the same Gram matrix from BackPACK's SqrtGGNExact, with the whole factor V in memory",
    ),
    "power_iteration": Entry(
        "power iteration",
        "power iteration",
        "repeated products of the matrix-free GGN with a vector, one eigenpair after the other, "
        "until they converge",
    ),
    "lanczos": Entry(
        "Lanczos (scipy, curvlinops)",
        "Lanczos",
        "scipy's eigsh with a tolerance of 1e-3 on curvlinops' matrix-free GGN",
    ),
    "gram_power_iteration": Entry(
        "power iteration on the Gram matrix",
        "power iteration, Gram",
        "the same iteration on this library's Gram matrix instead of the GGN",
    ),
    "lobpcg": Entry(
        "LOBPCG (scipy, curvlinops)",
        "LOBPCG",
        "scipy's lobpcg with a tolerance of 1e-3 on curvlinops' matrix-free GGN",
    ),
    "quadrature": Entry(
        "stochastic Lanczos quadrature (curvlinops)",
        "Lanczos quadrature",
        "100 Lanczos steps from one random vector: Ritz values and weights for the density",
    ),
    "kfac_expand": Entry(
        "K-FAC expand (curvlinops)",
        "K-FAC expand",
        "Kronecker factors of linear layers and convolutions, their damped inverses, and the "
        "gradient times these",
    ),
    "kfac_reduce": Entry(
        "K-FAC reduce (curvlinops)",
        "K-FAC reduce",
        "the same with shared positions summed up before the factors are formed",
    ),
    "original": Entry(
        "vivit-for-pytorch 1.0.0",
        "original",
        "the package that this library succeeds, as shipped but for what current PyTorch needs",
    ),
    "original_lean": Entry(
        "vivit-for-pytorch 1.0.0, lean",
        "original, lean",
        "the same inside BackPACK's weight_jac_t_save_memory(True)",
    ),
    YARDSTICK: Entry(
        "gradient",
        "gradient",
        "one plain mini-batch gradient; computes no curvature and serves as the yardstick",
    ),
    "backpropagation": Entry(
        "backpropagation of S",
        "backpropagation",
        "yardstick: the columns of the loss Hessian's factor sent back, and nothing else",
    ),
    "matrix_product": Entry(
        "matrix products",
        "matrix products",
        "yardstick: large matrix products with as many flops as the cheapest contractions of the "
        "Gram matrix, and nothing else",
    ),
    "matrix_memory": Entry(
        "memory of the matrices",
        "matrices",
        "yardstick: memory for the Gram matrix and for what its eigensolver holds beside it, and "
        "nothing else",
    ),
    REFERENCE: Entry(
        "float64 reference", "reference", "all eigenvalues in double precision, the ground truth"
    ),
}

PROBLEMS = {
    "digits_mlp": "digits MLP",
    "digits_cnn": "digits CNN",
    "fmnist_2c2d": "Fashion-MNIST 2c2d",
    "cifar10_3c3d": "CIFAR-10 3c3d",
    "cifar10_resnet32": "CIFAR-10 ResNet-32",
    "cifar10_resnet56": "CIFAR-10 ResNet-56",
    "cifar10_wrn16_4": "CIFAR-10 Wide ResNet 16-4",
    "cifar100_vgg16": "CIFAR-100 VGG-16",
    "tiny_transformer": "small transformer",
    "cifar100_allcnnc": "CIFAR-100 All-CNN-C",
    "mlp_linear": "MLP of linear layers",
}

SUITES = {
    "eigenvalues": Entry("all eigenvalues", "all eigenvalues", "the complete GGN spectrum"),
    "leading": Entry(
        "leading eigenpairs",
        "leading eigenpairs",
        "the k largest eigenvalues together with their eigenvectors",
    ),
    "tolerance": Entry(
        "power iteration's tolerance",
        "tolerance",
        "time against accuracy of leading eigenpairs by power iteration",
    ),
    "derivatives": Entry(
        "directional derivatives",
        "directional derivatives",
        "first and second derivatives per sample along the k leading eigenvectors",
    ),
    "newton": Entry("Newton step", "Newton step", "a damped step along the eigenvectors"),
    "density": Entry(
        "spectral density", "spectral density", "the distribution of all eigenvalues"
    ),
    "preconditioned": Entry(
        "preconditioned gradient",
        "preconditioned gradient",
        "a gradient times the inverse of a Kronecker-factored curvature",
    ),
    "engine": Entry(
        "engine targets",
        "engine",
        "the library's targets: ratios to the original, to Lanczos and to power iteration",
    ),
    "drop_in": Entry(
        "drop-in computations",
        "drop-in",
        "the interface of vivit-for-pytorch 1.0.0: ours against the original",
    ),
    "critical": Entry(
        "critical batch size",
        "critical batch size",
        "the largest batch that fits into a budget of memory",
    ),
    "scaling_batch": Entry(
        "scaling over the batch size", "scaling", "a small CNN, 10 classes, width 16"
    ),
    "scaling_classes": Entry(
        "scaling over the classes", "scaling", "a small CNN, width 16, batch of 32"
    ),
    "scaling_width": Entry(
        "scaling over the width", "scaling", "a small CNN, 10 classes, batch of 32"
    ),
    REFERENCE: Entry(
        "float64 reference",
        "float64 reference",
        "spectra in double precision that the accuracies refer to",
    ),
}

COMPUTED = {
    "": "not recorded",
    "eigenvalues": "all eigenvalues",
    "eigenpairs": "leading eigenpairs",
    "newton_step": "damped Newton step",
    "gram_matrix": "Gram matrix",
    "directional_derivatives": "directional derivatives",
    "spectral_density": "spectral density",
    "preconditioned_gradient": "preconditioned gradient",
}

VARIANTS = {
    ("approximation", "monte_carlo"): "Monte-Carlo (1 sample)",
    ("subset", "eighth"): "first N/8 samples",
    ("grouping", "layer"): "per layer",
    ("grouping", "parameter"): "per parameter",
}
"""Parameters of a record that change what is computed, where they are not the default."""

QUANTITIES = {
    Quantity.TIME.value: Entry("Time", "Time", "wall-clock time of one computation"),
    Quantity.MEMORY.value: Entry(
        "Memory",
        "Memory",
        "peak memory during the computation, above what was in use before it started",
    ),
    Quantity.ACCURACY.value: Entry(
        "Accuracy",
        "Relative error",
        "error against the float64 reference, relative to the largest eigenvalue "
        "(for the gradient: relative to its norm)",
    ),
    Quantity.SPECTRUM.value: Entry("Spectrum", "Spectrum", "the GGN's eigenvalues"),
    Quantity.STEP.value: Entry(
        "Step", "Step", "random projections of the damped Newton step, to compare others with"
    ),
    Quantity.DERIVATIVES.value: Entry(
        "Derivatives", "Derivatives", "directional derivatives, to compare others with"
    ),
    Quantity.PROBE.value: Entry(
        "Probe", "Probe", "whether a batch size fits into a budget, in a process of its own"
    ),
    Quantity.CRITICAL.value: Entry(
        "Critical batch size", "Critical batch size", "the largest batch size that fits"
    ),
}

STATUSES = {
    Status.OUT_OF_MEMORY.value: "out of memory",
    Status.TIMEOUT.value: "timed out",
    Status.SKIPPED.value: "skipped",
    Status.ERROR.value: "failed",
    MISSING: "not measured",
}

DATA = {"real": "", "synthetic": " (synthetic data)"}


def method_label(method: str) -> str:
    """Name of a method."""
    return METHODS[method].label if method in METHODS else _readable(method)


def short_method_label(method: str) -> str:
    """Name of a method where space is scarce."""
    return METHODS[method].short if method in METHODS else _readable(method)


def problem_label(problem: str, data: str) -> str:
    """Name of a problem, saying so if its data is not real.

    Args:
        problem: Identifier of the problem.
        data: ``"real"``, ``"synthetic"``, or empty if not recorded.

    Returns:
        The name.
    """
    unknown = f" ({data} data)" if data else " (data source not recorded)"
    return PROBLEMS.get(problem, _readable(problem)) + DATA.get(data, unknown)


def problem_labels(frame: pd.DataFrame) -> list[str]:
    """Names of the problems of some measurements, row by row."""
    pairs = zip(frame["problem"], frame["data"], strict=True)
    return [problem_label(problem, data) for problem, data in pairs]


def suite_label(suite: str) -> str:
    """Name of a suite."""
    return SUITES[suite].label if suite in SUITES else _readable(suite)


def task_label(suite: str, k: int | None, parameters: Mapping[str, Any] | None = None) -> str:
    """What was computed.

    Args:
        suite: Identifier of the suite.
        k: Number of eigenpairs; None where it has no meaning.
        parameters: Of the record; older ones lack the quantity, which the suite then tells.

    Returns:
        For example "10 leading eigenpairs" or "all eigenvalues, per layer".
    """
    parameters = parameters or {}
    computed = parameters.get("computed")
    variants = [text for (name, value), text in VARIANTS.items() if parameters.get(name) == value]
    if k is not None and (suite == "leading" or computed == "eigenpairs"):
        base = "leading eigenpair (k = 1)" if k == 1 else f"{k} leading eigenpairs"
    elif computed:
        base = COMPUTED.get(computed, _readable(computed))
        base += "" if k is None else f", k = {k}"
    else:
        base = suite_label(suite) if k is None else f"{suite_label(suite)}, k = {k}"
    return ", ".join([base, *variants])


def status_label(status: str) -> str:
    """Name of an outcome that is not a success."""
    return STATUSES.get(status, status)


def rank(identifier: str, known: Iterable[str]) -> tuple[int, str]:
    """Sort key: known identifiers in the order given, then all others by name.

    Args:
        identifier: What to sort.
        known: The identifiers with a place of their own.

    Returns:
        The key.
    """
    order = list(known)
    return (order.index(identifier) if identifier in order else len(order), identifier)


def sorted_methods(methods: Iterable[str]) -> list[str]:
    """Methods in the order of the report, each once."""
    return sorted(set(methods), key=lambda method: rank(method, METHODS))


def titled(title: str, setting: str) -> str:
    """A heading that names the setting, where there are several."""
    return f"{title}: {setting}" if setting else title


def capitalized(text: str) -> str:
    """Text with a capital first letter, and all others as they are."""
    return text[:1].upper() + text[1:]


def slug(text: str) -> str:
    """Text as part of a file name or of an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"


def _readable(identifier: str) -> str:
    return identifier.replace("_", " ") or "unnamed"
