"""What else the same backward passes give: what is measured of it, and against what."""

from __future__ import annotations

from benchmarks.records.tasks import FAMILY, Computed, Task

FAMILY_METHODS = {
    Computed.NTK: ("gram", "ntk_jacobian", "ntk_products", "gradient"),
    Computed.FISHER: ("gram", "per_sample_gradients", "gradient"),
    Computed.SOLVE: ("gram", "conjugate_gradients", "kfac_expand", "kfac_reduce", "gradient"),
    Computed.TRACE: ("gram", "diagonal_trace", "curvlinops_trace", "skerch_trace", "gradient"),
    Computed.PRODUCT: ("gram", "matrix_free_product", "gradient"),
    Computed.PAIRS: ("gram", "sketched_eigh", "lanczos", "gradient"),
}
"""What people do instead, for each result."""

KERNEL_SIZES = (("digits_cnn", 128), ("cifar10_3c3d", 32), ("fmnist_2c2d", 16), ("mlp_linear", 64))
"""The Jacobians of all samples, which others hold, take two gigabytes at most there."""

NETWORKS = ("digits_cnn", "cifar10_3c3d", "fmnist_2c2d")

POINTS = (
    *((problem, size, Task(Computed.NTK)) for problem, size in KERNEL_SIZES),
    *(
        (problem, 128, task)
        for task in [Task(c) for c in FAMILY if c is not Computed.NTK] + [Task.leading(10)]
        for problem in NETWORKS
    ),
)
"""Problem, batch size and task."""
