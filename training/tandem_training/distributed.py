"""Data-parallel runs, started by `torchrun --nproc-per-node 2 -m tandem_training.train …`.

Every process ("rank") draws the same global batch and encodes its own rows of it. `gather` joins
the encoders' outputs, with gradient, so the loss is that of the global batch. The gradients are
averaged over the ranks."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

TIMEOUT = timedelta(hours=12)  # the other ranks wait while the first fills a cache or evaluates


def start() -> None:
    """Join the other ranks that torchrun started, if any."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=TIMEOUT)


def device() -> torch.device:
    """The GPU of this process, or the CPU if the machine has none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(own)  # required by NCCL
    return own


def end() -> None:
    """Leave the group of ranks."""
    if dist.is_initialized():
        dist.destroy_process_group()


def count() -> int:
    """Number of ranks."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this rank, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def own_rows(total: int) -> slice:
    """The rows of a global batch that this rank encodes.

    Raises:
        ValueError: the rows do not divide evenly among the ranks.
    """
    if total % count():
        raise ValueError(f"batch = {total} cannot be shared out evenly among {count()} processes")
    share = total // count()
    return slice(rank() * share, (rank() + 1) * share)


def shared_out(most: int) -> int:
    """The most rows up to `most` that the ranks can share out evenly, one each at least."""
    return max(1, most // count()) * count()


def weight(own: Tensor | int, total: Tensor | int) -> Tensor | float:
    """What the mean over `own` of `total` terms weighs on this rank, so that the mean over ranks is
    the mean over all terms."""
    return count() * own / (total + (total == 0))


@contextmanager
def first_rank_first() -> Iterator[None]:
    """Run the block on the first rank, then on the others, which find its files."""
    if count() > 1 and rank() > 0:
        dist.barrier()
    yield
    if count() > 1 and rank() == 0:
        dist.barrier()


def mean(values: dict[str, float]) -> dict[str, float]:
    """Each value's mean over the ranks."""
    if count() == 1:
        return values
    total = torch.tensor(list(values.values()), dtype=torch.float64)
    dist.all_reduce(total)
    return dict(zip(values, (total / count()).tolist(), strict=True))


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace every gradient by its mean over the ranks."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if count() == 1 or not gradients:
        return
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= count()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(count())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        # Each rank's loss depends on these rows, so their gradient is the sum over the ranks.
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(count())[rank()]


def gather(rows: Tensor) -> Tensor:
    """[b, …] of each rank → [ranks · b, …] in order of rank, with gradient. b is the same for all.

    If every rank computes the same loss from gathered rows, the mean over ranks of the parameters'
    gradients (see `average_gradients`) is the gradient of that loss over the global batch.
    `torch.distributed.nn.functional.all_gather` does the same and is deprecated (docs/adr/0009)."""
    return _Gather.apply(rows) if dist.is_initialized() else rows
