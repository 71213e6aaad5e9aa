"""PyTorch graphs behind the contract that evaluation reads (`evaluate.Encoders`)."""

import numpy as np
import torch
from tokenizers import Tokenizer

from ..data.tokens import pad, pad_tokens
from .graphs import Graphs


class TorchEncoders:
    def __init__(self, graphs: Graphs, tokenizer: Tokenizer, bfloat16: bool = True):
        self.graphs, self.tokenizer, self.image_size = graphs, tokenizer, graphs.image_size
        self._device = next(graphs.image.parameters()).device
        self._precision = lambda: torch.autocast(
            self._device.type, torch.bfloat16, enabled=bfloat16
        )

    def _given(self, *arrays: np.ndarray | torch.Tensor) -> list[torch.Tensor]:
        return [torch.as_tensor(array).to(self._device) for array in arrays]

    @torch.inference_mode()
    def images(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with self._precision():
            given = self.graphs.image(*self._given(pixels))
        if self.graphs.fusion is None:
            return given.cpu().numpy(), np.empty((len(pixels), 0, 0), np.int8)
        return given[0].cpu().numpy(), given[1].cpu().numpy()

    @torch.inference_mode()
    def texts(self, captions: list[str]) -> tuple[np.ndarray, list[np.ndarray]]:
        rows = [e.ids for e in self.tokenizer.encode_batch(captions)]
        with self._precision():
            given = self.graphs.text(*self._given(*pad(rows)))
        if self.graphs.fusion is None:
            return given.cpu().numpy(), [np.empty((len(row), 0), np.float32) for row in rows]
        embedding, tokens = (tensor.cpu().numpy() for tensor in given)
        return embedding, [tokens[i, : len(row)] for i, row in enumerate(rows)]

    @torch.inference_mode()
    def logits(
        self, text_tokens: list[np.ndarray], image_tokens: np.ndarray, pairs: np.ndarray
    ) -> np.ndarray:
        if self.graphs.fusion is None:
            return np.zeros(len(pairs), np.float32)
        given = self._given(*pad_tokens(text_tokens), image_tokens, pairs)
        with self._precision():
            return self.graphs.fusion(*given).cpu().numpy()
