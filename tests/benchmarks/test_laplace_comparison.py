"""The comparison of Laplace posteriors, with stand-ins for those of others."""

import pytest
import torch

from benchmarks import laplace_comparison
from benchmarks.laplace_comparison import by_vivit, main, measured

WORDS = ["--problem", "digits_cnn", "--samples", "6", "--tests", "4", "--rounds", "2"]


def test_table(capsys, monkeypatch):
    ways = {"vivit": by_vivit, "the same again": by_vivit}
    monkeypatch.setattr(laplace_comparison, "all_ways", lambda: ways)
    main(WORDS)
    head, _, *rows = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert [row[:5] for row in cells] == [["`digits_cnn`", "1898", "6", "4", way] for way in ways]
    assert cells[0][6] == "1"
    assert len(head.split("|")) == len(rows[0].split("|"))


def test_ways_that_differ():
    def other(instance, tests):
        return by_vivit(instance, tests).flip(0)

    with pytest.raises(RuntimeError, match=r"other and vivit differ by .* in a probability"):
        measured("digits_cnn", {"vivit": by_vivit, "other": other}, 6, 4, 1)


def test_our_way_predicts():
    """Rows are distributions over the ten digits."""
    seen = []

    def noted(instance, tests):
        seen.append(by_vivit(instance, tests))
        return seen[-1]

    measured("digits_cnn", {"vivit": noted}, 6, 4, 1)
    assert seen[0].shape == (4, 10)
    assert torch.allclose(seen[0].sum(dim=1), torch.ones(4))
