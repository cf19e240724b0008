"""The measurement of what a monitor costs."""

from dataclasses import replace

import pytest
import torch

from benchmarks import monitor_overhead
from benchmarks.monitor_overhead import VARIANTS, main, train

SIZES = {"--steps": 4, "--samples": 6, "--every": 2, "--rounds": 1, "--problem": "digits_cnn"}
SMALL = [str(word) for option in SIZES.items() for word in option]


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng():
        yield


def test_table(capsys):
    main(SMALL)
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    assert [row[:2] for row in rows] == [["`digits_cnn`", variant] for variant in VARIANTS]
    assert [row[2] for row in rows] == ["0", "2", "1", "2"]
    assert rows[0][4] == "1.000 (1.000 to 1.000)"
    assert len({len(line.split("|")) for line in lines}) == 1


def test_a_training_that_was_changed(monkeypatch):
    def changed(name, options, *others):
        trial = train(name, options, *others)
        return trial if options is None else replace(trial, parameters=[torch.zeros(1)])

    monkeypatch.setattr(monitor_overhead, "train", changed)
    with pytest.raises(RuntimeError, match="changed the training: digits_cnn"):
        main(SMALL)
