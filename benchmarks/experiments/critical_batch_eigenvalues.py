"""How large a batch may be for all eigenvalues of the GGN."""

from benchmarks.experiments.critical import CriticalBatchSize
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed


class CriticalBatchEigenvalues(CriticalBatchSize):
    """The published experiment of that name."""

    name = "critical-batch-eigenvalues"
    label = Label("critical batch size: all eigenvalues")
    description = "how large may a batch be for all eigenvalues of the GGN?"
    published = (
        "five networks on an RTX 2080 Ti (11 GiB), four of them on a CPU (31 GiB); exact or one "
        "Monte-Carlo sample, all samples or the first eighth; the whole network or layer by layer"
    )
    computed = Computed.EIGENVALUES


EXPERIMENT = CriticalBatchEigenvalues()
