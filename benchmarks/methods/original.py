"""The original, vivit-for-pytorch 1.0.0, in an environment of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from backpack.core.derivatives.convnd import weight_jac_t_save_memory
from torch import Tensor

from benchmarks.methods.computations import Computations
from benchmarks.records.label import Label

PACKAGE, VERSION = "vivit-for-pytorch", "1.0.0"
OURS = Path(__file__).resolve().parents[2] / "vivit"
"""The library of this repository, which has the same import name."""

SHIM = (
    "Tensor.symeig, which torch has removed, is given back through torch.linalg.eigh, or "
    "torch.linalg.eigvalsh where no vectors are asked for"
)


class Original(Computations):
    """The original, as shipped or in its lean setting."""

    is_peer = True

    def __init__(self, lean: bool) -> None:
        """Choose the setting.

        Args:
            lean: Compute convolutions inside BackPACK's ``weight_jac_t_save_memory(True)``; else
                everything is as shipped.
        """
        self._lean = lean
        self.name = "original_lean" if lean else "original"
        title = f"{PACKAGE} {VERSION}"
        if lean:
            self.label = Label(f"{title}, lean", "original, lean")
            self.description = "the same inside BackPACK's weight_jac_t_save_memory(True)"
            return
        self.label = Label(title, "original")
        self.description = (
            "the package that this library succeeds, as shipped but for what current PyTorch "
            "needs; in the tox environment peer"
        )

    def package(self) -> Any:
        """The original, with what it needs of torch."""
        package = original_package()
        torch.Tensor.symeig = symeig  # type: ignore[method-assign]
        return package

    def details(self, notes: Sequence[str]) -> dict[str, Any]:
        """Versions and shims."""
        return {"package": _versions(), "shims": [SHIM, *notes]}

    def setting(self) -> AbstractContextManager[Any]:
        """As shipped or lean."""
        return weight_jac_t_save_memory(True) if self._lean else nullcontext()


def original_package() -> Any:
    """The installed original.

    Returns:
        The module ``vivit``.

    Raises:
        RuntimeError: What is imported under that name is something else.
    """
    try:
        found = version(PACKAGE)
    except PackageNotFoundError:
        found = "none"
    package = import_module("vivit")
    place = Path(str(package.__file__)).resolve().parent
    if found != VERSION or place == OURS:
        whose = "this repository's library" if place == OURS else "another module"
        raise RuntimeError(
            f"Expected {PACKAGE} {VERSION} under the name vivit, got {whose} (installed version "
            f"of the package: {found}). Peers run in the environment that tox run -e peer "
            "--notest makes."
        )
    return package


def symeig(self: Tensor, eigenvectors: bool = False, upper: bool = True) -> tuple[Tensor, Tensor]:
    """What ``Tensor.symeig`` was.

    Args:
        self: Symmetric, shape ``[M, M]``.
        eigenvectors: Whether to compute them.
        upper: Which triangle to read.

    Returns:
        Eigenvalues in ascending order, and eigenvectors as columns; or an empty tensor.
    """
    triangle = "U" if upper else "L"
    if not eigenvectors:
        return torch.linalg.eigvalsh(self, UPLO=triangle), self.new_empty(0)
    values, vectors = torch.linalg.eigh(self, UPLO=triangle)
    return values, vectors


def _versions() -> dict[str, str]:
    return {name: version(name) for name in (PACKAGE, "backpack-for-pytorch", "torch")}
