"""Everything that a report can be made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from reports.sources import asv, pytest_benchmark, records
from reports.sources.asv import Results
from reports.sources.pytest_benchmark import Run
from reports.sources.records import Measurements


@dataclass(frozen=True)
class Sources:
    """What was found; by default nothing.

    Attributes:
        measurements: Records of the harness that compare methods.
        results: Of asv.
        runs: Of pytest-benchmark, the latest first.
        experiments: Records of published experiments.
    """

    measurements: Measurements = field(default_factory=Measurements)
    results: Results = field(default_factory=lambda: asv.load([]))
    runs: list[Run] = field(default_factory=list)
    experiments: Measurements = field(default_factory=Measurements)

    @property
    def frame(self) -> pd.DataFrame:
        """The measurements of the harness, one per row."""
        return self.measurements.frame

    @property
    def has_commits(self) -> bool:
        """Whether there is anything that asv or pytest-benchmark measured."""
        return bool(len(self.results.frame) or self.runs)

    @classmethod
    def find(cls, paths: Sequence[Path]) -> Sources:
        """Find and read whatever can be shown.

        Args:
            paths: Files of records or of pytest-benchmark, or folders that contain them or asv's.

        Returns:
            What was found, at least something.

        Raises:
            ReportError: There is nothing, or a file that is not understood.
            RecordError: A line is not a record.
        """
        results = asv.load(asv.find_folders(paths))
        found = cls(results=results, runs=pytest_benchmark.find_runs(paths))
        if not records.find_files(paths, required=not found.has_commits):
            return found
        measurements, experiments = records.load(paths)
        return cls(measurements, found.results, found.runs, experiments)

    @property
    def of_experiments(self) -> Sources:
        """The published experiments alone, as what the sections of their page are made from."""
        return Sources(self.experiments)
