"""Rows of every process of a data-parallel run, with gradient: a contrastive loss then sees the
global batch."""

import torch
import torch.distributed as dist
from torch import Tensor


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        # Every process holds a loss that depends on these rows: theirs is the sum of what all of
        # them ask for.
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def gather(rows: Tensor) -> Tensor:
    """[b, …] of this process → [processes · b, …] in order of rank; the same tensor where there is
    one process. Every process must give as many rows.

    When every process computes the same loss from gathered rows, the mean over processes of their
    parameters' gradients (what DistributedDataParallel takes) is the gradient of that loss over the
    global batch."""
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    return _Gather.apply(rows)
