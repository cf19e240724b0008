"""Tell asv about this machine under a name of one's choice: ``python -m benchmarks.asv.machine``.

``asv machine --yes`` takes the name of the host, which does not belong into a repository, and with
another name it forgets all facts that equal its defaults.
"""

from __future__ import annotations

import os
import platform

NAME = "VIVIT_MACHINE"
"""Environment variable with the name."""

DEFAULT = "this-machine"


def main() -> None:
    """Store what asv finds out, but for the kernel's build, in asv's own file in the home folder."""
    from asv.machine import Machine, MachineCollection  # not in the environments of asv

    name = os.environ.get(NAME, DEFAULT)
    facts = Machine.get_defaults() | {"machine": name, "os": platform.system()}
    MachineCollection.save(name, facts)
    print(f"asv knows this machine as {name}.")


if __name__ == "__main__":
    main()
