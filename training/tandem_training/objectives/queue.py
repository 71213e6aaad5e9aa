"""The queue of a momentum encoder."""

import torch
from torch import Tensor, nn

EMPTY = -1


class Queue(nn.Module):
    """The last `size` pairs of the momentum encoder, newest first, as further negatives (MoCo, He
    et al. 2019, arXiv:1911.05722). A place not yet filled has the id EMPTY."""

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.register_buffer("text", torch.zeros(size, dim))
        self.register_buffer("image", torch.zeros(size, dim))
        self.register_buffer("ids", torch.full((size,), EMPTY))

    def behind(self, text: Tensor, image: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings [b, d] and image ids [b] of a batch, each followed by those of the queue: [b +
        filled, …]."""
        filled = self.ids != EMPTY
        parts = ((text, self.text), (image, self.image), (ids, self.ids))
        return tuple(torch.cat([new, old[filled]]) for new, old in parts)

    @torch.no_grad()
    def push(self, text: Tensor, image: Tensor, ids: Tensor) -> None:
        for buffer, new in ((self.text, text), (self.image, image), (self.ids, ids)):
            buffer.copy_(torch.cat([new.to(buffer.dtype), buffer])[: len(buffer)])
