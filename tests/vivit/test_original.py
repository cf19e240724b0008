"""The interface of vivit-for-pytorch 1.0.0, against the original itself in its environment."""

import subprocess

import original_results
import pytest
import torch

from benchmarks.run.process import PEER_PYTHON

REFUSED = {
    "mlp, bce": "Only scalar-valued predictions are currently supported.",
    "tokens": "expected scalar type Float but found Double",
}
"""What the original says of the problems that it, or BackPACK for it, cannot do."""


@pytest.fixture(scope="module")
def of_the_original(tmp_path_factory):
    if not PEER_PYTHON.exists():
        pytest.skip("needs the original: make its environment by tox run -e peer --notest")
    file = tmp_path_factory.mktemp("original") / "results.pt"
    command = [PEER_PYTHON, "-I", original_results.__file__, file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=file.parent)
    assert done.returncode == 0, done.stderr
    return torch.load(file, weights_only=True)


def has_multiple_eigenvalues(key):
    """The block of the last bias is a multiple of the identity: its directions are arbitrary."""
    return "mse" in key and "; parameter; " in key and "Eigvalsh" not in key


def test_same_results(of_the_original):
    """Directions, and what is derived along them, up to their signs; so without any."""
    found, compared = original_results.results(), 0
    assert found.keys() == of_the_original.keys()
    for key, expected in of_the_original.items():
        if key.partition(";")[0] in REFUSED or has_multiple_eigenvalues(key):
            continue
        assert not isinstance(expected, str), f"{key}: {expected}"
        assert [x.shape for x in found[key]] == [x.shape for x in expected], key
        assert {x.dtype for x in found[key]} == {torch.float64}, key
        for own, original in zip(found[key], expected, strict=True):
            scale = original.abs().max() if original.numel() else 0.0
            assert ((own.abs() - original.abs()).abs() <= 1e-7 * scale).all(), key
            compared += own.numel() > 0
    assert compared > 1000


def test_what_the_original_refuses(of_the_original):
    refused = {
        key.partition(";")[0]: reason
        for key, reason in of_the_original.items()
        if isinstance(reason, str)
    }
    assert refused == REFUSED
