"""A dictionary of visual codes that follows the features by moving averages."""

import torch
from torch import Tensor, nn

SLOWEST, RISE = 0.99, 0.1  # of the decay, and how much it rises a step
SMOOTH = 1e-5


class Dictionary(nn.Module):
    """Every image token becomes the nearest of `count` codes (SOHO, Huang et al. 2021,
    arXiv:2104.03135, section 3.2; decay and smoothing as in researchmm/soho, `necks/utils.py`).

    The codes get no gradient: each is the moving average of the tokens that it is nearest to. The
    tokens get the gradient of their codes (straight-through). A token of zeros, one that an
    objective hides, stays zeros."""

    def __init__(self, width: int, count: int):
        super().__init__()
        self.register_buffer("codes", torch.randn(count, width) * width**-0.5)
        self.register_buffer("counts", torch.zeros(count))
        self.register_buffer("sums", torch.zeros(count, width))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def nearest(self, tokens: Tensor) -> Tensor:
        """Tokens [b, n, v] → ids of their codes, int64 [b, n]."""
        # ‖t − c‖² without ‖t‖², which is the same for all codes
        return (self.codes.square().sum(-1) - 2 * tokens.float() @ self.codes.T).argmin(-1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [b, n, v] → their codes, of the same shape."""
        codes = self.codes[self.nearest(tokens)].to(tokens.dtype)
        hidden = (tokens == 0).all(-1, keepdim=True)
        return (tokens + (codes - tokens).detach()).masked_fill(hidden, 0)

    @torch.no_grad()
    def update(self, tokens: Tensor) -> None:
        """Move the codes to the mean of their tokens [b, n, v]: once a step, on the tokens of all
        processes."""
        flat, ids = tokens.float().flatten(0, 1), self.nearest(tokens).flatten()
        self.updates += 1
        decay = min(RISE * int(self.updates), SLOWEST)
        share, size = 1 - decay, len(self.codes)
        self.counts.mul_(decay).add_(torch.bincount(ids, minlength=size).to(flat), alpha=share)
        total = torch.zeros_like(self.sums).index_add_(0, ids, flat)
        self.sums.mul_(decay).add_(total, alpha=share)
        whole = self.counts.sum()
        smoothed = (self.counts + SMOOTH) / (whole + size * SMOOTH) * whole
        self.codes.copy_(self.sums / smoothed[:, None])
