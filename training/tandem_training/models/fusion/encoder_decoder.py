"""Fusion that writes: an encoder of the image and a prefix, and a decoder over its states."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import CrossLayer, PreNormLayer, attention_bias, causal_bias, merged_bias
from .image_input import ImageInput
from .writer import Writer, WriterConfig


class EncoderDecoder(Writer):
    """An encoder reads the image and the words of a prefix; a decoder writes the text word by word
    over its states (SimVLM, Wang et al. 2021, arXiv:2108.10904, section 3)."""

    name = "encoder_decoder"
    gives = Writer.gives | {"fusion.answers"}

    @dataclass(frozen=True)
    class Config(WriterConfig):
        encoder_layers: int = 2

    def __init__(self, config: Config, text, image):
        super().__init__(config, text, width := config.width)
        self.image_in = ImageInput(config, image, width)
        self.text_in = nn.Linear(text.width, width)
        self.encoder = nn.ModuleList(
            PreNormLayer(width, config.heads, config.dropout) for _ in range(config.encoder_layers)
        )
        self.encoder_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            CrossLayer(width, config.heads, width, config.dropout) for _ in range(config.layers)
        )

    def cells(self, image_tokens: Tensor) -> Tensor:
        """Image tokens [m, n, v] → what the encoder reads [m, n, width]."""
        return self.image_in(image_tokens)

    def task(self, name: str, words: Tensor, mask: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Words [p, t, w] and their mask, cells [p, n, width] → what the encoder reads after the
        cells in a task, and which of all that is there, int64."""
        return words, F.pad(mask, (cells.shape[1], 0), value=1)

    def encode(self, x: Tensor, bias: Tensor | None) -> Tensor:
        for layer in self.encoder:
            x = layer(x, bias)
        return self.encoder_norm(x)

    def decode(self, x: Tensor, bias: Tensor, states: Tensor, seen: Tensor | None) -> Tensor:
        """Words [p, t, width] with the bias of their attention, the encoder's states [p, s, width]
        with theirs."""
        for layer in self.layers:
            x = layer(x, bias, states, seen)
        return self.norm(x)

    def answer(self, cells: Tensor, words: Tensor, seen: Tensor, target: Tensor) -> Tensor:
        """What the decoder makes of an image and a text.

        cells [p, n, width] and words [p, s, w], both as their first layer reads them; `seen` [p,
        n + s] says which of them are there; target [p, t, w]: the words so far, each of whose
        states [p, t, width] predicts the next."""
        known, read = attention_bias(seen), self.text_in(torch.cat([words, target], 1))
        words, target = read[:, : words.shape[1]], read[:, words.shape[1] :]
        states = self.encode(torch.cat([cells, words], 1), known)
        ones = torch.ones(target.shape[:2], dtype=torch.int64, device=seen.device)
        return self.decode(target, causal_bias(ones), states, known)

    def write(self, text_tokens, mask, image_tokens, pairs, prefix=None):
        texts, images = pairs[:, 0], pairs[:, 1]
        words = self.text_in(text_tokens[..., : self.text_width])[texts]  # [p, t, width]
        cells, seen = self.image_in(image_tokens), None  # [m, n, width]
        if prefix is None:
            states = self.encode(cells, None)[images]
        else:
            place = torch.arange(mask.shape[1], device=mask.device)
            known = mask[texts] * (place < prefix[:, None])  # [p, t]
            seen = attention_bias(F.pad(known, (cells.shape[1], 0), value=1))
            states = self.encode(torch.cat([cells[images], words], 1), seen)
        return self.decode(words, causal_bias(mask)[texts], states, seen)

    def read(self, text_tokens, mask, image_tokens, pairs):
        """The encoder's states of words."""
        cells, words = (
            self.image_in(image_tokens),
            self.text_in(text_tokens[..., : self.text_width]),
        )
        n, texts, images = cells.shape[1], pairs[:, 0], pairs[:, 1]
        bias = merged_bias(mask[texts], n, causal=False)
        return self.encode(torch.cat([cells[images], words[texts]], 1), bias)[:, n:]
