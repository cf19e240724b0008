"""Shards as jobs, on this machine."""

import sys

import pytest

from benchmarks import cli
from benchmarks.records.record import RecordStore, Status
from benchmarks.run.cluster import Cluster, JobsError, shard_files, submit

RUN = ["--profile", "smoke", "--method", "gradient", "--repeats", "1", "--threads", "1"]


def test_jobs_and_their_records(tmp_path, capsys):
    output = tmp_path / "all.jsonl"
    command = ["submit", "--shards", "2", "--on", "local", "--wait", "--output", str(output)]
    assert cli.main([*command, "--", *RUN]) == 0
    records = RecordStore(output).read()
    assert {r.status for r in records} == {Status.OK}
    assert {r.suite for r in records} == {"eigenvalues", "leading", "reference"}
    assert all(file.exists() for file in shard_files(output, 2))
    times = [[r.time for r in RecordStore(file).read()] for file in shard_files(output, 2)]
    assert max(times[0]) <= min(times[1])  # one after the other
    assert f"Records: {output}, {len(records)} added" in capsys.readouterr().out


def test_jobs_that_fail_are_told(tmp_path):
    output = tmp_path / "all.jsonl"
    jobs = submit(["--profile", "unknown"], 1, output, Cluster("local", 5))
    with pytest.raises(JobsError, match=r"1 of 1 jobs failed.*all_jobs"):
        cli.collect(output, 1, jobs)


def test_jobs_of_a_cluster_have_their_nodes_for_themselves():
    assert Cluster("slurm", 5).parameters == {"timeout_min": 5, "slurm_exclusive": True}
    shared = Cluster("slurm", 5, {"slurm_exclusive": False, "mem_gb": 4})
    assert shared.parameters == {"timeout_min": 5, "slurm_exclusive": False, "mem_gb": 4}
    assert Cluster("local", 5).parameters == {"timeout_min": 5}


def test_more_shards_than_comparisons(tmp_path, capsys):
    output = tmp_path / "records.jsonl"
    assert cli.main(["run", *RUN, "--shard", "9/9", "--output", str(output)]) == 0
    assert "nothing in this shard" in capsys.readouterr().out


def test_wrong_arguments_end_before_any_job(tmp_path, capsys):
    command = ["submit", "--shards", "2", "--on", "local", "--output", str(tmp_path / "x.jsonl")]
    with pytest.raises(SystemExit, match="2"):
        cli.main([*command, "--", "--profile", "unknown"])
    with pytest.raises(SystemExit, match="2"):
        cli.main([*command, "--set", "nonsense", "--", *RUN])
    assert "expected name=value, such as slurm_partition=gpu" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("timeout_mins=3", "Unknown setting 'timeout_mins': did you mean timeout_min"),
        ("slurm_partitio=gpu", "Unknown setting 'slurm_partitio': did you mean slurm_partition"),
        ("cpus_per_task=many", '"cpus_per_task" expected type'),
    ],
)
def test_wrong_settings_are_told(tmp_path, capsys, setting, message):
    command = ["submit", "--shards", "2", "--on", "local", "--output", str(tmp_path / "x.jsonl")]
    assert cli.main([*command, "--set", setting, "--", *RUN]) == 2
    assert message in capsys.readouterr().err


def test_without_submitit(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "submitit", None)
    command = ["submit", "--shards", "2", "--output", str(tmp_path / "x.jsonl")]
    assert cli.main([*command, "--", *RUN]) == 2
    assert "needs the extra cluster" in capsys.readouterr().err
