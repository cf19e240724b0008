"""Families of models that people have, with random weights, against dense float64 curvature."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import oracle
import pytest
import torch
from torch import nn
from torchvision_mended import mend_if_broken

import vivit

mend_if_broken()
transformers = pytest.importorskip("transformers", reason="the extra models is not installed")
peft = pytest.importorskip("peft", reason="the extra models is not installed")

TOKENS = 11
SMALL = {
    "vocab_size": TOKENS,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GENERATOR = torch.Generator().manual_seed(0)
IDS = torch.randint(3, TOKENS, (3, 6), generator=GENERATOR)
MASK = torch.ones_like(IDS)
MASK[0, 4:] = 0
LABELS = torch.tensor([0, 1, 1])
TEXT = {"input_ids": IDS, "attention_mask": MASK}
CLASSIFIED = {**TEXT, "labels": LABELS}
LOSS = nn.CrossEntropyLoss()


def images(size):
    return {"pixel_values": torch.randn(3, 3, size, size, generator=GENERATOR), "labels": LABELS}


def gpt2():
    config = transformers.GPT2Config(
        vocab_size=TOKENS,
        n_embd=8,
        n_layer=2,
        n_head=2,
        n_positions=16,
        bos_token_id=1,
        eos_token_id=2,
    )
    return transformers.GPT2LMHeadModel(config)


def with_adapters(model, **options):
    """Adapters on frozen weights; those of one side would be zero before a training."""
    config = peft.LoraConfig(r=2, init_lora_weights=False, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks for what transformers renamed
        return peft.get_peft_model(model, config)


def lora():
    return with_adapters(gpt2(), target_modules=["c_attn"], fan_in_fan_out=True)


class EightBits(nn.Linear):
    """A linear layer whose weight is kept in 8 bits, and dequantised in forward."""

    def __init__(self, layer):
        super().__init__(layer.in_features, layer.out_features)
        weight = layer.weight.detach()
        self.scale = float(weight.abs().max() / 127)
        del self.weight
        self.register_buffer("weight", (weight / self.scale).round().to(torch.int8))

    def forward(self, x):
        return nn.functional.linear(x, self.scale * self.weight.to(x.dtype), self.bias)


def lora_on_8_bits():
    model = distilbert()
    for block in model.distilbert.transformer.layer:
        block.attention.q_lin = EightBits(block.attention.q_lin)
        block.attention.v_lin = EightBits(block.attention.v_lin)
    return with_adapters(model, target_modules=["q_lin", "v_lin"], task_type="SEQ_CLS")


def distilbert():
    config = transformers.DistilBertConfig(
        vocab_size=TOKENS,
        dim=8,
        n_layers=2,
        n_heads=2,
        hidden_dim=12,
        num_labels=3,
        max_position_embeddings=16,
    )
    return transformers.DistilBertForSequenceClassification(config)


def t5():
    config = transformers.T5Config(
        vocab_size=TOKENS,
        d_model=8,
        d_kv=4,
        d_ff=12,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
    )
    return transformers.T5ForConditionalGeneration(config)


def answers(model, batch):
    """Of a model with encoder and decoder, of the tokens after the first."""
    found = model(**TEXT, decoder_input_ids=batch["answers"], use_cache=False)
    return found.logits[:, :-1].transpose(1, 2)


@dataclass(frozen=True)
class Family:
    """A kind of model, and how it is called.

    Attributes:
        make: The model.
        batch: A batch of it.
        options: How it is called.
        generic: Parameters that only the generic rule serves.
        tolerance: Of errors, relative to the largest eigenvalue.
    """

    make: Callable[[], nn.Module]
    batch: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    generic: tuple[str, ...] = ()
    tolerance: float = 1e-10


T = transformers
FAMILIES = {
    **{
        f"BERT, {attention} attention": Family(
            lambda attention=attention: T.BertForSequenceClassification(
                T.BertConfig(**SMALL, num_labels=3, attn_implementation=attention)
            ),
            CLASSIFIED,
        )
        for attention in ("eager", "sdpa")
    },
    "DistilBERT": Family(distilbert, CLASSIFIED),
    "LoRA on 8 bits": Family(lora_on_8_bits, CLASSIFIED),
    "GPT-2": Family(gpt2, TEXT, dict(vivit.causal_lm)),
    "LoRA on GPT-2": Family(lora, TEXT, dict(vivit.causal_lm)),
    "LLaMA, grouped queries": Family(
        lambda: T.LlamaForCausalLM(T.LlamaConfig(**SMALL, num_key_value_heads=2)),
        TEXT,
        dict(vivit.causal_lm),
        tolerance=1e-6,  # its norms compute in single precision
    ),
    "T5": Family(
        t5,
        {"answers": IDS[:, :4]},
        {"forward": answers, "target": lambda batch: batch["answers"][:, 1:]},
        tolerance=1e-6,  # so do its norms
    ),
    "ViT": Family(
        lambda: T.ViTForImageClassification(
            T.ViTConfig(
                hidden_size=8,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=12,
                image_size=8,
                patch_size=4,
                num_labels=3,
            )
        ),
        images(8),
    ),
    "Swin": Family(
        lambda: T.SwinForImageClassification(
            T.SwinConfig(
                image_size=8,
                patch_size=2,
                embed_dim=4,
                depths=[1, 1],
                num_heads=[2, 2],
                window_size=2,
                num_labels=3,
            )
        ),
        images(8),
    ),
    "ConvNeXt": Family(
        lambda: T.ConvNextForImageClassification(
            T.ConvNextConfig(
                hidden_sizes=[4, 6], depths=[1, 1], num_stages=2, num_labels=3, patch_size=2
            )
        ),
        images(8),
    ),
    "EfficientNet": Family(
        lambda: T.EfficientNetForImageClassification(
            T.EfficientNetConfig(
                image_size=8,
                width_coefficient=0.025,
                depth_coefficient=0.25,
                hidden_dim=32,
                in_channels=[8, 8],
                out_channels=[8, 8],
                kernel_sizes=[3, 3],
                strides=[1, 2],
                num_block_repeats=[1, 1],
                expand_ratios=[1, 2],
                num_labels=3,
            )
        ),
        images(8),
    ),
    "ResNet, bottlenecks": Family(
        lambda: T.ResNetForImageClassification(
            T.ResNetConfig(
                embedding_size=4,
                hidden_sizes=[8, 8],
                depths=[1, 1],
                layer_type="bottleneck",
                num_labels=3,
            )
        ),
        images(16),
    ),
}


def timm_models():
    """Of timm, which cannot be imported without torchvision."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"timm of the extra models cannot be imported: {error}")
    return timm.models


def timm_vit():
    return timm_models().VisionTransformer(
        img_size=8, patch_size=4, embed_dim=8, depth=2, num_heads=2, num_classes=3
    )


def timm_efficientnet():
    """Squeeze and excitation, and normalisation with its activation in one module."""
    found = timm_models().efficientnet
    stages = found.decode_arch_def([["ds_r1_k3_s1_e1_c8_se0.25"], ["ir_r1_k3_s2_e2_c8_se0.25"]])
    return found.EfficientNet(stages, num_classes=3, num_features=16, stem_size=8)


PIXELS = {
    "forward": lambda model, batch: model(batch["pixel_values"]),
    "target": lambda batch: batch["labels"],
}
FAMILIES["ViT of timm"] = Family(timm_vit, images(8), PIXELS)
FAMILIES["EfficientNet of timm"] = Family(timm_efficientnet, images(8), PIXELS)


class Wrapped(nn.Module):
    """What a family computes, as a module of its whole batch, for the oracle."""

    def __init__(self, model, family):
        super().__init__()
        self.model, self.family = model, family

    def forward(self, batch):
        if "forward" in self.family.options:
            return self.family.options["forward"](self.model, batch)
        return self.model(**{k: v for k, v in batch.items() if k != "labels"}).logits


@pytest.fixture(params=FAMILIES, scope="module")
def family(request):
    """Ours, and the dense matrix."""
    family = FAMILIES[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = family.make().double().eval()
        with torch.no_grad():  # as they are made, some give nearly the same for all inputs
            for p in model.parameters():
                p += 0.1 * torch.randn_like(p)
    batch = {k: v.double() if v.is_floating_point() else v for k, v in family.batch.items()}
    with warnings.catch_warnings():
        if family.tolerance > 1e-10:
            warnings.filterwarnings("ignore", "The model computes in float32")
        if family.generic:
            warnings.filterwarnings("ignore", ".*one per sample and column")
        ggn = vivit.GGN(model, LOSS, batch, **family.options)
        values = ggn.eigvalsh()
    target = family.options.get("target", lambda batch: batch["labels"])(batch)
    names = [f"model.{name}" for name in ggn.parameter_names]
    dense = oracle.ggn(Wrapped(model, family), LOSS, batch, target, names)
    gradient = oracle.gradient(Wrapped(model, family), LOSS, batch, target, names)
    return family, ggn, values, dense, gradient


def test_rules_that_serve(family):
    """No parameter needs the generic rule, or only those that are listed."""
    family, ggn, *_ = family
    served = ggn.plan().done.served_by
    slow = {name for name, way in served.items() if way not in ("affine", "parts", "products")}
    assert slow == set(family.generic)


def test_eigenvalues_products_and_gradients(family):
    family, ggn, values, dense, gradient = family
    exact = torch.linalg.eigvalsh(dense)
    scale = family.tolerance * exact[-1]
    assert (values - exact[-len(values) :]).abs().max() <= scale
    v = torch.linspace(-1, 1, len(dense), dtype=dense.dtype)
    assert (ggn @ v - dense @ v).norm() <= family.tolerance * (exact[-1] * v.norm())
    assert (ggn.flatten(ggn.gradient()) - gradient).norm() <= family.tolerance * gradient.norm()


def test_derivatives_and_steps(family):
    family, ggn, _, dense, gradient = family
    found, derivatives = ggn.eigh(k=2), ggn.directional_derivatives(k=2)
    e = torch.cat([x.flatten(1) for x in found.vectors.values()], dim=1).T
    assert (dense @ e - e * found.values).norm() <= 100 * family.tolerance * found.values[-1]
    slopes = derivatives.gammas.mean(dim=0)
    assert (slopes - e.T @ gradient).abs().max() <= 100 * family.tolerance * gradient.norm()
    step = ggn.flatten(ggn.newton_step(damping=1.0, k=2))
    exact = -e @ ((e.T @ gradient) / (found.values + 1.0))
    assert (step - exact).norm() <= 1000 * family.tolerance * gradient.norm()


@pytest.mark.parametrize("name", FAMILIES)
def test_half_precision(name):
    """As they are mostly kept: by the same rules, and as accurate as bfloat16."""
    family = FAMILIES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = family.make().bfloat16().eval()
    batch = {k: v.bfloat16() if v.is_floating_point() else v for k, v in family.batch.items()}
    with pytest.warns(UserWarning, match="computes in bfloat16"):
        ggn = vivit.GGN(model, LOSS, batch, **family.options)
    values, served = ggn.eigvalsh(), ggn.plan().done.served_by
    single = {k: v.float() if v.is_floating_point() else v for k, v in batch.items()}
    exact = vivit.GGN(model.float(), LOSS, single, **family.options).eigvalsh()
    assert (values - exact).abs().max() <= 0.05 * exact[-1]
    assert set(served.values()) <= {"affine", "parts", "products"}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_page_on_models(name):
    """It has a row for each family; what stands behind a comma is a variant."""
    page = Path(__file__).parents[2] / "docs" / "models.md"
    assert f"| {name.split(',')[0]} |" in page.read_text()
