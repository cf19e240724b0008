"""Shards of a grid as an array of jobs, on a SLURM cluster or on this machine, by submitit.

submitit rather than Dask: a shard needs nothing but a node, a time limit and a file of its own, so
there is no scheduler to keep alive beside the cluster's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.records.names import unknown
from benchmarks.records.record import merge
from benchmarks.run.process import ROOT

INSTALL = (
    "Submitting needs the extra cluster: python -m pip install -c constraints.txt "
    '-e ".[bench,cluster]"'
)


class SettingError(ValueError):
    """A setting that submitit does not take."""


class JobsError(RuntimeError):
    """Jobs failed."""


@dataclass(frozen=True)
class Cluster:
    """Where jobs run.

    Attributes:
        kind: ``slurm`` or ``local``.
        minutes: Time limit of a job.
        settings: Further ones of submitit, such as ``slurm_partition``.
    """

    kind: str
    minutes: int
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, Any]:
        """As submitit names them; times are no use on a node that others share."""
        alone = {"slurm_exclusive": True} if self.kind == "slurm" else {}
        return {"timeout_min": self.minutes, **alone, **self.settings}


def submit(arguments: Sequence[str], shards: int, output: Path, cluster: Cluster) -> list[Any]:
    """Start one job for each shard, each on a node of its own; here, one job for all of them.

    Each shard appends to a file of its own, next to the output; a job that is submitted again goes
    on where its last one stopped.

    Args:
        arguments: Of ``python -m benchmarks run``, without shard and output.
        shards: How many.
        output: Where all records are to be in the end, by `collect`.
        cluster: Where to run.

    Returns:
        submitit's jobs.

    Raises:
        ImportError: submitit is not installed.
        SettingError: It does not know a setting.
    """
    try:
        import submitit
    except ImportError as error:
        raise ImportError(INSTALL) from error
    folder = output.parent / f"{output.stem}_jobs"
    folder.mkdir(parents=True, exist_ok=True)
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster.kind)
    try:
        executor.update_parameters(**cluster.parameters)
    except (NameError, AssertionError) as error:
        shared = submitit.AutoExecutor._typed_parameters()
        of_slurm = (f"slurm_{name}" for name in submitit.SlurmExecutor._valid_parameters())
        known = [*shared, *of_slurm]
        wrong = [name for name in cluster.settings if name not in known]
        said = [unknown("setting", name, known) for name in wrong] or [str(error)]
        raise SettingError(" ".join(said)) from error
    commands = [
        [*arguments, "--shard", f"{i}/{shards}", "--output", str(file)]
        for i, file in enumerate(shard_files(output, shards), start=1)
    ]
    if cluster.kind == "local":  # one after the other, or they would be timed beside each other
        return [executor.submit(run_shards, commands)]
    return executor.map_array(run_shards, [[command] for command in commands])


def shard_files(output: Path, shards: int) -> list[Path]:
    """The file of each shard.

    Args:
        output: Where all records are to be in the end.
        shards: How many there are.

    Returns:
        Absolute paths, next to the output.
    """
    folder, width = output.resolve().parent, len(str(shards))
    return [folder / f"{output.stem}.{i:0{width}}.jsonl" for i in range(1, shards + 1)]


def run_shards(commands: list[list[str]]) -> None:
    """What a job does.

    Args:
        commands: Arguments of ``python -m benchmarks run``, one after the other.

    Raises:
        CalledProcessError: A run failed; its output is in the job's log.
    """
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    for arguments in commands:
        command = [sys.executable, "-m", "benchmarks", "run", *arguments]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True)


def collect(output: Path, shards: int, jobs: Sequence[Any]) -> int:
    """Wait for all jobs, and join what they measured.

    Args:
        output: File to append to.
        shards: How many there are.
        jobs: What `submit` returned.

    Returns:
        Number of records that were added.

    Raises:
        JobsError: Jobs failed; the records of the others are there all the same.
    """
    try:
        errors = {job.job_id: job.exception() for job in jobs}
    except KeyboardInterrupt:
        for job in jobs:
            job.cancel()
        raise
    added = merge(output, [file for file in shard_files(output, shards) if file.exists()])
    failed = {job: error for job, error in errors.items() if error is not None}
    if failed:
        job, error = next(iter(failed.items()))
        raise JobsError(
            f"{len(failed)} of {len(jobs)} jobs failed, {', '.join(failed)}; their logs are in "
            f"{output.parent / f'{output.stem}_jobs'}. The first, {job}: {error}"
        )
    return added
