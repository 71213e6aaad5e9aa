"""The gradient of batches that exceed memory: encoders a chunk at a time, layers computed twice."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..objectives.features import Tensors, join, split

Losses = dict[str, Tensor]


def backward(encode: Callable[[Tensors], Tensors], objective: Callable[[Tensors], Losses],
             inputs: Tensors, chunk: int = 0, share: float = 1.0) -> Losses:  # fmt: skip
    """Add to every parameter's gradient `share` times that of objective(encode(inputs))["loss"]; →
    the losses.

    inputs: named tensors of b rows each. With 0 < chunk < b, the gradient is cached (GradCache, Gao
    et al. 2021, arXiv:2101.06983). The encoders run without a graph over `chunk` rows at a time.
    The objective over all b rows gives the gradient of their features. The encoders run again,
    chunk by chunk, and pass it on to the parameters. This costs a second forward pass and holds
    activations of `chunk` rows only; the gradient is that of the whole batch."""
    rows, device = len(first := next(iter(inputs.values()))), first.device
    if not 0 < chunk < rows:
        losses = objective(encode(inputs))
        (share * losses["loss"]).backward()
        return losses
    parts = split(inputs, chunk)
    states, features = [], []
    for part in parts:
        states.append(_random_state(device))
        with torch.no_grad():
            features.append(encode(part))
    leaves = {name: rows.detach_().requires_grad_() for name, rows in join(features).items()}
    losses = objective(leaves)
    (share * losses["loss"]).backward()
    state = _random_state(device)
    reached = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    cut = split(reached, chunk) if reached else [{}] * len(parts)
    for part, random, gradients in zip(parts, states, cut, strict=True):
        _set_random_state(random, device)  # the same dropout as in the first pass
        outputs = encode(part)
        pairs = [(outputs[n], g) for n, g in gradients.items() if outputs[n].requires_grad]
        if pairs:
            torch.autograd.backward(*zip(*pairs, strict=True))
    _set_random_state(state, device)
    return losses


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def recompute_layers(model: nn.Module) -> None:
    """Gradient checkpointing (Chen et al. 2016, arXiv:1604.06174): each layer of each stack keeps
    only its input and is computed again on the way back. The gradient stays the same, dropout
    included."""
    for stack in model.modules():
        if isinstance(stack, nn.ModuleList) and all(any(layer.children()) for layer in stack):
            for layer in stack:
                layer.forward = partial(_twice, layer.forward)


def _twice(forward: Callable, *args, **named):
    if not torch.is_grad_enabled():
        return forward(*args, **named)
    return checkpoint(forward, *args, use_reentrant=False, **named)
