"""What a monitor sees, against dense float64 formulas; that it changes nothing; what it costs."""

import copy
import functools
import math
import warnings

import oracle
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vivit
from vivit import InputError, Monitor, MonteCarlo, UnsupportedError
from vivit.monitor import ALL, Quantity, read
from vivit.monitor.prediction import right_classes

CE, CE_SUM, MSE = nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="sum"), nn.MSELoss()
WEIGHTED = nn.CrossEntropyLoss(torch.tensor([0.5, 2.0, 1.0]).double(), ignore_index=1)
K = 4


class Net(nn.Module):
    """Dropout and normalization, which predict otherwise than they train."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.5))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.body(x))


class Mixing(Net):
    """The samples of a batch are not independent."""

    def forward(self, x):
        y = super().forward(x)
        return y - y.mean(0)


def problem(loss_func=CE, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Net().double()
        model(torch.randn(20, 5).double())  # running statistics of its own
        x = torch.randn(8, 5).double()
        y = torch.randn(8, 3).double() if loss_func is MSE else torch.randint(3, (8,))
    return model, (x, y)


def monitor_of(tmp_path, loss_func=CE, **options):
    model, batch = problem(loss_func)
    return Monitor(model, loss_func, batch, path=tmp_path / "run.jsonl", k=K, **options)


class Dense:
    """All quantities, from dense matrices of the network in evaluation mode."""

    def __init__(self, loss_func, subset=None):
        model, (self.x, self.y) = problem(loss_func)
        self.model, self.loss_func = model.eval(), loss_func
        self.names = [name for name, _ in model.named_parameters()]
        self.sizes = [p.numel() for p in model.parameters()]
        self.f = model(self.x).detach()
        n = len(self.x)
        index = torch.tensor(sorted(range(n) if subset is None else subset))
        jacobian = oracle.jacobian(model, self.x, self.names)
        hessian = oracle.loss_hessian(loss_func, self.f, self.y).reshape(n, 3, n, 3)
        blocks = torch.stack([hessian[i, :, i] for i in range(n)])[index]
        self.ggn = torch.einsum("ncp,ncd,ndq->pq", jacobian[index], blocks, jacobian[index])
        self.ggn = self.ggn * n / len(index)
        self.gradient = oracle.gradient(model, loss_func, self.x, self.y, self.names)
        values, vectors = torch.linalg.eigh(self.ggn)
        self.values, self.vectors = values.flip(0), vectors.flip(1)[:, :K]
        scale = 1 if loss_func is CE_SUM else n
        outputs = self.f.clone().requires_grad_()
        slopes = torch.autograd.grad(loss_func(outputs, self.y), outputs)[0]
        pushed = torch.einsum("ncp,pk->nkc", jacobian, self.vectors)
        self.gammas = scale * torch.einsum("nc,nkc->nk", slopes, pushed)
        some = pushed[index]
        self.lambdas = scale * torch.einsum("nkc,ncd,nkd->nk", some, blocks, some)

    def eigenvalues(self):
        return {"eigenvalues": self.values[:K]}

    def gradient_(self):
        along = self.vectors.T @ self.gradient
        norm = self.gradient.norm()
        return {"gradient_norm": norm, "gradient_overlap": (along / norm).square().sum()}

    def noise(self):
        return {
            name: x.mean(0).square() / x.var(0, correction=1)
            for name, x in (("slope_noise", self.gammas), ("curvature_noise", self.lambdas))
        }

    def damping(self):
        """By the rule on its own, which has tests of its own."""
        derivatives = vivit.DirectionalDerivatives(self.gammas, self.lambdas)
        return {"damping": vivit.BootstrapDamping()(self.values[:K], derivatives)}

    def step_size(self):
        g = self.gradient
        return {"step_bound": 2 / self.values[0], "step_best": g @ g / (g @ self.ggn @ g)}

    def trace(self):
        return {"trace": self.ggn.trace()}

    def spectrum(self):
        kept = self.values > 24 * torch.finfo(torch.float64).eps * self.values[0]
        return {"spectrum": self.values[kept], "size": torch.tensor(len(self.ggn))}

    def layers(self):
        found = {}
        for key, parts in (
            ("layer_traces", self.ggn.diagonal()),
            ("layer_gradients", self.gradient.square()),
        ):
            shares = {}
            for name, part in zip(self.names, parts.split(self.sizes), strict=True):
                layer = name.rpartition(".")[0]
                shares[layer] = shares.get(layer, 0) + part.sum() / parts.sum()
            found[key] = shares
        return found

    def of(self, quantity):
        return getattr(self, "gradient_" if quantity is Quantity.GRADIENT else quantity.value)()


def assert_values(found, expected, tolerance=1e-6):
    """Numbers, lists or numbers by layer; they are written with eight digits."""
    if isinstance(expected, dict):
        assert [*found] == [*expected]
        for name, value in expected.items():
            assert_values(found[name], value, tolerance)
        return
    actual = torch.tensor(found, dtype=torch.float64)
    assert actual.shape == expected.shape
    assert torch.allclose(actual, expected.double(), rtol=tolerance, atol=0)


LOSSES = {"ce": CE, "ce, sum": CE_SUM, "ce, weighted": WEIGHTED, "mse": MSE}
SUBSETS = {"all": None, "some": [5, 0, 3, 2]}


@pytest.mark.parametrize("loss_func", LOSSES.values(), ids=LOSSES.keys())
@pytest.mark.parametrize("subset", SUBSETS.values(), ids=SUBSETS.keys())
def test_quantities(tmp_path, loss_func, subset):
    dense = Dense(loss_func, subset)
    seen = monitor_of(tmp_path, loss_func, subset=subset)(0)
    assert not seen.error
    for quantity in ALL:
        expected = dense.of(quantity)
        assert_values({name: seen.quantities[name] for name in expected}, expected)


@pytest.mark.parametrize("quantity", ALL, ids=lambda quantity: quantity.value)
def test_only_what_is_asked_for(tmp_path, quantity):
    seen = monitor_of(tmp_path, quantities=[quantity.value])(0).quantities
    expected = Dense(CE).of(quantity)
    assert [*seen] == ["loss", "accuracy", *expected]
    assert_values({name: seen[name] for name in expected}, expected)


def test_loss_and_accuracy_alone_need_no_curvature(tmp_path, monkeypatch):
    monkeypatch.setattr("vivit.monitor.curvature.GGN", None)
    dense = Dense(WEIGHTED)
    seen = monitor_of(tmp_path, WEIGHTED, quantities=[])(0).quantities
    counted = dense.y != 1
    right = (dense.f.argmax(1) == dense.y)[counted].double().mean()
    assert_values(seen, {"loss": WEIGHTED(dense.f, dense.y), "accuracy": right})
    assert [*monitor_of(tmp_path, MSE, quantities=[])(0).quantities] == ["loss"]


def test_one_curvature_and_one_decomposition(tmp_path, monkeypatch):
    made, derivatives = [], []

    class Counted(vivit.GGN):
        def __init__(self, *args, **options):
            made.append(self)
            super().__init__(*args, **options)

        def directional_derivatives(self, *args, **options):
            derivatives.append(self)
            return super().directional_derivatives(*args, **options)

    monkeypatch.setattr("vivit.monitor.curvature.GGN", Counted)
    monitor_of(tmp_path)(0)
    assert len(made) == len(derivatives) == 1


def test_monte_carlo(tmp_path):
    model, batch = problem()
    mc = MonteCarlo(samples=2, seed=3)
    values = vivit.GGN(model.eval(), CE, batch, approximation=mc).eigvalsh().flip(0)
    seen = monitor_of(tmp_path, approximation=mc)(0).quantities
    assert_values(seen["eigenvalues"], values[:K])
    assert_values(seen["trace"], values.sum())
    assert len(seen["spectrum"]) <= 16


def test_parameters(tmp_path):
    monitor = monitor_of(tmp_path, params=(name for name in ["head.*"]))
    first, second = monitor(0).quantities, monitor(100).quantities
    assert first == second
    assert first["size"] == 21
    assert first["layer_traces"] == {"head": 1.0}


def test_fewer_directions_than_asked_for(tmp_path):
    model, batch = nn.Linear(2, 1), (torch.ones(6, 2), torch.arange(6.0)[:, None])
    seen = Monitor(model, MSE, batch, path=tmp_path / "run.jsonl")(0).quantities
    assert len(seen["eigenvalues"]) == len(seen["damping"]) == len(seen["spectrum"]) == 1
    assert seen["curvature_noise"] == [None]  # the samples agree
    assert seen["eigenvalues"][0] == pytest.approx(6.0)


def test_a_model_without_slope_or_curvature(tmp_path):
    """What is divided by zero is not there."""
    model = nn.Linear(2, 3)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([1e4, 0.0, 0.0]))
    batch = torch.ones(4, 2), torch.zeros(4, dtype=torch.long)
    seen = Monitor(model, CE, batch, path=tmp_path / "run.jsonl")(0)
    assert not seen.error
    values = seen.quantities
    assert values["eigenvalues"] == values["spectrum"] == values["damping"] == []
    assert values["loss"] == values["trace"] == values["gradient_norm"] == 0
    assert values["step_bound"] is values["step_best"] is values["gradient_overlap"] is None
    assert values["layer_traces"] == {"<root>": None}


def trained(steps=12, watch=None):
    """Parameters and states after a training with everything that a look could disturb."""
    model, batch = problem()
    model.train()
    model.body[1].eval()  # a mode of its own
    torch.manual_seed(7)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    monitor = None if watch is None else watch(model, batch)
    for step in range(steps):
        x, y = torch.randn(16, 5).double(), torch.randint(3, (16,))
        optimizer.zero_grad()
        CE(model(x), y).backward()
        if monitor is not None:
            assert (monitor(step) is None) == bool(step % 3)
        optimizer.step()
    modes = [module.training for module in model.modules()]
    grads = [p.grad for p in model.parameters()]
    return [*model.state_dict().values(), *grads, torch.get_rng_state()], modes


@pytest.mark.parametrize("approximation", [vivit.Exact(), MonteCarlo()], ids=["exact", "mc"])
def test_the_training_is_the_same_bit_by_bit(tmp_path, approximation):
    def watch(model, batch):
        path = tmp_path / "run.jsonl"
        return Monitor(model, CE, batch, every=3, path=path, approximation=approximation)

    with torch.random.fork_rng():
        (plain, modes), (watched, watched_modes) = trained(), trained(watch=watch)
    assert modes == watched_modes
    assert [*map(torch.equal, plain, watched)] == [True] * len(plain)
    assert [x.step for x in read(tmp_path / "run.jsonl")] == [0, 3, 6, 9]


def test_the_mode_is_restored_without_a_call_of_train(tmp_path):
    class Own(Net):
        def train(self, mode=True):
            raise AssertionError("a model may do more than to set its mode")

    model, batch = Own().double(), problem()[1]
    model.body[3].training = False
    before = [module.training for module in model.modules()]
    monitor = Monitor(model, CE, batch, path=tmp_path / "run.jsonl")
    monitor(0)
    assert [module.training for module in model.modules()] == before
    model.forward = None
    with pytest.warns(UserWarning, match="TypeError"):
        monitor(100)
    assert [module.training for module in model.modules()] == before


def test_gradients_are_not_needed_around_it(tmp_path):
    monitor, expected = monitor_of(tmp_path), Dense(CE).trace()["trace"]
    with torch.no_grad():
        assert_values(monitor(0).quantities["trace"], expected)


class Clock:
    """Time that passes when it is told to, and a second at each look of a monitor."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def watched_clock(tmp_path, monkeypatch, costs, **options):
    """A monitor whose observations take given times."""
    clock, costs = Clock(), iter(costs)

    def look(setting, into):
        clock.now += next(costs)

    monkeypatch.setattr("vivit.monitor.monitor.observe", look)
    return monitor_of(tmp_path, clock=clock, **options), clock


def test_cost(tmp_path, monkeypatch):
    monitor, clock = watched_clock(tmp_path, monkeypatch, [2.0, 1.0], every=10)
    assert monitor.seconds == monitor.share == 0
    monitor(0)
    clock.now += 8
    seen = monitor(10)
    assert monitor.seconds == 3
    assert (seen.seconds, seen.elapsed, seen.skipped) == (1, 11, 0)
    assert monitor.share == pytest.approx(3 / 11)
    assert seen.share == pytest.approx(3 / 11, abs=1e-6)


def test_budget(tmp_path, monkeypatch):
    """The first costs 4, the others 1, a hundred steps of training take 10."""
    costs = [4.0, *[1.0] * 40]
    monitor, clock = watched_clock(tmp_path, monkeypatch, costs, budget=0.1)
    seen = []
    for step in range(0, 3000, 100):
        seen.append(monitor(step))
        assert step == 0 or seen[-1] is None or monitor.share <= 0.1
        clock.now += 10
    observed = [x for x in seen if x]
    assert [x.step for x in observed[:4]] == [0, 800, 900, 1000]
    assert [x.skipped for x in observed[:3]] == [0, 7, 0]
    assert 0.07 < monitor.share <= 0.1


@pytest.mark.parametrize(
    ("called", "observed"),
    [
        ([0, 1, 9, 10, 11, 20], [0, 10, 20]),
        ([7, 8, 10, 19, 20], [7, 10, 20]),
        ([0, 7, 14, 21, 28], [0, 14, 21]),
        ([5, 5], [5]),
    ],
)
def test_when_it_looks(tmp_path, called, observed):
    monitor = monitor_of(tmp_path, every=10, quantities=[])
    assert [step for step in called if monitor(step)] == observed


WRONG = {
    "unknown quantity": ({"quantities": ["traces"]}, "Unknown quantity 'traces'.*'trace'.*layers"),
    "a single name": ({"quantities": "nois"}, "Unknown quantity 'nois'. Did you mean 'noise'"),
    "every": ({"every": 0}, "every must be a whole number of at least 1, got 0"),
    "k": ({"k": 1.5}, "k must be a whole number of at least 1, got 1.5"),
    "budget": ({"budget": 5}, r"budget must be a share of the time in \(0, 1\], got 5"),
    "a loader": ({"held_out_batch": [1, 2, 3]}, r"one batch \(X, y\).*got list.*next\(iter"),
    "no model": ({"model": CE.forward}, "model must be a torch.nn.Module, got method"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments(options, message):
    model, batch = problem()
    arguments = {"model": model, "loss_func": CE, "held_out_batch": batch} | options
    with pytest.raises(InputError, match=message):
        Monitor(**arguments)


@pytest.mark.parametrize("step", [-1, 1.0, True, "1"])
def test_wrong_steps(tmp_path, step):
    with pytest.raises(InputError, match="step must be a whole number of at least 0"):
        monitor_of(tmp_path)(step)


def test_a_loss_that_is_no_scalar(tmp_path):
    with pytest.raises(UnsupportedError, match="needs a scalar loss"):
        monitor_of(tmp_path, functools.partial(F.cross_entropy, reduction="none"))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"params": ["nothing"]}, InputError, "No parameter is called 'nothing'"),
        ({"subset": [99]}, InputError, "index 99"),
        ({"subset": [1]}, InputError, "at least two samples"),
        ({"model": Mixing().double()}, UnsupportedError, "mixes"),
    ],
    ids=["params", "subset", "one sample", "model"],
)
def test_the_first_observation_raises(tmp_path, options, error, message):
    model, batch = problem()
    arguments = {"model": model, "budget": 1e-9, "path": tmp_path / "run.jsonl"} | options
    monitor = Monitor(loss_func=CE, held_out_batch=batch, **arguments)
    for _ in range(2):
        with pytest.raises(error, match=message):
            monitor(0)
    assert not (tmp_path / "run.jsonl").exists()


def test_what_fails_later_is_written_down(tmp_path, monkeypatch):
    monitor = monitor_of(tmp_path)
    monitor(0)
    model = monitor._setting.model
    kept = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        model.head.weight.fill_(math.nan)
    with pytest.warns(UserWarning, match=r"(?s)step 100: InputError.*Training goes on") as told:
        monitor(100)
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        diverged = monitor(200)
    assert diverged.error.startswith("InputError")
    assert diverged.quantities["loss"] is None
    model.load_state_dict(kept)

    def out_of_memory(at):
        raise torch.OutOfMemoryError("no memory")

    with monkeypatch.context() as patched:
        patched.setitem(vivit.monitor.curvature.COMPUTED, Quantity.NOISE, out_of_memory)
        with pytest.warns(UserWarning, match="step 300: OutOfMemoryError: no memory"):
            lacking = monitor(300)
    assert [*lacking.quantities][-1] == "gradient_overlap"  # those before are there
    assert not monitor(400).error
    written = read(tmp_path / "run.jsonl")
    assert [bool(x.error) for x in written] == [False, True, True, True, False]


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    monitor = monitor_of(tmp_path, quantities=[])
    monitor(0)
    monkeypatch.setattr("os.write", lambda handle, data: 3)
    with pytest.warns(UserWarning, match=r"not written: .*3 of \d+ bytes.*is it full") as told:
        assert monitor(100).quantities
    assert told[0].filename == __file__
    monkeypatch.undo()
    monitor(200)
    assert [x.step for x in read(tmp_path / "run.jsonl")] == [0, 200]


def test_steps_that_begin_anew_are_warned_of_once(tmp_path):
    """As those that are counted within each epoch."""
    monitor = monitor_of(tmp_path, quantities=[])
    monitor(50)
    monitor(150)
    with pytest.warns(UserWarning, match=r"Step 0 follows 150: .* over all epochs\.") as told:
        monitor(0)
    assert told[0].filename == __file__
    monitor(100)
    monitor(20)
    assert [x.step for x in read(tmp_path / "run.jsonl")] == [0, 20]


def parallel(model):
    """As if other processes were there, which answer to nothing."""
    wrapped = torch.nn.parallel.DistributedDataParallel.__new__(
        torch.nn.parallel.DistributedDataParallel
    )
    torch.nn.Module.__init__(wrapped)
    wrapped.module = model
    return wrapped


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    "wrap",
    [torch.compile, parallel, lambda model: torch.compile(parallel(model))],
    ids=["compiled", "parallel", "both"],
)
def test_the_module_within_is_looked_at(tmp_path, wrap):
    """The forward pass of none of the wrappers runs."""
    model, batch = problem()
    plain = Monitor(model, CE, batch, path=tmp_path / "plain.jsonl")(0)
    wrapped = Monitor(wrap(model), CE, batch, path=tmp_path / "wrapped.jsonl")(0)
    assert wrapped.quantities == plain.quantities


@pytest.mark.parametrize("content", ["a line without an end", "first\n", '{"step": 1}\nnotes'])
def test_a_file_of_something_else_stays_as_it_is(tmp_path, content):
    path = tmp_path / "run.jsonl"
    path.write_text(content)
    model, batch = problem()
    monitor = Monitor(model, CE, batch, quantities=[], path=path)
    with pytest.raises(InputError, match="is there and is not a monitor's: a line begins with"):
        monitor(0)
    assert path.read_text() == content


def test_a_path_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    model, batch = problem()
    with pytest.raises(OSError, match="file"):
        Monitor(model, CE, batch, quantities=[], path=tmp_path / "file" / "run.jsonl")(0)


NAMES_OF_A_LOSS = {
    "module": (CE, [True, False, True]),
    "function": (F.cross_entropy, [True, False, True]),
    "partial": (functools.partial(F.cross_entropy, ignore_index=0), [False]),
    "lambda": (lambda f, y: CE(f, y), [True, False, True, False]),  # nothing is known of it
}


@pytest.mark.parametrize(("loss_func", "expected"), NAMES_OF_A_LOSS.values(), ids=NAMES_OF_A_LOSS)
def test_accuracy_with_losses_under_other_names(loss_func, expected):
    """Targets that the loss ignores do not count; there is an entry for each that does."""
    output = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    right = right_classes(loss_func, output, torch.tensor([0, 0, 0, -100]))
    assert right.tolist() == expected


def test_what_cannot_be_looked_at_is_explained(tmp_path):
    model, (x, y) = problem()
    with pytest.raises(InputError, match=r"Inputs have dtype torch\.float64"):
        Monitor(model.float(), CE, (x.double(), y), path=tmp_path / "a.jsonl")(0)
    monitor = Monitor(
        model, CE, (x.float(), y), path=tmp_path / "b.jsonl", forward=lambda m, x: [str(m(x))]
    )
    with pytest.raises(InputError, match="must return one tensor, got list"):
        monitor(0)
