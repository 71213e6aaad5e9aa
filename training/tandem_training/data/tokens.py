"""Captions to token ids, with the tokenizer file of the bundle."""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor


def read_tokenizer(path: Path, max_tokens: int) -> Tokenizer:
    """A tokenizer that adds [CLS] and [SEP], cuts at `max_tokens` and does not pad."""
    return for_captions(Tokenizer.from_file(str(path)), max_tokens)


def for_captions(tokenizer: Tokenizer, max_tokens: int) -> Tokenizer:
    """The tokenizer itself, made to cut at `max_tokens` and not to pad."""
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def as_json(tokenizer: Tokenizer) -> str:
    """As a bundle has it, without a cut."""
    whole = Tokenizer.from_str(tokenizer.to_str())
    whole.no_truncation()
    return whole.to_str(pretty=True)


def pad(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Token ids of b texts → token ids and mask, int64 [b, longest]. Padding has id 0, mask 0."""
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


def pad_tokens(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Text tokens [t, w] of q texts → float32 [q, longest, w] and mask int64 [q, longest].

    Padding is 0 in both."""
    padded = np.zeros((len(rows), max(map(len, rows)), rows[0].shape[-1]), np.float32)
    mask = np.zeros(padded.shape[:2], np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return padded, mask


def cut(row: list[int], longest: int) -> list[int]:
    """The first tokens of a text, `longest` at most, with its last one ([SEP]) at the end."""
    return row if len(row) <= longest else [*row[: longest - 1], row[-1]]


def drop_words(row: list[int], share: float, unknown: int, rng: np.random.Generator) -> list[int]:
    """Replace a share of the tokens between the first and the last by `unknown` ([UNK]), so that
    no single word decides."""
    keep = rng.random(len(row)) >= share
    keep[[0, -1]] = True
    return [token if k else unknown for token, k in zip(row, keep, strict=True)]
