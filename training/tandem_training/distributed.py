"""Data-parallel runs: `torchrun --nproc-per-node 2 -m tandem_training.train …` starts a process for
each rank.

Every rank draws the same global batch and encodes its own rows of it; `gather` brings the towers'
outputs together, with gradient, so the loss is that of the global batch; the gradients of the ranks
are averaged."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(hours=12)  # while the first rank fills a cache or evaluates, the others wait


def start() -> None:
    """Join the other ranks, where torchrun has started some."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)


def device() -> torch.device:
    """Where this process computes: on a GPU of its own, where the machine has some."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(own)  # NCCL asks for it
    return own


def end() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def own_rows(total: int) -> slice:
    """The rows of a global batch that this rank encodes. ValueError when they cannot be shared out
    evenly."""
    if total % count():
        raise ValueError(f"batch = {total} cannot be shared out evenly among {count()} processes")
    share = total // count()
    return slice(rank() * share, (rank() + 1) * share)


@contextmanager
def first_rank_first() -> Iterator[None]:
    """The first rank alone goes through the block, then the others, which find its files."""
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
