"""A torchvision whose operators are of another build of torch, so that it cannot be imported."""

import sys
from types import ModuleType


def mend_if_broken():
    """Let those that import it have what is written in Python; no model needs its operators.

    What fails is the file that says which shapes they give.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        sys.modules.setdefault("torchvision._meta_registrations", ModuleType("none"))
    except ImportError:  # there is none
        pass
