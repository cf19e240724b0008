"""Products and leading pairs of transformers, beside those who have products alone."""

from __future__ import annotations

from benchmarks.records.tasks import Computed, Task

MATRIX_FREE_METHODS = {
    Computed.PRODUCT: (
        "gram",
        "matrix_free_product",
        "eigenthings",
        "eigenthings_differences",
        "eigenthings_differences:step=0.05",
        "gradient",
    ),
    Computed.PAIRS: ("gram", "lanczos", "eigenthings", "eigenthings_differences", "gradient"),
}
"""Of products, finite differences with their own step and with a longer one, too."""

MATRIX_FREE_POINTS = tuple(
    (problem, size, task)
    for problem, size, k in (("language_model", 4, 3), ("vision_transformer", 64, 10))
    for task in (Task(Computed.PRODUCT), Task.leading(k))
)
"""Problem, batch size and task."""
