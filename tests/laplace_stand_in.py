"""What a curvature backend of laplace-torch is derived from, where that is not installed."""

import sys
from types import ModuleType

from torch import nn


class GGNInterface:
    """What the base class of laplace-torch 0.3 sets."""

    def __init__(
        self, model, likelihood, subnetwork_indices=None, stochastic=False, num_samples=1
    ):
        self.model, self.subnetwork_indices = model, subnetwork_indices
        self.stochastic, self.num_samples = stochastic, num_samples
        self.params = [p for p in model.parameters() if p.requires_grad]
        is_regression = likelihood == "regression"
        loss = nn.MSELoss if is_regression else nn.CrossEntropyLoss
        self.lossfunc, self.factor = loss(reduction="sum"), 0.5 if is_regression else 1.0


def install(monkeypatch):
    """Let ``laplace.curvature`` be this, unless laplace-torch can be imported."""
    try:
        import laplace  # noqa: F401
    except (ImportError, RuntimeError):  # torchvision may belong to another build of torch
        package, module = ModuleType("laplace"), ModuleType("laplace.curvature")
        module.GGNInterface = GGNInterface
        monkeypatch.setitem(sys.modules, "laplace", package)
        monkeypatch.setitem(sys.modules, "laplace.curvature", module)
