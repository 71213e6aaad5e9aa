"""PyTorch graphs behind the contract that evaluation reads (`evaluate.Encoders`)."""

import numpy as np
import torch
from tokenizers import Tokenizer

from .graphs import Graphs
from .tokens import pad, pad_tokens


class TorchEncoders:
    def __init__(self, graphs: Graphs, tokenizer: Tokenizer, bfloat16: bool = True):
        self.graphs, self.tokenizer, self.image_size = graphs, tokenizer, graphs.image_size
        self._precision = lambda: torch.autocast("cpu", torch.bfloat16, enabled=bfloat16)

    @torch.inference_mode()
    def images(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with self._precision():
            given = self.graphs.image(torch.from_numpy(pixels))
        if self.graphs.fusion is None:
            return given.numpy(), np.empty((len(pixels), 0, 0), np.int8)
        return given[0].numpy(), given[1].numpy()

    @torch.inference_mode()
    def texts(self, captions: list[str]) -> tuple[np.ndarray, list[np.ndarray]]:
        rows = [e.ids for e in self.tokenizer.encode_batch(captions)]
        with self._precision():
            given = self.graphs.text(*pad(rows))
        if self.graphs.fusion is None:
            return given.numpy(), [np.empty((len(row), 0), np.float32) for row in rows]
        return given[0].numpy(), [given[1][i, : len(row)].numpy() for i, row in enumerate(rows)]

    @torch.inference_mode()
    def logits(self, text_tokens: list[np.ndarray], image_tokens: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        if self.graphs.fusion is None:
            return np.zeros(len(pairs), np.float32)
        padded, mask = (torch.from_numpy(array) for array in pad_tokens(text_tokens))
        with self._precision():
            return self.graphs.fusion(padded, mask, torch.from_numpy(image_tokens), torch.from_numpy(pairs)).numpy()
