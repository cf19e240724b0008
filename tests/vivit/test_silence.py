"""What would give zeros or wrong figures without a word: each has an error or a warning."""

import warnings
from functools import partial

import oracle
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vivit
from vivit import InputError, UnsupportedError

CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()
X = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0, 1, 2])
ONE, SEVERAL = (X, Y), [(X[:4], Y[:4]), (X[4:], Y[4:])]
NUMBERS = {"one batch": ONE, "several": SEVERAL}


@pytest.fixture(params=NUMBERS.values(), ids=NUMBERS.keys())
def data(request):
    return request.param


class Net(nn.Module):
    """Two layers, and what happens to the output of the first and of the second."""

    def __init__(self, middle=lambda x: x, end=lambda x: x):
        super().__init__()
        self.first, self.head = nn.Linear(5, 4), nn.Linear(4, 3)
        self.middle, self.end = middle, end

    def forward(self, x):
        return self.end(self.head(torch.tanh(self.middle(self.first(x)))))


class WithoutGrad(Net):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class Disabled(Net):
    """An adapter that is there, but switched off."""

    def __init__(self):
        super().__init__()
        self.adapter = nn.Linear(5, 3)


def through_numpy(x):
    return torch.from_numpy(x.detach().numpy())


UNREACHED = {
    "no_grad": (WithoutGrad, None, "first.weight, first.bias, head.weight, head.bias"),
    "numpy": (lambda: Net(end=through_numpy), None, "first.weight.*Look for torch.no_grad"),
    "detached": (lambda: Net(through_numpy), ["first*"], "first.weight, first.bias.*numpy"),
    "adapter": (Disabled, ["adapter*"], "adapter.weight, adapter.bias.*disabled or merged"),
    "many": (
        lambda: nn.Sequential(*(nn.Linear(5, 5) for _ in range(4)), nn.Hardtanh(), Cut()),
        None,
        "0.weight, 0.bias, 1.weight, 1.bias, 2.weight and 3 more",
    ),
}


class Cut(nn.Module):
    def forward(self, x):
        return x.detach()[:, :3]


@pytest.mark.parametrize(("make", "params", "names"), UNREACHED.values(), ids=UNREACHED.keys())
def test_nothing_reaches_the_output(make, params, names, data):
    message = f"No selected parameter influences the model output.*would be zero: {names}"
    with pytest.raises(InputError, match=message):
        vivit.GGN(make(), CE, data, params=params)
    with pytest.raises(InputError, match=message):
        vivit.block_diagonal(make(), CE, data, params=params)


def test_some_parameters_do_not_reach_the_output(data):
    """One warning, and the curvature of the others."""
    with pytest.warns(UserWarning, match="do not influence the model output") as caught:
        ggn = vivit.GGN(Disabled(), CE, data)
    assert len(caught) == 1
    assert "without curvature: adapter.weight, adapter.bias. Look for" in str(caught[0].message)
    assert len(ggn.eigh().values) == 12  # warnings are errors
    assert (ggn @ torch.ones(ggn.shape[0])).any()


class Expert(nn.Module):
    """Each batch goes through one of two layers."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(5, 3), nn.Linear(5, 3)])

    def forward(self, x):
        return self.experts[len(x) % 3 // 2](x)


def test_parameters_that_some_batch_needs_are_used():
    assert vivit.GGN(Expert(), CE, SEVERAL).shape == (36, 36)  # warnings are errors


@pytest.fixture
def processes():
    """A group of one process that never talks to another."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    yield
    torch.distributed.destroy_process_group()


def test_sharded_models(processes):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = Net()
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    with pytest.raises(UnsupportedError, match=r"sharded over processes \(parameter 'first"):
        vivit.GGN(model, CE, ONE)


def test_parameters_of_other_sharding_libraries():
    model = Net()
    model.head.weight.ds_id = 3  # as DeepSpeed marks what it leaves of a parameter
    with pytest.raises(UnsupportedError, match=r"sharded.*'head.weight'.*before it is wrapped"):
        vivit.GGN(model, CE, ONE)


def test_sharding_wrappers():
    wrapper = type("FullyShardedDataParallel", (nn.Sequential,), {})
    model = nn.Sequential(wrapper(nn.Linear(5, 3)))
    with pytest.raises(UnsupportedError, match=r"\(FullyShardedDataParallel '0'\)"):
        vivit.GGN(model, CE, ONE)


def with_autocast(x):
    with torch.autocast("cpu", torch.bfloat16):
        return (x @ torch.eye(x.shape[1])).float()


LOW = {
    "autocast inside": Net(with_autocast, lambda x: x.float()),
    "a cast and back": Net(lambda x: x.bfloat16().float()),
    "half": Net(end=lambda x: x.half().float()),
    "half in double": Net(lambda x: x.half().double()).double(),
}


@pytest.mark.parametrize("model", LOW.values(), ids=LOW.keys())
def test_low_precision_inside(model, data):
    if model.head.weight.dtype == torch.float64:
        data = (data[0].double(), data[1]) if data is ONE else [(x.double(), y) for x, y in data]
    message = r"computes in b?float16 between '(first|head).*accurate to about 1e-0(2|3)"
    for make in (vivit.GGN, vivit.block_diagonal):
        with pytest.warns(UserWarning, match=message):
            make(model, CE, data)


def test_the_lowest_precision_of_all_batches_is_told():
    low = {4: torch.float16, 2: torch.bfloat16}
    model = Net(lambda x: x.to(low[len(x)]).float())
    for data in (SEVERAL, SEVERAL[::-1]):
        with pytest.warns(UserWarning, match="computes in bfloat16"):
            vivit.GGN(model, CE, data)


def test_low_precision_before_all_parameters_is_part_of_the_inputs():
    """A frozen trunk may compute in anything; so may one that is not asked about."""

    class Headed(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.head = nn.Linear(5, 4).bfloat16(), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.trunk(x.bfloat16()).float())

    model = Headed()
    asked = vivit.GGN(model, CE, ONE, params=["head*"]).eigvalsh()
    model.trunk.requires_grad_(False)
    assert torch.equal(vivit.GGN(model, CE, ONE).eigvalsh(), asked)


def test_single_precision_inside_of_double_is_told(data):
    """As norms of some language models have it: right to that precision."""
    data = (X.double(), Y) if data is ONE else [(x.double(), y) for x, y in SEVERAL]
    torch.manual_seed(0)
    model = Net(lambda x: F.rms_norm(x.float(), (4,)).double()).double()
    with pytest.warns(UserWarning, match=r"in float32 between.*accurate to about 1e-07"):
        ggn = vivit.GGN(model, CE, data)
    exact = oracle.ggn(model, CE, X.double(), Y, list(ggn._shapes))
    v = torch.ones(len(exact)).double()
    values = torch.linalg.eigvalsh(exact)
    assert (ggn.eigvalsh() - values[-12:]).abs().max() <= 1e-5 * values[-1]
    assert (ggn @ v - exact @ v).norm() <= 1e-5 * values[-1] * v.norm()
    assert (ggn @ v - exact @ v).norm() > 0  # warnings are errors


def test_higher_precision_inside_is_fine():
    model = Net(lambda x: x.double().tanh().float())
    assert vivit.GGN(model, CE, ONE).eigvalsh().isfinite().all()


def mean(f, y):
    return F.huber_loss(f, y)


def summed(f, y):
    return F.huber_loss(f, y, reduction="sum")


def of_positive_targets(f, y):
    return (F.huber_loss(f, y, reduction="none") * (y > 0)).sum() / (y > 0).sum()


def declared(function, reduction):
    def loss(f, y):
        return function(f, y)

    loss.reduction = reduction
    return loss


T = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
TARGETS = {"one batch": (X, T), "several": [(X[:4], T[:4]), (X[4:], T[4:])]}
WRONG = {
    "a sum": (summed, "'summed' of a batch is not the mean.*It is a sum: give it an attribute"),
    "a sum, partial": (partial(summed), "'summed' of a batch is not the mean"),
    "a mean": (declared(mean, "sum"), "'loss' of a batch is not the sum.*It is a mean"),
}
RIGHT = [mean, declared(mean, "mean"), declared(summed, "sum"), nn.SmoothL1Loss()]


@pytest.mark.parametrize("number", TARGETS)
@pytest.mark.parametrize(("loss_func", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_loss_that_is_not_what_it_counts_as(loss_func, message, number):
    with pytest.raises(UnsupportedError, match=message):
        vivit.GGN(Net(), loss_func, TARGETS[number])


@pytest.mark.parametrize("number", TARGETS)
@pytest.mark.parametrize("loss_func", RIGHT)
def test_a_loss_that_is_what_it_says(loss_func, number):
    torch.manual_seed(0)
    data = [(x.double(), y.double()) for x, y in TARGETS["several"]]
    data = (X.double(), T.double()) if number == "one batch" else data
    ggn = vivit.GGN(Net().double(), loss_func, data)
    gammas = ggn.directional_derivatives(k=2).gammas
    vectors = torch.cat([v.flatten(1) for v in ggn.eigh(k=2).vectors.values()], dim=1)
    total = gammas.sum(0) if getattr(loss_func, "reduction", "") == "sum" else gammas.mean(0)
    gradient = torch.cat([g.flatten() for g in ggn.gradient().values()])
    assert torch.allclose(total, vectors @ gradient)


def test_a_loss_that_is_neither_a_mean_nor_a_sum():
    """Right for one batch, up to the scale of what belongs to a sample."""
    model = Net().double()
    x, y = X.double(), T.double()
    with pytest.warns(UserWarning, match="'of_positive_targets' .*neither the mean nor the sum"):
        ggn = vivit.GGN(model, of_positive_targets, (x, y))
    exact = oracle.ggn(model, of_positive_targets, x, y, list(ggn._shapes))
    assert torch.allclose(ggn.eigvalsh()[-3:], torch.linalg.eigvalsh(exact)[-3:])
    with pytest.raises(UnsupportedError, match=r"not the mean.*Give all samples as one batch"):
        vivit.GGN(model, of_positive_targets, [(x[:3], y[:3]), (x[3:], y[3:])])


def test_batches_of_single_samples():
    """A sum of one is a mean of one: two of them tell."""
    batches = [(X[n : n + 1], T[n : n + 1]) for n in range(3)]
    with pytest.raises(UnsupportedError, match="'summed' of a batch is not the mean"):
        vivit.GGN(Net(), summed, batches)
    assert vivit.GGN(Net(), mean, batches).eigvalsh().isfinite().all()


def test_a_loss_that_draws_random_numbers():
    def noisy(f, y):
        return F.huber_loss(f + 0.1 * torch.randn_like(f), y)

    message = r"'noisy' draws random numbers.*part of the targets"
    with pytest.raises(UnsupportedError, match=message):
        vivit.GGN(Net(), noisy, (X, T))


FLAT = {
    "squeezed": lambda f, y: F.huber_loss(f[:, 0], y),
    "gathered": lambda f, y: F.smooth_l1_loss(f.gather(1, 0 * y[:, None].long())[:, 0], y),
    "integers": lambda f, y: F.huber_loss(f[:, :1], y.long()[:, None].to(f)),
    "scaled": lambda f, y: F.huber_loss(f[:, 0], 3 * y - 50),
    "narrow": lambda f, y: F.huber_loss(f[:, 0], y, delta=1e-6),
}


@pytest.mark.parametrize("loss_func", FLAT.values(), ids=FLAT.keys())
def test_a_loss_that_is_flat_where_it_is_far_from_its_targets(loss_func):
    """It has curvature elsewhere, so there is none here for a reason."""
    y = 100 + normal(6)
    assert not vivit.GGN(Net().double(), loss_func, (X.double(), y)).eigvalsh().any()


def test_a_loss_that_works_on_its_batch_alone():
    """There is nothing to compare with."""

    def fixed(f, y):
        return (f.reshape(6, 3) - y).cosh().mean()

    assert vivit.GGN(Net(), fixed, (X, T)).eigvalsh().isfinite().all()


class DeepSets(nn.Module):
    """A list of sets, each a matrix with one row per element."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, sets):
        return self.head(torch.stack([torch.tanh(self.embed(x)).sum(0) for x in sets]))


class Graph(nn.Module):
    """Nodes and edges of one graph; samples are its nodes."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, graph):
        nodes, edges = graph
        h = torch.tanh(self.first(nodes))
        return self.head(h.index_add(0, edges[0], h[edges[1]]))


class Scores(nn.Module):
    """Images against a table of classes, as many as there are images by chance."""

    def __init__(self):
        super().__init__()
        self.images, self.classes = nn.Linear(2, 3), nn.Linear(4, 3)

    def forward(self, pair):
        images, classes = pair
        return torch.tanh(self.images(images)) @ torch.tanh(self.classes(classes)).T


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


EDGES = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
BY_CHANCE = {
    "sets": (DeepSets, [normal(n, 2) for n in (2, 5, 4)], 3),
    "sets, one as large as their number": (DeepSets, [normal(n, 2) for n in (2, 5, 3)], 3),
    "sets, all as large": (DeepSets, [normal(3, 2, seed=n) for n in range(3)], 3),
    "a graph": (Graph, (normal(4, 2), EDGES), 4),
    "scores": (Scores, (normal(3, 2), normal(5, 4)), 3),
    "scores, as many": (Scores, (normal(3, 2), normal(3, 4)), 3),
}


@pytest.mark.parametrize("options", [{}, {"subset": [0, 2]}], ids=["all", "subset"])
@pytest.mark.parametrize(("network", "x", "n"), BY_CHANCE.values(), ids=BY_CHANCE.keys())
def test_lengths_that_agree_by_chance(network, x, n, options):
    torch.manual_seed(0)
    model = network().double()
    y = torch.arange(n) % 2
    ggn = vivit.GGN(model, CE, (x, y), **options)
    j = oracle.jacobian(model, x, list(ggn._shapes))
    hessian = oracle.loss_hessian(CE, model(x).detach(), y).reshape(*j.shape[:2], *j.shape[:2])
    chosen = options.get("subset", range(n))
    exact = sum(j[i].T @ hessian[i, :, i] @ j[i] for i in chosen) * n / len(chosen)
    columns = ggn.factor_operator() @ torch.eye(ggn.num_columns).double()
    assert torch.allclose(columns @ columns.T, exact, atol=1e-12)
    assert torch.allclose(ggn.gram(), columns.T @ columns, atol=1e-12)
    assert torch.allclose(ggn @ normal(len(exact)), exact @ normal(len(exact)), atol=1e-12)


class Standardised(nn.Module):
    """BatchNorm by hand, which gives NaN where all samples are the same."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        h = self.first(x)
        return self.head(torch.tanh((h - h.mean(0)) / h.std(0)))


@pytest.mark.parametrize("n", [2, 6, 8, 9])
def test_models_that_mix_samples_and_give_nan(n):
    with pytest.raises(UnsupportedError, match="mixes samples"):
        vivit.GGN(Standardised(), CE, (normal(n, 5).float(), torch.arange(n) % 3)).gram()


def test_models_that_mix_samples_are_still_refused():
    class Mixing(DeepSets):
        def forward(self, sets):
            return super().forward(sets) - super().forward(sets).mean(0)

    for x in ([normal(n, 2) for n in (2, 5, 4)], [normal(3, 2, seed=n) for n in range(3)]):
        with pytest.raises(UnsupportedError, match="mixes samples"):
            vivit.GGN(Mixing().double(), CE, (x, torch.arange(3) % 2)).gram()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vivit.GGN(DeepSets().double(), CE, ([normal(2, 2)], torch.tensor([1]))).gram()
