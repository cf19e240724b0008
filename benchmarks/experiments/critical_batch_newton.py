"""How large a batch may be for a damped Newton step of the GGN."""

from benchmarks.experiments.critical import CriticalBatchSize
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed


class CriticalBatchNewton(CriticalBatchSize):
    """The published experiment of that name."""

    name = "critical-batch-newton"
    label = Label("critical batch size: damped Newton step")
    description = "how large may a batch be for a damped Newton step?"
    published = (
        "five networks on an RTX 2080 Ti (11 GiB), four of them on a CPU (31 GiB); exact or one "
        "Monte-Carlo sample, all samples or the first eighth; the whole network or layer by layer"
    )
    computed = Computed.NEWTON_STEP


EXPERIMENT = CriticalBatchNewton()
