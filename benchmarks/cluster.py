"""Shards of a grid as an array of jobs, on a SLURM cluster or on this machine, by submitit.

submitit rather than Dask: a shard needs nothing but a node, a time limit and a file of its own, so
there is no scheduler to keep alive beside the cluster's.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.process import ROOT
from benchmarks.records import merge

INSTALL = (
    "Submitting needs the extra cluster: python -m pip install -c constraints.txt "
    '-e ".[bench,cluster]"'
)


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


def submit(arguments: Sequence[str], shards: int, output: Path, cluster: Cluster) -> list[Any]:
    """Start one job for each shard.

    Each appends to a file of its own, next to the output; a job that is submitted again goes on
    where its last one stopped.

    Args:
        arguments: Of ``python -m benchmarks run``, without shard and output.
        shards: How many.
        output: Where all records are to be in the end, by `collect`.
        cluster: Where to run.

    Returns:
        submitit's jobs.

    Raises:
        ImportError: submitit is not installed.
    """
    try:
        import submitit
    except ImportError as error:
        raise ImportError(INSTALL) from error
    folder = output.parent / f"{output.stem}_jobs"
    folder.mkdir(parents=True, exist_ok=True)
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster.kind)
    executor.update_parameters(timeout_min=cluster.minutes, **cluster.settings)
    commands = [
        [*arguments, "--shard", f"{i}/{shards}", "--output", str(file)]
        for i, file in enumerate(shard_files(output, shards), start=1)
    ]
    return executor.map_array(run_shard, commands)


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


def run_shard(arguments: list[str]) -> None:
    """What a job does.

    Args:
        arguments: Of ``python -m benchmarks run``.

    Raises:
        CalledProcessError: The run failed; its output is in the job's log.
    """
    subprocess.run([sys.executable, "-m", "benchmarks", "run", *arguments], cwd=ROOT, check=True)


def collect(output: Path, shards: int, jobs: Sequence[Any]) -> int:
    """Wait for all jobs, and join what they measured.

    Args:
        output: File to append to.
        shards: How many there are.
        jobs: What `submit` returned.

    Returns:
        Number of records that were added.

    Raises:
        RuntimeError: Jobs failed; the records of the others are there all the same.
    """
    errors = {job.job_id: job.exception() for job in jobs}
    added = merge(output, [file for file in shard_files(output, shards) if file.exists()])
    failed = {job: error for job, error in errors.items() if error is not None}
    if failed:
        job, error = next(iter(failed.items()))
        raise RuntimeError(
            f"{len(failed)} of {len(jobs)} jobs failed, {', '.join(failed)}; their logs are in "
            f"{output.parent / f'{output.stem}_jobs'}. The first, {job}: {error}"
        )
    return added
