"""Tokens for a fusion encoder, out of the states of a dual encoder that has none.

The states of a layer share a large mean, beside which patches differ little. Without it, on the
directions in which they vary most (principal components), few numbers hold what an item stores."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.samples import Sample
from ...data.tokens import pad, read_tokenizer
from ...models.vision.vision import quantise_tokens
from ..graphs import Graphs

IMAGES = 256  # at most, that the directions come from
BATCH = 16


class TokenProjection(nn.Module):
    """States [b, n, w] → unit tokens [b, n, v]."""

    def __init__(self, mean: Tensor, directions: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)  # [w]
        self.register_buffer("directions", directions)  # [w, v]

    @classmethod
    def of(cls, states: Tensor, width: int) -> "TokenProjection":
        """On the first principal directions of states [m, w]. ValueError for fewer than `width`."""
        if min(states.shape) < width:
            raise ValueError(
                f"tokens of {width} numbers need as many states, and states as wide; there are "
                f"{states.shape[0]} of width {states.shape[1]}"
            )
        states = _level(states)
        mean = states.mean(0)
        _, _, directions = torch.linalg.svd(states - mean, full_matrices=False)
        return cls(mean, directions[:width].T.contiguous())

    def forward(self, states: Tensor) -> Tensor:
        return F.normalize((_level(states) - self.mean) @ self.directions, dim=-1)


class WithTokens(nn.Module):
    """An encoder whose `states` gives the embedding and the states of its places."""

    def __init__(
        self, encoder: nn.Module, project: TokenProjection, keep: Callable[[Tensor], Tensor]
    ):
        super().__init__()
        self.encoder, self.project, self.keep = encoder, project, keep

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        embedding, states = self.encoder.states(*inputs)
        return embedding, self.keep(self.project(states))


class NoFusion(nn.Module):
    """Holds the place of a fusion encoder that is still to be trained: every logit is 0."""

    def forward(
        self, text_tokens: Tensor, attention_mask: Tensor, image_tokens: Tensor, pairs: Tensor
    ) -> Tensor:
        texts = (text_tokens * attention_mask.unsqueeze(-1)).sum((1, 2))[pairs[:, 0]]
        return 0 * (texts + image_tokens.float().sum((1, 2))[pairs[:, 1]])


@torch.no_grad()
def with_tokens(graphs: Graphs, tokenizer_file: Path, samples: list[Sample], width: int) -> Graphs:
    """The graphs of a dual encoder with tokens of both sides, and no fusion encoder yet.

    Args:
        graphs: whose encoders have `states`.
        samples: images and captions that the directions come from.
        width: of a token.
    Raises:
        ValueError: too few samples for the width.
    """
    chosen = np.random.default_rng(0).permutation(len(samples))[:IMAGES]
    samples = [samples[i] for i in chosen]
    tokenizer = read_tokenizer(tokenizer_file, graphs.max_tokens)
    image_states, text_states = [], []
    for i in range(0, len(samples), BATCH):
        batch = samples[i : i + BATCH]
        pixels = torch.from_numpy(np.stack([graphs.rules.pixels(s.jpeg) for s in batch]))
        image_states.append(graphs.image.states(pixels)[1])
        ids, mask = pad([tokenizer.encode(s.captions[0]).ids for s in batch])
        text_states.append(graphs.text.states(ids, mask)[1][mask == 1])
    image_states = torch.cat(image_states)  # [m, n, w]
    image = TokenProjection.of(image_states.flatten(0, 1), width)
    text = TokenProjection.of(torch.cat(text_states), width)
    cells = image_states.shape[1]
    return replace(
        graphs,
        image=WithTokens(graphs.image, image, quantise_tokens),
        text=WithTokens(graphs.text, text, _unit_variance),
        fusion=NoFusion(),
        cells=cells,
        image_token_width=width,
        token_width=width,
    )


def _level(states: Tensor) -> Tensor:
    """Each state with mean 0 and variance 1: one number of CLIP's states is far above all others
    ("massive activations", Sun et al. 2024, arXiv:2402.17762)."""
    states = states - states.mean(-1, keepdim=True)
    return states * torch.rsqrt(states.square().mean(-1, keepdim=True) + 1e-5)


def _unit_variance(tokens: Tensor) -> Tensor:
    """A fusion reads text tokens whose numbers have the size of a layer norm's."""
    return tokens * tokens.shape[-1] ** 0.5
