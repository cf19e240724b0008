"""Which code counts: of the harness, and of problems of the user's own."""

import os
import subprocess

import pytest

from benchmarks.problems.own import OwnProblem
from benchmarks.records import environment as environment_module
from benchmarks.records.environment import environment
from benchmarks.records.record import identity
from benchmarks.records.sources import fingerprint, with_local_modules

MINE = """
import os, torch, helper
import models.wide.deep as net
from models import other
from package.part import thing

def make(*arguments):
    from late import late
"""

FILES = {
    "mine.py": MINE,
    "helper.py": "import mine, second",
    "second.py": "import helper",
    "late.py": "def late(",
    "models/wide/deep.py": "",
    "models/other.py": "",
    "package/__init__.py": "from . import within",
    "package/within.py": "from .part import thing\nfrom ... import outside",
    "package/part.py": "from .below import x\nthing = 1",
    "package/below/__init__.py": "from ..above import y",
    "package/above.py": "y = 1",
}
OTHERS = {
    "unused.py": "import helper",
    "models/unused.py": "",
    "package/unused.py": "",
    "records.jsonl": "",
    "../outside.py": "",
}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    for name, text in (FILES | OTHERS).items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def test_modules_of_a_folder_are_followed(folder):
    found = with_local_modules(folder / "mine.py")
    assert {file.relative_to(folder).as_posix() for file in found} == set(FILES)


@pytest.mark.parametrize("name", [*FILES, *OTHERS])
def test_a_problem_is_what_it_imports(folder, name):
    problem = OwnProblem.parse(f"{folder}/mine.py:make")
    before = problem.digest
    (folder / name).write_text((folder / name).read_text() + "\n")
    assert (problem.digest != before) == (name in FILES)


def test_names_count_as_contents_do(tmp_path):
    (tmp_path / "a").write_text("1")
    first = fingerprint([tmp_path / "a"], tmp_path)
    assert first == fingerprint([tmp_path / "a"], tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert fingerprint([tmp_path / "b"], tmp_path) != first


@pytest.fixture
def repository(tmp_path, monkeypatch):
    for name in ("vivit/a.py", "vivit/b/c.py", "benchmarks/d.py", "constraints.txt", "README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{name}\n")
    monkeypatch.setattr(environment_module, "ROOT", tmp_path)
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def git(folder, *arguments):
    who = ["-c", "user.name=x", "-c", "user.email=x@x"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True)


def commit(folder):
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "x")


@pytest.mark.parametrize(
    "name", ["mine.jsonl", "README.md", "docs/new.md", "benchmarks/notes.txt", "vivit/c.pyc"]
)
def test_other_files_and_commits_do_not_matter(repository, name):
    before = environment("x")
    assert not before["dirty"]
    (repository / name).parent.mkdir(exist_ok=True)
    (repository / name).write_text("new")
    os.symlink("nowhere", repository / "vivit" / ".#a.py")
    assert identity(environment("y")) == identity(before)
    commit(repository)
    after = environment("y")
    assert after["commit"] != before["commit"]
    assert not after["dirty"]
    assert identity(after) == identity(before)


@pytest.mark.parametrize(
    "name", ["vivit/a.py", "vivit/b/c.py", "vivit/new.py", "benchmarks/d.py", "constraints.txt"]
)
def test_code_matters_committed_or_not(repository, name):
    before = environment("x")
    (repository / name).write_text("other")
    edited = environment("x")
    assert edited["dirty"]
    assert identity(edited) != identity(before)
    commit(repository)
    assert identity(environment("x")) == identity(edited)
    assert not environment("x")["dirty"]


def test_without_git_the_code_is_known(repository, monkeypatch):
    before = identity(environment("x"))
    monkeypatch.setenv("GIT_DIR", str(repository / "nowhere"))
    found = environment("x")
    assert found["commit"] is None
    assert identity(found) == before
