"""How large a batch may be: the published table again."""

from reports.sections.experiments.critical import CriticalSection

SECTION = CriticalSection("critical-batch-eigenpair")
