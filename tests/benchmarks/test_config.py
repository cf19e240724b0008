"""A grid of one's own, in a file."""

import itertools
import re
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import cli
from benchmarks.grid.arguments import size_in_bytes
from benchmarks.grid.comparison import Comparison, Selection
from benchmarks.grid.config import DEFAULT, read_config
from benchmarks.grid.config_keys import comparison_keys
from benchmarks.grid.config_text import config_text, size_text
from benchmarks.grid.profiles import PROFILES, Profile
from benchmarks.grid.suites import SUITES, Cell
from benchmarks.grid.toml_file import ConfigError, TomlFile, key_lines
from benchmarks.measure.critical import BudgetMode, Limits
from benchmarks.records.record import Quantity, RecordStore, Status
from benchmarks.records.tasks import FAMILY, Approximation, Computed, Grouping, Subset, Task

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "grid.toml"
TINY = """
repeats = 1
threads = 1

[[comparison]]
suite = "eigenvalues"
problem = "digits_mlp"
methods = ["gram"]
batch_size = 8
"""
OWN = """
import torch
from torch import nn

def make(batch_size, device, dtype, seed):
    X = torch.rand(batch_size, 3, generator=torch.Generator().manual_seed(seed)).to(device, dtype)
    return nn.Linear(3, 2).to(device, dtype), nn.MSELoss(), X, X[:, :2].contiguous()
"""


@pytest.fixture
def write(tmp_path):
    def written(text):
        file = tmp_path / "grid.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return written


def test_what_a_file_says(write):
    profile = read_config(
        write("""
            description = "mine"
            repeats = 7
            timeout = 1.5
            patience = 0
            threads = 3

            [[comparison]]
            suite = "newton"
            problem = "digits_mlp"
            batch_size = 16
            """)
    )
    cell = Cell("newton", "digits_mlp", 16, Task(Computed.NEWTON_STEP))
    assert profile == Profile("grid", "mine", (cell,), 7, 1.5, 0, 3)
    (comparison,) = profile.comparisons()
    assert comparison.methods == SUITES["newton"].methods


def test_what_a_file_leaves_out(write):
    profile = read_config(write(TINY.replace("repeats = 1\nthreads = 1\n", "")))
    settings = ("repeats", "timeout", "patience", "threads")
    assert [getattr(profile, x) for x in settings] == [getattr(DEFAULT, x) for x in settings]
    assert profile.description == "the grid of grid.toml"


def test_lists_are_multiplied(write):
    profile = read_config(
        write("""
            [[comparison]]
            suite = "leading"
            problem = ["digits_mlp", "digits_cnn"]
            methods = ["gram", "power_iteration:tolerance=1e-6"]
            batch_size = [8, 16]
            k = [1, 2]
            approximation = ["exact", "monte_carlo"]
            subset = ["whole", "eighth"]
            grouping = ["network", "layer"]
            """)
    )
    assert len(set(profile.grid)) == 2**6
    assert {c.methods for c in profile.grid} == {("gram", "power_iteration:tolerance=1e-06")}
    variants = {"subset": Subset.EIGHTH, "grouping": Grouping.LAYER}
    task = Task.leading(2, approximation=Approximation.MONTE_CARLO, **variants)
    assert profile.grid[-1].task == task


def test_searches(write):
    profile = read_config(
        write("""
            [[comparison]]
            suite = "critical"
            problem = "digits_mlp"
            budget = ["512MiB", "1.5GiB"]
            largest = 100
            resolution = 0
            budget_mode = "simulated"
            """)
    )
    assert [c.limits for c in profile.grid] == [
        Limits(size, 100, 0, BudgetMode.SIMULATED) for size in (2**29, 3 * 2**29)
    ]
    assert {c.batch_size for c in profile.grid} == {None}


@pytest.mark.parametrize(
    ("suite", "more", "task"),
    [
        ("engine", "", Task()),
        ("engine", "k = 3", Task.leading(3)),
        ("engine", 'computed = "gram_matrix"', Task(Computed.GRAM)),
        ("leading", "k = 3", Task.leading(3)),
        ("derivatives", "k = 3", Task(Computed.DERIVATIVES, 3)),
        ("density", "", Task(Computed.DENSITY)),
        ("density", 'computed = "eigenvalues"', Task()),
        *(("family", f'computed = "{x.value}"', Task(x)) for x in FAMILY),
        ("family", "k = 3", Task.leading(3)),
    ],
)
def test_a_suite_says_what_is_computed(write, suite, more, task):
    text = TINY.replace('"eigenvalues"', f'"{suite}"') + more
    assert [c.task for c in read_config(write(text)).grid] == [task]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_profiles_agree_with_what_their_suites_are_about(profile):
    for cell in profile.grid:
        assert SUITES[cell.suite].computed in (None, cell.task.computed)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_every_profile_can_be_written_and_read(write, profile):
    read = read_config(write(config_text(profile)))
    assert Counter(read.comparisons()) == Counter(profile.comparisons())
    for name in ("description", "repeats", "timeout", "patience", "threads"):
        assert getattr(read, name) == getattr(profile, name)


def test_what_profiles_do_not_have_can_be_written_too(write, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    limits = [Limits(1000, 7, 0.1, BudgetMode.SIMULATED), Limits(1000), Limits(2**31, 7)]
    cells = [Cell("critical", f"{tmp_path}/mine.py:make", None, limits=x) for x in limits]
    cells.append(Cell("eigenvalues", "digits_mlp", 4, Task(Computed.GRAM), ("lobpcg",)))
    profile = Profile("x", 'a "b" \\ \x7f\té\n\U0001f600', tuple(cells), 1, 1e30, 1e-7)
    read = read_config(write(config_text(profile)))
    assert read.grid == profile.grid
    assert (read.description, read.timeout, read.patience) == (profile.description, 1e30, 1e-7)


def test_a_written_file_is_short():
    text = config_text(PROFILES["quick"])
    assert text.startswith("# The grid of the profile quick")
    assert "python -m benchmarks run --config quick.toml" in text
    assert "repeats" not in text
    assert 'problem = ["digits_mlp", "digits_cnn", "cifar10_3c3d"]' in text
    assert config_text(PROFILES["paper"]).count("[[comparison]]") < 30


@pytest.mark.parametrize("size", [1, 1000, 1024, 3 * 2**19, 11 * 2**30, 2**50])
def test_sizes_are_written_as_they_are_read(size):
    assert size_in_bytes(size_text(size)) == size


def comparison(**changes):
    """A table whose first line is 1, problem 3, batch_size 4."""
    keys = {"suite": '"eigenvalues"', "problem": '"digits_mlp"', "batch_size": "8"} | changes
    lines = [f"{name} = {value}" for name, value in keys.items() if value is not None]
    return "\n".join(["[[comparison]]", *lines])


LEADING = {"suite": '"leading"'}
SEARCH = {"batch_size": None, "budget": '"1GiB"'}
POSITIVE = "expected a positive whole number"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        # TOML itself
        ("repeats = 1\nthreads 2", "2, column 9", "Expected '=' after a key"),
        ("repeats = 1\nrepeats = 2", "2", "Cannot overwrite a value"),
        (f"{comparison()}\nk = [1,\n2", "5", "Unclosed array"),
        (b"repeats = 1\ndescription = '\xff'", "2", "expected text in UTF-8"),
        # keys
        ("repaets = 1\n" + comparison(), "1, repaets", "Unknown key 'repaets': did you mean rep"),
        ("x = 1\n" + comparison(), "1, x", "threads, comparison."),
        (comparison(batchsize=8), "5, batchsize", "'batchsize': did you mean batch_size?"),
        (comparison(repeats=8), "5, repeats", "it belongs above the first [[comparison]]"),
        ("k = 1\n" + comparison(), "1, k", "it belongs below a [[comparison]]"),
        ("[comparisons]\nk = 1\n" + comparison(), "1, comparisons", "did you mean comparison?"),
        # tables
        ("", "1, comparison", "there is none; expected at least one [[comparison]]"),
        ("\ncomparison = []", "2, comparison", "expected at least one [[comparison]]"),
        ("\ncomparison = 3", "2, comparison", "expected tables [[comparison]], got 3"),
        ("\ncomparison = [3]", "2, comparison", "expected tables [[comparison]], got [3]"),
        ("\n[comparison]", "2, comparison", "expected tables [[comparison]], got a table"),
        ("\ncomparison = [{}]", "2, suite", "is missing; expected the name of a suite"),
        # settings
        ("description = 1\n" + comparison(), "1, description", "expected a text, got 1"),
        ("repeats = true\n" + comparison(), "1, repeats", f"{POSITIVE}, got true"),
        ("repeats = [1]\n" + comparison(), "1, repeats", f"{POSITIVE}, got [1]"),
        ("threads = 0\n" + comparison(), "1, threads", f"{POSITIVE}, got 0"),
        ("threads = 1.0\n" + comparison(), "1, threads", f"{POSITIVE}, got 1.0"),
        ("timeout = 0\n" + comparison(), "1, timeout", "expected a positive number of seconds, g"),
        ("timeout = inf\n" + comparison(), "1, timeout", "a positive number of seconds, got inf"),
        ("timeout = nan\n" + comparison(), "1, timeout", "a positive number of seconds, got nan"),
        ("timeout = '1'\n" + comparison(), "1, timeout", 'positive number of seconds, got "1"'),
        ("patience = -1\n" + comparison(), "1, patience", "number of seconds, 0 or more, got -1"),
        ("patience = 1979-05-27\n" + comparison(), "1, patience", "0 or more, got 1979-05-27"),
        # values of a comparison
        (comparison(suite=None), "1, suite", "is missing; expected the name of a suite"),
        (comparison(suite='"newtno"'), "2, suite", "Unknown suite 'newtno': did you mean newton?"),
        (comparison(suite='["newton"]'), "2, suite", 'the name of a suite, got ["newton"]'),
        (comparison(problem=None), "1, problem", "is missing; expected the name of a problem or"),
        (comparison(problem='"digits"'), "3, problem", "'digits': did you mean digits_"),
        (comparison(problem='["logistic", "x"]'), "3, problem", "Unknown problem 'x'"),
        (comparison(problem='"absent.py:make"'), "3, problem", "but there is no file '"),
        (comparison(problem="3"), "3, problem", "file.py:function or a list of them, got 3"),
        (comparison(methods='"gram"'), "5, methods", "expected a list of methods such as"),
        (comparison(methods="[]"), "5, methods", "expected a list of methods such as"),
        (comparison(methods='["gram", 1]'), "5, methods", 'got ["gram", 1]'),
        (comparison(methods='["grma"]'), "5, methods", "Unknown method 'grma': did you mean gram"),
        (comparison(methods='["lanczos:tol=1"]'), "5, methods", "setting of lanczos 'tol': did"),
        (comparison(methods='["lanczos:tolerance=-1"]'), "5, methods", "a positive number, got"),
        (comparison(methods='["gram", "gram"]'), "5, methods", 'each once, got ["gram", "gram"]'),
        (
            comparison(batch_size="true"),
            "4, batch_size",
            f"{POSITIVE} or a list of them, got true",
        ),
        (comparison(batch_size="[8, 0]"), "4, batch_size", f"{POSITIVE} or a list of them, got ["),
        (comparison(batch_size="[8, true]"), "4, batch_size", "or a list of them, got [8, true]"),
        (comparison(batch_size="[]"), "4, batch_size", "or a list of them, got []"),
        (comparison(batch_size="[8, 8]"), "4, batch_size", "expected each once, got [8, 8]"),
        (comparison(batch_size="[[8]]"), "4, batch_size", "or a list of them, got [[8]]"),
        (comparison(batch_size="{n = 8}"), "4, batch_size", "or a list of them, got a table"),
        (
            comparison(batch_size=None),
            "1, batch_size",
            "is missing; expected a batch_size, or a b",
        ),
        (comparison(budget='"1GiB"'), "5, budget", "either a batch_size or a budget, got both"),
        (comparison(largest=3), "5, largest", "expected a budget beside it, got batch_size"),
        (comparison(resolution=0.5), "5, resolution", "expected a budget beside it, got batch_s"),
        (comparison(budget_mode='"process"'), "5, budget_mode", "expected a budget beside it"),
        (comparison(**SEARCH | {"budget": "4"}), "4, budget", 'expected a size such as "4GiB" or'),
        (comparison(**SEARCH | {"budget": '"4GB"'}), "4, budget", "or 512MiB, got '4GB'"),
        (comparison(**SEARCH, largest=0), "5, largest", f"{POSITIVE}, got 0"),
        (comparison(**SEARCH, resolution=1), "5, resolution", "number from 0 to below 1, got 1"),
        (
            comparison(**SEARCH, budget_mode='"simulate"'),
            "5, budget_mode",
            "did you mean simulate",
        ),
        (
            comparison(**SEARCH, budget_mode="1"),
            "5, budget_mode",
            "one of process, simulated, got",
        ),
        (comparison(computed='"pairs"'), "5, computed", "'pairs': did you mean eigenpairs?"),
        (comparison(approximation='"exacd"'), "5, approximation", "did you mean exact?"),
        (comparison(subset='["whole", "eigth"]'), "5, subset", "'eigth': did you mean eighth?"),
        (comparison(grouping='"layers"'), "5, grouping", "did you mean layer?"),
        (
            comparison(grouping="1"),
            "5, grouping",
            "one of network, layer, parameter or a list of them, got 1",
        ),
        (comparison(k=3), "5, k", "got k = 3 for eigenvalues"),
        (comparison(**LEADING), "1, k", "need their number k; got k = None for eigenpairs"),
        (comparison(**LEADING, k=0), "5, k", f"{POSITIVE} or a list of them, got 0"),
        # the right one of several
        (
            f"{comparison()}\n# batch_size = 0\n{comparison(batch_size=0)}",
            "9, batch_size",
            "got 0",
        ),
        (f"{comparison(batch_size='[1,#]')}\n2]\n{comparison(suite=3)}", "7, suite", "got 3"),
        (f'{comparison()}\n"k" = 3', "5, k", "got k = 3"),
    ],
    ids=itertools.count(),
)
def test_errors(write, text, line, words):
    file = write(text)
    with pytest.raises(ConfigError) as raised:
        read_config(file)
    message = str(raised.value)
    assert message.startswith(f"{file}, line {line}: ")
    assert words in message


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml cannot be read: No such file"):
        read_config(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("value", "words"), [("9" * 5000, "Exceeds the limit"), ("[" * 5000, "recursion")]
)
def test_what_python_does_not_read(write, value, words):
    with pytest.raises(ConfigError, match=rf"grid\.toml, .*{words}"):
        read_config(write(f"repeats = {value}"))


LINES = '''\
# comparison = 1
top = """
[[comparison]]
k = 1
"""

[[comparison]] # k = 2
a = [ # ]
  "]", # b = 1

  1,
]
"b" = 1
'c d'.e = 2
[[ "comparison" ]]
[comparison.inner]
a = 1

  [[comparison]]
  a = {x = 1, y = "="}
  text = \'\'\'
a = 2\'\'\'
  b = 2
[other]
b = 3
'''


def test_lines_of_keys():
    assert key_lines(LINES) == {
        (): 1,
        ("top",): 2,
        ("comparison",): 7,
        ("comparison", 0): 7,
        ("comparison", 0, "a"): 8,
        ("comparison", 0, "b"): 13,
        ("comparison", 0, "c d"): 14,
        ("comparison", 0, "c d", "e"): 14,
        ("comparison", 1): 15,
        ("comparison", 1, "inner"): 16,
        ("comparison", 1, "inner", "a"): 17,
        ("comparison", 2): 19,
        ("comparison", 2, "a"): 20,
        ("comparison", 2, "a", "x"): 20,
        ("comparison", 2, "a", "y"): 20,
        ("comparison", 2, "text"): 21,
        ("comparison", 2, "b"): 23,
        ("other",): 24,
        ("other", "b"): 25,
    }


def test_files_of_other_systems(write):
    """What Windows writes has a mark in front and other ends of lines."""
    file = write(b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n").encode())
    assert TomlFile.read(file).lines == key_lines(LINES)


def test_problems_of_ones_own(write, tmp_path, monkeypatch):
    """Their paths start from the folder of the file, wherever the command is run."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.py").write_text(OWN)
    text = TINY.replace('"digits_mlp"', '["digits_mlp", "folder/mine.py:make"]')
    file = write(text)
    monkeypatch.chdir("/")
    ours, own = read_config(file).comparisons()
    source = f"{tmp_path}/folder/mine.py:make"
    (given,) = Selection(problems=[source]).of([ours])
    assert own == given  # as if it were named by --problem
    assert own.parameters["data"] == "own"
    assert (own.problem, own.source) == ("mine.py:make", source)
    assert own.digest is not None
    assert Selection(problems=[source]).of([ours, own]) == [own]
    (other,) = Selection(problems=["digits_cnn"]).of([own])
    assert (other.problem, other.source, other.digest) == ("digits_cnn", None, None)


def test_run(write, tmp_path, capsys):
    output = tmp_path / "records.jsonl"
    run = ["run", "--config", str(write(TINY)), "--output", str(output)]
    assert cli.main([*run, "--dry-run"]) == 0
    assert "digits_mlp N=8 all eigenvalues: gram" in capsys.readouterr().out
    assert not output.exists()
    assert cli.main(run) == 0
    records = RecordStore(output).read()
    assert {r.status for r in records} == {Status.OK}
    (time,) = [r for r in records if r.quantity is Quantity.TIME]
    assert (time.problem, time.method, len(time.samples)) == ("digits_mlp", "gram", 1)
    assert (time.parameters["batch_size"], time.parameters["threads"]) == (8, 1)


@pytest.mark.parametrize(
    ("given", "changes"),
    [
        ([], {}),
        (["--batch-size", "5", "--repeats", "4"], {"batch_size": 5, "repeats": 4}),
        (["--problem", "digits_cnn", "--threads", "2"], {"problem": "digits_cnn", "threads": 2}),
    ],
)
def test_options_of_run_narrow_it_down(write, tmp_path, monkeypatch, given, changes):
    class FakeRunner:
        made = ()

        def __init__(self, store, *settings):
            assert store.path == Path("bench_results/local/grid.jsonl")
            assert settings[1:3] == (DEFAULT.timeout, DEFAULT.patience)

        def run(self, comparisons):
            expected = Comparison("eigenvalues", "digits_mlp", ("gram",), 8, Task(), repeats=1)
            assert comparisons == [Comparison(**{**vars(expected), **changes})]

    monkeypatch.setattr(cli, "Runner", FakeRunner)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "--config", str(write(TINY)), *given]) == 0


def test_nothing_is_left_of_it(write, capsys):
    assert cli.main(["run", "--config", str(write(TINY)), "--suite", "newton"]) == 2
    assert "nothing in the grid matches" in capsys.readouterr().err


def test_a_wrong_file_ends_before_any_measurement_or_job(write, tmp_path, capsys):
    file = write(TINY.replace('["gram"]', '["gram", "grma"]'))
    assert cli.main(["run", "--config", str(file)]) == 2
    message = f"error: {file}, line 8, methods: Unknown method 'grma': did you mean gram"
    assert capsys.readouterr().err.startswith(message)
    jobs = ["submit", "--shards", "2", "--on", "local", "--output", str(tmp_path / "all.jsonl")]
    assert cli.main([*jobs, "--", "--config", str(file)]) == 2
    assert capsys.readouterr().err.startswith(message)
    assert [*tmp_path.iterdir()] == [file]


@pytest.mark.parametrize("profile", ["quick", "smoke"])
def test_a_file_and_a_profile_exclude_each_other(write, profile, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["run", "--config", str(write(TINY)), "--profile", profile])
    assert "--profile: not allowed with argument --config" in capsys.readouterr().err


def test_list_prints_a_file(capsys):
    assert cli.main(["list", "--profile", "quick", "--toml"]) == 0
    assert capsys.readouterr().out == config_text(PROFILES["quick"])


@pytest.mark.parametrize(
    "given", [["--toml"], ["--profile", "quick"], ["suites", "--profile", "quick", "--toml"]]
)
def test_list_prints_nothing_else_as_a_file(given, capsys):
    assert cli.main(["list", *given]) == 2
    shown = capsys.readouterr()
    assert shown.err == "error: expected --profile NAME and --toml together, without a kind.\n"
    assert not shown.out


def test_the_page_shows_the_example_and_every_key():
    page = (EXAMPLE.parents[1] / "benchmarks.md").read_text()
    (shown,) = re.findall("```toml\n(.*?)```", page, re.DOTALL)
    assert shown in EXAMPLE.read_text()
    table = page.partition("## Your grid")[2].partition("## Your memory")[0]
    assert all(f"`{name}`" in table for name in comparison_keys(Path()))
    for kind in (Approximation, BudgetMode, Computed, Grouping, Subset):
        assert all(f'`"{x.value}"`' in table for x in kind)


def test_the_example_is_read():
    profile = read_config(EXAMPLE)
    assert {c.suite for c in profile.grid} == {"eigenvalues", "leading", "critical"}
    assert any(c.source for c in profile.comparisons())
    assert any(c.limits for c in profile.grid)
