"""Options for common kinds of models, against the same written by hand."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import vivit
from vivit.errors import InputError

TOKENS, LENGTH = 7, 5


class Gpt(nn.Module):
    """A language model as transformers has them: of one causal layer."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(TOKENS, 4)
        self.mix = nn.RNN(4, 4, batch_first=True)
        self.head = nn.Linear(4, TOKENS)
        self.caches = []

    def forward(self, input_ids, attention_mask=None, use_cache=True):
        self.caches.append(use_cache)
        return SimpleNamespace(logits=self.head(self.mix(self.embed(input_ids))[0]))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Gpt().double()


IDS = torch.randint(TOKENS, (3, LENGTH), generator=torch.Generator().manual_seed(0))
LABELS = IDS.clone()
LABELS[0, 3:] = -100
MASK = torch.ones_like(IDS)
MASK[0, 3:] = 0

BATCHES = {
    "labels": ({"input_ids": IDS, "labels": LABELS}, LABELS),
    "all": ({"input_ids": IDS}, IDS),
    "padded": ({"input_ids": IDS, "attention_mask": MASK}, LABELS),
}


@pytest.mark.parametrize(("batch", "labels"), BATCHES.values(), ids=BATCHES)
def test_causal_lm(model, batch, labels):
    loss_func = nn.CrossEntropyLoss()

    def forward(model, ids):
        return model.head(model.mix(model.embed(ids))[0])[:, :-1].transpose(1, 2)

    by_hand = vivit.GGN(model, loss_func, (IDS, labels[:, 1:]), forward=forward)
    ggn = vivit.GGN(model, loss_func, batch, **vivit.causal_lm)
    assert ggn.num_columns == by_hand.num_columns
    assert torch.allclose(ggn.eigvalsh(), by_hand.eigvalsh())
    by_token = vivit.GGN(model, loss_func, batch, **vivit.causal_lm, samples="token")
    assert torch.allclose(by_token.eigvalsh(), by_hand.eigvalsh())
    assert len(by_token.directional_derivatives(k=1).gammas) == labels[:, 1:].numel()
    assert torch.allclose(ggn.flatten(ggn.gradient()), by_hand.flatten(by_hand.gradient()))
    assert not any(model.caches)


def test_batches_as_long_as_their_longest_sequence(model):
    """As collators pad them; the same as one batch that is padded to the longest of all."""
    short = {"input_ids": IDS[:2, :3], "labels": IDS[:2, :3]}
    labels = torch.cat([LABELS, IDS[:2]])
    labels[3:, 3:] = -100
    whole = {"input_ids": torch.cat([IDS, IDS[:2]]), "labels": labels}
    loss_func = nn.CrossEntropyLoss()
    data = [{"input_ids": IDS, "labels": LABELS}, short]
    ggn = vivit.GGN(model, loss_func, data, **vivit.causal_lm)
    padded = vivit.GGN(model, loss_func, whole, **vivit.causal_lm)
    assert (ggn.num_columns, padded.num_columns) == ((3 * 4 + 2 * 2) * 6, 5 * 4 * 6)
    assert torch.allclose(ggn.eigvalsh()[-9:], padded.eigvalsh()[-9:])
    assert torch.allclose(ggn.flatten(ggn.gradient()), padded.flatten(padded.gradient()))


def test_what_pads_hold_does_not_matter(model):
    """On either side: a token that is predicted from padding does not count."""
    mask = torch.ones_like(IDS)
    mask[0, :2], mask[1, 3:] = 0, 0
    targets = vivit.causal_lm["target"]({"input_ids": IDS, "attention_mask": mask})
    counts = torch.ones(3, LENGTH - 1, dtype=torch.bool)
    counts[0, :2], counts[1, 2:] = False, False
    assert torch.equal(targets != -100, counts)
    assert torch.equal(targets[counts], IDS[:, 1:][counts])


@pytest.mark.parametrize(
    ("batch", "message"),
    [(IDS, "got Tensor"), ([(IDS,), (IDS,)], "takes mappings, such as .*, got tuple")],
    ids=["tensor", "tuples"],
)
def test_causal_lm_takes_mappings(model, batch, message):
    with pytest.raises(InputError, match=message):
        vivit.GGN(model, nn.CrossEntropyLoss(), batch, **vivit.causal_lm)


def test_causal_lm_without_tokens(model):
    with pytest.raises(InputError, match="needs 'input_ids' or 'labels' in a batch, got 'text'"):
        vivit.GGN(model, nn.CrossEntropyLoss(), {"text": IDS}, **vivit.causal_lm)


def test_monitor_of_a_language_model(model, tmp_path):
    path = tmp_path / "run.jsonl"
    batch = {"input_ids": IDS, "labels": LABELS}
    loss_func = nn.CrossEntropyLoss()
    monitor = vivit.Monitor(model, loss_func, batch, path=path, **vivit.causal_lm)
    monitor(0)
    (line,) = path.read_text().splitlines()
    seen = json.loads(line)["quantities"]
    ggn = vivit.GGN(model, loss_func, batch, **vivit.causal_lm)
    assert seen["eigenvalues"][0] == pytest.approx(float(ggn.eigvalsh()[-1]))
    with torch.no_grad():
        logits = model(IDS).logits[:, :-1]
    counts = LABELS[:, 1:] != -100
    right = (logits.argmax(dim=2) == LABELS[:, 1:])[counts]
    assert seen["accuracy"] == pytest.approx(float(right.double().mean()))
