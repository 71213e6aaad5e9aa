"""The PyTorch model behind the contract that evaluation reads (`evaluate.Encoders`)."""

from collections.abc import Callable

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from .model import Tandem
from .tokens import pad, pad_tokens
from .vision import dequantise_tokens, quantise_tokens


class TorchEncoders:
    """`keep` is the form in which image tokens are stored: int8 as in a bundle, or float tokens as they come back from
    another form."""

    def __init__(
        self,
        model: Tandem,
        tokenizer: Tokenizer,
        bfloat16: bool = True,
        keep: Callable[[Tensor], Tensor] = quantise_tokens,
    ):
        self.model, self.tokenizer, self._keep = model.eval(), tokenizer, keep
        self.image_size = model.config.image_size
        self._precision = lambda: torch.autocast("cpu", torch.bfloat16, enabled=bfloat16)

    @torch.inference_mode()
    def images(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with self._precision():
            embedding, tokens = self.model.encode_images(torch.from_numpy(pixels))
        return embedding.numpy(), self._keep(tokens).numpy()

    @torch.inference_mode()
    def texts(self, captions: list[str]) -> tuple[np.ndarray, list[np.ndarray]]:
        rows = [e.ids for e in self.tokenizer.encode_batch(captions)]
        with self._precision():
            embedding, tokens = self.model.encode_texts(*pad(rows))
        return embedding.numpy(), [tokens[i, : len(row)].numpy() for i, row in enumerate(rows)]

    @torch.inference_mode()
    def logits(self, text_tokens: list[np.ndarray], image_tokens: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        padded, mask = (torch.from_numpy(array) for array in pad_tokens(text_tokens))
        image_tokens = torch.from_numpy(image_tokens)
        if image_tokens.dtype == torch.int8:
            image_tokens = dequantise_tokens(image_tokens)
        with self._precision():
            return self.model.fusion(padded, mask, image_tokens, torch.from_numpy(pairs)).float().numpy()
