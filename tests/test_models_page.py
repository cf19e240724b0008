"""The page on models is true: its examples run as written."""

import re
import warnings
from pathlib import Path

import pytest
from torchvision_mended import mend_if_broken

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "models.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
FIRST, OWN = 0, 3
"""The first example, which all others begin with, and how many need nothing but torch."""


def run(*examples):
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks for what transformers renamed
        for example in examples:
            exec(compile(example, "models.md", "exec"), names)


SAID = ["EigenPairs(values=[3] from", "DirectionalDerivatives(", "DirectionalDerivatives("]
"""By these."""


@pytest.mark.parametrize("i", range(OWN))
def test_examples(i, capsys):
    run(*dict.fromkeys([EXAMPLES[FIRST], EXAMPLES[i]]))
    assert SAID[i] in capsys.readouterr().out


def test_examples_of_libraries(capsys):
    """One after the other, as they stand."""
    mend_if_broken()
    for name in ("transformers", "peft", "timm"):
        try:
            __import__(name)
        except (ImportError, RuntimeError) as error:
            pytest.skip(f"{name} of the extra models cannot be imported: {error}")
    run(EXAMPLES[FIRST], *EXAMPLES[OWN:])
    assert capsys.readouterr().out.count("EigenPairs(values=[3] from") == 5
