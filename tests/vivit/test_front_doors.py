"""What a newcomer meets first, at every front door: each says the same, and what to write."""

import pytest
import torch
import torch.nn.functional as F
from oracle import loss_hessian
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import vivit
from vivit import InputError, UnsupportedError

CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()
X, Y = torch.randn(4, 5), torch.tensor([0, 1, 2, 0])
WIDE = torch.randn(4, 1)


def linear():
    return nn.Linear(5, 3)


def jagged(*parts):
    return torch.nested.as_nested_tensor([*parts], layout=torch.jagged)


class Two(nn.Linear):
    """Called with two tensors."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return super().forward(a + b)


class Many(nn.Linear):
    """Called with more names than a message should list."""

    def forward(self, a, b, c=None, d=None, e=None, f=None, **options):
        return super().forward(a + b)


class Mean(nn.Module):
    """One number for the batch."""

    def forward(self, x):
        return x.mean()


def observed(model, loss_func, data, path):
    vivit.Monitor(model, loss_func, data, path=path / "run.jsonl", k=1)(0)


def checked(model, loss_func, data):
    found = vivit.check(model, loss_func, data)
    assert not found
    raise InputError(found.refused[0])


DOORS = {
    "GGN": lambda path, *case: vivit.GGN(*case),
    "EmpiricalFisher": lambda path, *case: vivit.EmpiricalFisher(*case),
    "block_diagonal": lambda path, *case: vivit.block_diagonal(*case),
    "LaplacePosterior": lambda path, *case: vivit.LaplacePosterior(*case),
    "Monitor": lambda path, *case: observed(*case, path),
    "check": lambda path, *case: checked(*case),
}
TO_ALL = {
    "targets in a mapping": (
        lambda: (linear(), CE, (X, {"y": Y})),
        r"CrossEntropyLoss takes a tensor of targets, got dict\. Say which of it, target=",
    ),
    "targets with weights": (
        lambda: (linear(), CE, (X, (Y, torch.ones(4)))),
        "CrossEntropyLoss takes a tensor of targets, got tuple",
    ),
    "likelihood of a mapping": (
        lambda: (nn.Sequential(linear(), nn.LogSoftmax(dim=1)), nn.NLLLoss(), (X, {"y": Y})),
        "NLLLoss takes a tensor of targets, got dict",
    ),
    "no targets": (lambda: (linear(), CE, (X, None)), "a tensor of targets, got NoneType"),
    "a list of targets": (
        lambda: (linear(), CE, (X, Y.tolist())),
        r"a tensor of targets, got list.*torch.as_tensor\(y\)",
    ),
    "targets elsewhere": (
        lambda: (linear(), CE, (X, Y.to("meta"))),
        "The targets are on meta, the output on cpu",
    ),
    "classes as numbers": (
        lambda: (linear(), CE, (X, Y.float())),
        r"shape \[4, 3\], got \[4\] and dtype torch.float32. For classes, use target.long\(\)",
    ),
    "small integers": (lambda: (linear(), CE, (X, Y.int())), r"Use target.long\(\)"),
    "a column of classes": (
        lambda: (linear(), CE, (X, Y[:, None])),
        r"got shape \[4, 1\] and dtype torch.int64. Use target.reshape\(\[4\]\)",
    ),
    "ones and zeros": (
        lambda: (linear(), CE, (X, F.one_hot(Y, 3))),
        r"got shape \[4, 3\] and dtype torch.int64. Use target.argmax\(dim=1\)",
    ),
    "an accuracy": (
        lambda: (linear(), lambda f, y: (f.argmax(1) == y).float().mean(), (X, Y)),
        "The loss '<lambda>' cannot be differentiated: ",
    ),
    "too few classes": (
        lambda: (linear(), CE, (X, Y[:3])),
        r"class indices of shape \[4\].*got shape \[3\] and dtype torch.int64.$",
    ),
    "a class too many": (lambda: (linear(), CE, (X, Y + 1)), "outside of the classes 0..2"),
    "a row of numbers": (
        lambda: (nn.Linear(5, 1), MSE, (X, WIDE[:, 0])),
        r"got \[4\] \(which would be broadcast\). Use target.reshape\(\[4, 1\]\)",
    ),
    "a row of bits": (
        lambda: (nn.Linear(5, 1), nn.BCEWithLogitsLoss(), (X, (WIDE > 0)[:, 0].float())),
        r"shape \[4, 1\], got \[4\]. Use target.reshape\(\[4, 1\]\)",
    ),
    "a class as loss": (
        lambda: (linear(), nn.CrossEntropyLoss, (X, Y)),
        r"is the class CrossEntropyLoss, expected an object of it: CrossEntropyLoss\(\)",
    ),
    "losses of samples": (
        lambda: (linear(), lambda f, y: F.huber_loss(f, y, reduction="none"), (X, X[:, :3])),
        r"'<lambda>' must return a scalar, got \[4, 3\]. Let it be the mean over samples",
    ),
    "arrays": (lambda: (linear(), CE, (X.numpy(), Y.numpy())), "X is a numpy array: give a ten"),
    "nested targets": (
        lambda: (linear(), CE, (X, torch.nested.nested_tensor([Y[:2], Y[2:]]))),
        r"y is a nested tensor of strided layout.*y.to_padded_tensor\(0.0\)",
    ),
    "a single sample": (lambda: (linear(), CE, (X[0], Y[0])), r"y has shape \[\].*X\[None\]"),
}
TO_ALL_AND_KERNELS = {
    "a loss as output": (
        lambda: (nn.Sequential(linear(), Mean()), CE, (X, Y)),
        r"Is it a loss\? Say where the output is: forward=",
    ),
    "a vector as batch": (
        lambda: (linear(), MSE, (X[0], X[0, :3])),
        r"X has shape \[5\], and the model output \[3\].*Give a batch of it, X\[None\]",
    ),
    "lists of numbers": (
        lambda: (linear(), CE, (X.tolist(), Y)),
        r"inputs are numbers without a tensor: give one, torch.as_tensor\(X\)",
    ),
    "two arguments, one tensor": (
        lambda: (Two(5, 3), CE, (X, Y)),
        r"forward takes \(a, b\), but X is a single tensor.*lambda model, X: model\(\*X\)",
    ),
    "many arguments": (
        lambda: (Many(5, 3), CE, ({"a": X, "z": X}, Y)),
        r"forward takes \(a, b, c=None, d=None, e=None, ...\), and the batch lacks 'b': say how",
    ),
    "numbers as indices": (
        lambda: (nn.Sequential(nn.Embedding(6, 3), nn.Flatten(), nn.Linear(15, 3)), CE, (X, Y)),
        r"looks up its inputs in a table, but they have dtype torch.float32: give.*X.long\(\)",
    ),
    "nested": (
        lambda: (linear(), CE, (torch.nested.nested_tensor([X, X[:2]]), Y[:2])),
        "X is a nested tensor of strided layout.*pad it",
    ),
    "jagged": (
        lambda: (
            linear(),
            CE,
            (torch.nested.as_nested_tensor([X, X], layout=torch.jagged), Y[:2]),
        ),
        r"output is a nested tensor.*forward=lambda model, X: model\(X\).to_padded_tensor",
    ),
    "scripted part": (
        lambda: (nn.Sequential(torch.jit.script(nn.Linear(5, 4)), nn.Linear(4, 3)), CE, (X, Y)),
        "scripted or traced at '0'.*Give the module that it was made of",
    ),
    "without values": (
        lambda: (linear().to("meta"), CE, (X, Y)),
        "on the device meta, where they have no values: weight, bias. Load them",
    ),
}
ALL = {**TO_ALL, **TO_ALL_AND_KERNELS}
QUIET = pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning", "ignore:The PyTorch API of nested tensors"
)


@QUIET
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("make", "message"), ALL.values(), ids=ALL)
def test_each_says_what_to_write(make, message, door, tmp_path):
    with pytest.raises((InputError, UnsupportedError), match=message):
        DOORS[door](tmp_path, *make())


@QUIET
@pytest.mark.parametrize(("make", "message"), TO_ALL_AND_KERNELS.values(), ids=TO_ALL_AND_KERNELS)
def test_kernels_do(make, message):
    model, _, (x, _) = make()
    with pytest.raises((InputError, UnsupportedError), match=message):
        vivit.ntk(model, x)


LOADER = DataLoader(TensorDataset(X, Y), batch_size=2)
NO_INPUTS = {
    "loader": (LOADER, "is a DataLoader, expected the inputs of one batch.*next"),
    "data set": (TensorDataset(X, Y), "is a TensorDataset, expected the inputs"),
    "iterator": (iter(LOADER), "is a _SingleProcessDataLoaderIter, expected the inputs"),
    "array": (X.numpy(), r"is a numpy array: give a tensor, torch.as_tensor\(X"),
}


@pytest.mark.parametrize(("x", "message"), NO_INPUTS.values(), ids=NO_INPUTS)
def test_inputs_that_are_none(x, message):
    with pytest.raises(InputError, match="X " + message):
        vivit.ntk(linear(), x)
    with pytest.raises(InputError, match="X2 " + message.replace(r"\(X", r"\(X2")):
        vivit.ntk(linear(), X, x)
    with pytest.raises(InputError, match="X " + message):
        vivit.LaplacePosterior(linear(), CE, (X, Y)).predictive(x)


NO_DATA = {
    "three parts": ((X, Y, Y), r"got tuple of length 3 \(Tensor, Tensor, Tensor\).*\(X, \(y, wei"),
    "five": ([X] * 5, r"got list of length 5 \(Tensor, Tensor, Tensor, Tensor, ...\)"),
    "array": (X.numpy(), "data must be a batch .* got ndarray"),
    "words": ("train", "data must be a batch .* got str"),
    "data set": (TensorDataset(X, Y), r"got TensorDataset. Of a dataset, take DataLoader"),
    "no labels": (DataLoader(X, 2), r"Batch 0 of data must be \(X, y\).* got Tensor. Of any"),
    "of one": (
        DataLoader(TensorDataset(X), 2),
        r"Batch 0 of data .* got list of length 1 \(Tensor\). Of any other.*target=lambda",
    ),
    "numbered": ([*enumerate(LOADER)], r"got tuple of length 2 \(int, list\)"),
}


@pytest.mark.parametrize(("data", "message"), NO_DATA.values(), ids=NO_DATA)
def test_data_that_are_none(data, message):
    for door in (vivit.GGN, vivit.EmpiricalFisher, vivit.block_diagonal, vivit.LaplacePosterior):
        with pytest.raises(InputError, match=message):
            door(linear(), CE, data)
    with pytest.raises(InputError, match="held_out_batch must be one batch"):
        vivit.Monitor(linear(), CE, data)


def test_vectors_that_are_no_single_sample():
    """A model may make samples of them, if somebody says so."""

    class Cut(nn.Linear):
        def forward(self, x):
            return super().forward(x.reshape(-1, 5))

    model = Cut(5, 3)
    ggn = vivit.GGN(model, CE, (X.flatten(), Y), forward=lambda model, x: model(x))
    expected = vivit.GGN(model, CE, (X, Y), forward=lambda model, x: model(x))
    assert torch.allclose(ggn.eigvalsh(), expected.eigvalsh())


def test_what_a_model_raises_of_a_mapping_that_fits():
    """It is called as it is to be, so that the fault is elsewhere."""

    class Broken(nn.Linear):
        def forward(self, a, **options):
            return super().forward(a * options["scale"])

    with pytest.raises(KeyError, match="scale"):
        vivit.GGN(Broken(5, 3), CE, {"a": X, "axis": X, "labels": Y})


def weighted(output, target):
    losses = F.cross_entropy(output, target[0], reduction="none")
    return (target[1] * losses).mean()


def test_targets_in_nests_as_loaders_give_them():
    """A list of inputs and of a nest, where a user's own batch is a tuple."""
    weights = torch.rand(4)
    expected = vivit.GGN(linear().double(), weighted, (X.double(), (Y, weights.double())))
    model, loader = linear(), DataLoader([*zip(X, zip(Y, weights, strict=True), strict=True)], 4)
    assert isinstance(next(iter(loader)), list)
    model.load_state_dict({n: p.float() for n, p in expected._curvature.parameters.items()})
    for data in (loader, next(iter(loader)), (X, (Y, weights))):
        values = vivit.GGN(model, weighted, data).eigvalsh()
        assert torch.allclose(values.double(), expected.eigvalsh(), rtol=1e-3, atol=1e-6)


class Counted(nn.Module):
    """A weight that is multiplied with sparse counts of words."""

    def __init__(self, product):
        super().__init__()
        self.weight, self.product = nn.Parameter(torch.randn(5, 4)), product

    def forward(self, x):
        return self.product(x, self.weight)


PRODUCTS = {
    "a layer": lambda: nn.Linear(5, 4),
    "a product": lambda: Counted(torch.mm),
    "a sparse product": lambda: Counted(torch.sparse.mm),
    "a sparse product and more": lambda: Counted(
        lambda x, w: torch.sparse.addmm(w[0].expand(4, 4), x, w, beta=0.5)
    ),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support", "ignore:Sparse invariant checks")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
@pytest.mark.parametrize("make", PRODUCTS.values(), ids=PRODUCTS)
def test_sparse_inputs(make, layout):
    """As of words that are counted, against the dense matrix."""
    torch.manual_seed(0)
    model = nn.Sequential(make(), nn.Tanh(), nn.Linear(4, 3)).double()
    dense = (X * (X > 0)).double()
    sparse = dense.to_sparse(layout=layout)
    output = model(sparse)
    parameters = [*model.parameters()]
    rows = [torch.autograd.grad(f, parameters, retain_graph=True) for f in output.flatten()]
    jacobian = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
    exact = jacobian.T @ loss_hessian(CE, output.detach(), Y) @ jacobian
    ggn = vivit.GGN(model, CE, (sparse, Y))
    values, v = ggn.eigvalsh(), torch.ones(len(exact)).double()
    assert torch.allclose(values, torch.linalg.eigvalsh(exact)[-len(values) :], atol=1e-12)
    assert torch.allclose(ggn @ v, exact @ v)
    e = torch.cat([x.flatten(1) for x in ggn.eigh(k=2).vectors.values()], dim=1).T
    assert torch.allclose(exact @ e, e * values[-2:], atol=1e-10)
