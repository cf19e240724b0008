"""Dense float64 reference for everything that the library computes; does not import it."""

import torch
from torch import Tensor, nn


def jacobian(model: nn.Module, x, names: list[str]) -> Tensor:
    """Jacobian of the flattened outputs, shape [N, |out|, D]."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def outputs(*chosen: Tensor) -> Tensor:
        replaced = {**parameters, **dict(zip(names, chosen, strict=True))}
        return torch.func.functional_call(model, replaced, (x,))

    chosen = tuple(parameters[name] for name in names)
    pieces = torch.autograd.functional.jacobian(outputs, chosen)
    n = len(outputs(*chosen))
    return torch.cat(
        [piece.reshape(n, -1, p.numel()) for piece, p in zip(pieces, chosen, strict=True)], dim=2
    )


def loss_hessian(loss_func: nn.Module, f: Tensor, y: Tensor) -> Tensor:
    """Hessian of the batch loss by all outputs, shape [N * |out|, N * |out|]."""

    def loss(flat: Tensor) -> Tensor:
        return loss_func(flat.reshape(f.shape), y)

    return torch.autograd.functional.hessian(loss, f.detach().flatten())


def ggn(model: nn.Module, loss_func: nn.Module, x, y: Tensor, names: list[str]) -> Tensor:
    """The GGN ``J^T H J``, shape [D, D]."""
    with torch.no_grad():
        f = model(x)
    j = jacobian(model, x, names).flatten(end_dim=1)
    return j.T @ loss_hessian(loss_func, f, y) @ j


def gradient(model: nn.Module, loss_func: nn.Module, x, y: Tensor, names: list[str]) -> Tensor:
    """The gradient of the batch loss, shape [D]."""
    parameters = dict(model.named_parameters())
    grads = torch.autograd.grad(
        loss_func(model(x), y), [parameters[name] for name in names], allow_unused=True
    )
    return torch.cat(
        [
            (torch.zeros_like(parameters[name]) if g is None else g).flatten()
            for name, g in zip(names, grads, strict=True)
        ]
    )


def sample_gradients(model: nn.Module, loss_func, x, y: Tensor, names: list[str]) -> Tensor:
    """Gradients of each sample's own loss, shape [N, D]."""
    with torch.no_grad():
        f = model(x)
    f.requires_grad_()
    (by_output,) = torch.autograd.grad(loss_func(f, y), f)
    by_output *= len(f) if getattr(loss_func, "reduction", "mean") == "mean" else 1
    return torch.einsum("ncd,nc->nd", jacobian(model, x, names), by_output.reshape(len(f), -1))


def outer_products(gradients: Tensor, weight: float, centered: bool) -> Tensor:
    """``weight sum_n g_n g_n^T``, shape [D, D]; ``g_n`` without their mean if it is centred."""
    if centered:
        gradients = gradients - gradients.mean(dim=0)
    return weight * gradients.T @ gradients
