"""Tell asv about this machine under a name of one's choice: ``python -m benchmarks.asv.machine``.

``asv machine --yes`` takes the name of the host, which does not belong into a repository, and
with another name it forgets all facts that equal its defaults. asv takes the only machine that it
knows; where it knows several, ``asv run --machine NAME`` says which.
"""

from __future__ import annotations

import os
import platform
import re
from typing import Any

NAME = "VIVIT_MACHINE"
"""Environment variable with the name; by default one is made of processor and cores."""


def main() -> None:
    """Store what asv finds out, but for the kernel's build, where asv looks for it."""
    from asv.machine import Machine, MachineCollection  # not in the environments of asv

    facts = Machine.get_defaults() | {"os": platform.system()}
    name = os.environ.get(NAME) or default_name(facts)
    MachineCollection.save(name, facts | {"machine": name})
    print(f"asv knows this machine as {name}.")


def default_name(facts: dict[str, Any]) -> str:
    """A name that tells kinds of machines apart.

    Args:
        facts: As asv finds them out.

    Returns:
        For example ``amd-epyc-2-cores``.
    """
    cpu = re.sub(r"[^a-z0-9]+", "-", str(facts["cpu"]).lower()).strip("-")
    return f"{cpu or 'unknown'}-{facts['num_cpu']}-cores"


if __name__ == "__main__":
    main()
