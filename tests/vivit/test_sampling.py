"""What counts as a sample: its options, in all places that take them, and what is refused."""

import oracle
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from units import (
    ALLOW,
    CASES,
    CE,
    MSE,
    NAMED,
    SUM,
    TOKEN,
    Classes,
    Graph,
    Language,
    Pooled,
    assert_close,
    dense_of,
    integers,
    made,
    normal,
    per_token,
    weights,
)

import vivit
from vivit.errors import InputError, InsufficientMemoryError, UnsupportedError


def test_ignored_tokens_are_samples_without_curvature():
    dense, ours = made(NAMED["language model"])
    ignored = (NAMED["language model"].y == -100).flatten()
    assert ignored.any()
    per_token = ours.gram().diagonal().unflatten(0, (dense.n, -1)).sum(dim=1)
    assert torch.equal(per_token == 0, ignored)
    d = ours.directional_derivatives(k=2)
    assert float(d.gammas[ignored].abs().max()) < 1e-12
    assert float(d.lambdas[ignored].abs().max()) < 1e-24


def test_the_ggn_is_that_of_sequences_but_the_fisher_is_not():
    case = NAMED["language model"]
    dense, by_token = made(case)
    by_sequence = vivit.GGN(dense.model, case.loss, (case.x, case.y))
    assert_close(by_token.gram(), by_sequence.gram())
    _, fisher = made(case, vivit.EmpiricalFisher)
    of_sequences = vivit.EmpiricalFisher(dense.model, case.loss, (case.x, case.y))
    assert (fisher.num_columns, of_sequences.num_columns) == (12, 3)
    assert not torch.allclose(fisher.eigvalsh()[-1], of_sequences.eigvalsh()[-1], rtol=0.1)


@pytest.mark.parametrize("name", ["graph", "language model"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_solvers(name, dtype):
    """Iterations that need products alone, and matrices in double precision."""
    case = NAMED[name]
    dense = dense_of(case)
    x = case.x if case.x.dtype == torch.int64 else case.x.to(dtype)
    model = case.model().to(dtype)
    model.load_state_dict(dense.model.state_dict())
    ours = vivit.GGN(model, case.loss, (x, case.y), **case.options)
    exact, tolerance = dense.ggn(), 1e-5 if dtype is torch.float32 else 1e-8
    values = torch.linalg.eigvalsh(exact)
    for method in (vivit.Lanczos(), vivit.FullGram()):
        d = ours.directional_derivatives(k=2, method=method)
        mean = d.lambdas.double().mean(dim=0)
        assert_close(mean, values[-2:], values[-1], tolerance)
    scale = float(values[-1])
    b = normal(len(exact)).to(dtype)
    solved = ours.solve(b, damping=scale, method=vivit.ConjugateGradients())
    damped = exact + scale * torch.eye(len(exact)).double()
    expected = torch.linalg.solve(damped, b.double())
    assert_close(solved.double(), expected, expected.norm(), 1e-4)


def test_batches_of_different_lengths():
    """Sequences of other lengths, and graphs with other numbers of nodes."""
    model = Classes(Language()).double()
    batches = [(integers(5, 2, n), integers(5, 2, n)) for n in (3, 4)]
    ours = vivit.GGN(model, CE, batches, **TOKEN)
    names = [name for name, _ in model.named_parameters()]
    exact = sum(oracle.ggn(model, CE, x, y, names) * y.numel() / 14 for x, y in batches)
    assert_close(ours.eigvalsh(), torch.linalg.eigvalsh(exact)[-len(ours.gram()) :], exact.trace())
    assert_close(ours @ normal(len(exact)), exact @ normal(len(exact)), exact.trace())
    d = ours.directional_derivatives(k=2)
    assert d.gammas.shape == d.lambdas.shape == (14, 2)
    assert_close(d.lambdas.mean(dim=0), torch.linalg.eigvalsh(exact)[-2:], exact.trace(), 1e-8)
    model, batches = per_token().double(), [(normal(n, 4), integers(3, n)) for n in (2, 3)]
    for options in ({}, {"subset": [0, 2, 3]}, {"approximation": vivit.MonteCarlo(2)}):
        apart = vivit.GGN(model, CE, batches, **options)
        graphs = vivit.GGN(model, CE, batches, **options, **ALLOW)
        assert_close(graphs.gram(), apart.gram())
        d, expected = (x.directional_derivatives(k=2) for x in (graphs, apart))
        assert_close(d.lambdas, expected.lambdas)
    tokens = vivit.GGN(
        Classes(Language()).double(),
        CE,
        [(integers(5, 2, 3), integers(5, 2, 3))] * 2,
        subset=[0, 1, 7],
        **TOKEN,
    )
    assert tokens.gram().shape == (12, 12)


def test_running_statistics_stay_as_they_were():
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).double()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    x, y = normal(6, 4), integers(3, 6)
    assert vivit.check(model, CE, (x, y), **ALLOW)
    refused = vivit.check(model, CE, (x, y)).refused
    assert "BatchNorm1d '1' uses the statistics of the batch" in refused[0]
    found = vivit.GGN(model, CE, (x, y), **ALLOW).eigvalsh()
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    names = [name for name, _ in model.named_parameters()]
    exact = torch.linalg.eigvalsh(oracle.ggn(model, CE, x, y, names))
    assert_close(found, exact[-len(found) :], exact[-1])


def test_called_models_and_mappings():
    model = Graph().double()
    x, y = normal(7, 4), integers(3, 7)
    exact = vivit.GGN(model, CE, (x, y), **ALLOW).eigvalsh()
    batch = {"x": x, "labels": y}
    ours = vivit.GGN(model, CE, batch, forward=lambda m, b: {"logits": m(b["x"])}, **ALLOW)
    assert_close(ours.eigvalsh(), exact)


def test_what_fits_instead():
    with pytest.raises(InsufficientMemoryError) as caught:
        made(NAMED["language model"], memory=60_000)[1].eigvalsh()
    assert "MonteCarlo(samples=1)" in str(caught.value)
    assert "subset" not in str(caught.value)


def token_loss(f, y):
    return CE(f, y)


def ggn(loss_func=CE, x=None, y=None, model=None, **options):
    x, y = normal(3, 5, 4) if x is None else x, integers(3, 3, 5) if y is None else y
    model = Classes(per_token()).double() if model is None else model
    return vivit.GGN(model, loss_func, (x, y), **options)


REFUSED = {
    "unknown samples": (
        lambda: ggn(samples="word"),
        InputError,
        "samples must be one of 'sequence', 'token', got 'word'",
    ),
    "unknown mixing": (
        lambda: ggn(mixing=True),
        InputError,
        "mixing must be one of 'refuse', 'allow', got True",
    ),
    "a loss of which tokens are not known": (
        lambda: ggn(token_loss, samples="token"),
        UnsupportedError,
        r"got 'token_loss'\. With any other.*mixing='allow'",
    ),
    "no tokens": (
        lambda: ggn(x=normal(3, 4), y=integers(3, 3), model=per_token().double(), samples="token"),
        InputError,
        r"needs outputs of shape \[N, classes, tokens\] for CrossEntropyLoss, got \['N', 3\]",
    ),
    "no tokens of a square loss": (
        lambda: ggn(MSE, normal(3, 4), normal(3, 3), per_token().double(), samples="token"),
        InputError,
        r"needs outputs of shape \[N, tokens, outputs\] for MSELoss",
    ),
    "targets of another shape": (
        lambda: ggn(y=integers(3, 5, 3), samples="token"),
        InputError,
        r"targets of shape \['N', 5\] for outputs of shape \['N', 3, 5\], got \[5, 3\]",
    ),
    "probabilities of another shape": (
        lambda: ggn(y=normal(3, 5, 3).softmax(dim=2), samples="token"),
        InputError,
        r"targets of shape \['N', 3, 5\] for outputs",
    ),
    "weights of tokens": (
        lambda: ggn(
            nn.BCEWithLogitsLoss(weight=weights(5, 3)),
            y=integers(2, 3, 5, 3).double(),
            model=per_token().double(),
            samples="token",
        ),
        InputError,
        r"weights that differ from token to token.*outputs, \[3\]",
    ),
    "sequences that mix": (
        lambda: ggn(
            x=normal(2, 3, 4),
            y=integers(3, 2, 3),
            model=Classes(Pooled()).double(),
            samples="token",
        ).gram(),
        UnsupportedError,
        "mixes samples.*in the forward of Pooled 'model'.*mixing='allow'",
    ),
    "no output": (
        lambda: ggn(forward=lambda m, x: m(x).mean(), mixing="allow"),
        InputError,
        r"The model output has shape \[\]",
    ),
}


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("name", [case.name for case in CASES if case.options == ALLOW])
@pytest.mark.parametrize(
    "options", [{}, {"approximation": vivit.MonteCarlo(20)}, {"memory": 10**6}]
)
def test_laplace(name, options):
    """Both sides of the matrix, and covariances of few rows at a time."""
    case = NAMED[name]
    dense = dense_of(case)
    posterior = vivit.LaplacePosterior(
        dense.model, case.loss, (case.x, case.y), 0.7, **ALLOW, **options
    )
    _, ours = made(case, **{key: x for key, x in options.items() if key != "memory"})
    eye = torch.eye(len(dense.ggn())).double()
    scale = {MSE: case.y.numel(), CE: int((case.y != -100).sum()), SUM: 1}.get(case.loss, dense.n)
    covariance = torch.linalg.inv(scale * (ours @ eye) + 0.7 * eye)
    found = posterior.predictive(case.x)
    f = dense.model(case.x).detach()
    assert_close(found.mean, f)
    assert_close(found.covariance, dense.j @ covariance @ dense.j.mT, 1.0, 1e-8)
    square = sum(float(x.detach().square().sum()) for x in dense.model.parameters())
    evidence = -scale * float(case.loss(f, case.y)) - 0.35 * square
    evidence -= float(torch.logdet(scale * (ours @ eye) / 0.7 + eye)) / 2
    assert abs(float(posterior.log_marginal_likelihood()) - evidence) < 1e-7


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_laplace_some_rows_at_a_time(at_a_time, monkeypatch):
    case = NAMED["graph"]
    dense = dense_of(case)
    posterior = vivit.LaplacePosterior(dense.model, case.loss, (case.x, case.y), **ALLOW)
    whole = posterior.predictive(case.x)
    monkeypatch.setattr(vivit.LaplacePosterior, "_samples_at_a_time", lambda *_: at_a_time)
    assert_close(posterior.predictive(case.x).covariance, whole.covariance)


@pytest.mark.parametrize("name", [case.name for case in CASES if case.options == ALLOW])
def test_ntk(name):
    case = NAMED[name]
    dense = dense_of(case)
    other = case.x.flip(0)
    j2 = oracle.jacobian(dense.model, other, dense.names)
    within = torch.einsum("ncd,mbd->nmcb", dense.j, dense.j)
    between = torch.einsum("ncd,mbd->nmcb", dense.j, j2)
    scale = within.abs().max()
    assert_close(vivit.ntk(dense.model, case.x, **ALLOW), within, scale)
    assert_close(vivit.ntk(dense.model, case.x, other, **ALLOW), between, scale)
    trace = vivit.ntk(dense.model, case.x, other, outputs="trace", **ALLOW)
    assert_close(trace, between.diagonal(dim1=2, dim2=3).sum(dim=2), scale)
    with pytest.raises(InputError, match="batch_size must be None"):
        vivit.ntk(dense.model, case.x, batch_size=2, **ALLOW)


def test_monitor(tmp_path):
    case = NAMED["language model"]
    dense = dense_of(case)
    path, batch = tmp_path / "run.jsonl", (case.x, case.y)
    monitor = vivit.Monitor(dense.model, case.loss, batch, path=path, k=2, **TOKEN)
    seen = monitor(0)
    values = torch.linalg.eigvalsh(dense.ggn()).flip(0)[:2]
    assert_close(torch.tensor(seen.quantities["eigenvalues"]).double(), values, values[0], 1e-6)
    with pytest.raises(InputError, match="samples must be one of"):
        vivit.Monitor(dense.model, case.loss, batch, path=path, samples="word")


def test_functions_as_losses():
    case = NAMED["language model"]
    _, module = made(case)
    function = vivit.GGN(module._curvature._model, F.cross_entropy, (case.x, case.y), **TOKEN)
    assert_close(function.gram(), module.gram())


@pytest.mark.filterwarnings("ignore:The model computes in")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["graph", "packed", "language model"])
def test_half_precision(name, dtype):
    """Some columns are zero, and have no scale."""
    case = NAMED[name]
    dense = dense_of(case)
    model = case.model()
    model.load_state_dict(dense.model.state_dict())
    x = case.x.to(dtype) if case.x.is_floating_point() else case.x
    ours = vivit.GGN(model.to(dtype), case.loss, (x, case.y), **case.options)
    values = torch.linalg.eigvalsh(dense.ggn())
    assert_close(ours.eigvalsh()[-3:].double(), values[-3:], values[-1], 0.02)
    mean = ours.directional_derivatives(k=1).lambdas.double().mean(dim=0)
    assert_close(mean, values[-1:], values[-1], 0.02)
