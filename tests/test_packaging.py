"""What a user installs."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import vivit

ROOT = Path(__file__).resolve().parents[1]


def test_wheel_holds_the_library_alone(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for folder in ("vivit", "benchmarks", "reports", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "html")
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*command, "-w", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("vivit-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"vivit"}
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "vivit").rglob("*.py")}
    assert modules <= set(names)
    assert "vivit/py.typed" in names
    assert vivit.__version__ in wheel.name


def test_the_citation_is_of_this_version():
    assert f"\nversion: {vivit.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_import_does_nothing_else():
    """No thread settings, no seeding, no output, no heavy optional packages at import."""
    code = """
import torch, sys
threads, state = torch.get_num_threads(), torch.get_rng_state()
import vivit
assert torch.get_num_threads() == threads
assert torch.equal(torch.get_rng_state(), state)
assert not {"backpack", "curvlinops", "pandas", "sklearn"} & set(sys.modules)
assert not {"matplotlib", "seaborn", "rich"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
