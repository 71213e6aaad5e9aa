r"""Recall with rerank on dev by the stored form of the image tokens: count and precision.

training/.venv/bin/python bench/training/token_storage.py runs/fusion/model.pt \
    '../shared/data/flickr8k-dev-*.tar' --bundle models/tandem-small --write docs/bundles.md"""

import math
import re
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from tandem_training.bundle.bundle import read_manifest
from tandem_training.bundle.encoders import TorchEncoders
from tandem_training.bundle.graphs import Graphs
from tandem_training.command import argument_parser
from tandem_training.data.samples import read_shards
from tandem_training.data.tokens import read_tokenizer
from tandem_training.evaluation.retrieval import evaluate
from tandem_training.loop.checkpoint import load
from tandem_training.models.model import Tandem
from tandem_training.models.vision.vision import (
    TOKEN_RANGE,
    dequantise_tokens,
    quantise_tokens,
)

DEPTH = 16
MARKS = ("<!-- image-tokens:begin -->", "<!-- image-tokens:end -->")


def four_bits(tokens: Tensor) -> Tensor:
    """Unit tokens [b, n, w] rounded to fifteen levels over the range of int8."""
    step = TOKEN_RANGE / (7 * math.sqrt(tokens.shape[-1]))
    return torch.clamp(torch.round(tokens / step), -7, 7) * step


def eight_bits(tokens: Tensor) -> Tensor:
    """Unit tokens [b, n, w] as int8 and back, as a bundle stores them."""
    return dequantise_tokens(quantise_tokens(tokens))


def pooled(side: int) -> Callable[[Tensor], Tensor]:
    """Means of neighbouring cells on a grid of side × side, of unit length, as int8 and back."""

    def keep(tokens: Tensor) -> Tensor:
        b, n, w = tokens.shape
        grid = tokens.transpose(1, 2).reshape(b, w, math.isqrt(n), math.isqrt(n))
        fewer = F.adaptive_avg_pool2d(grid, side).flatten(2).transpose(1, 2)
        return eight_bits(F.normalize(fewer, dim=-1))

    return keep


# Name, bytes a number, cells (0: all), and the tokens after storing them.
FORMS: list[tuple[str, float, int, Callable[[Tensor], Tensor]]] = [
    ("float32", 4, 0, lambda tokens: tokens),
    ("int8", 1, 0, eight_bits),
    ("4 bits", 0.5, 0, four_bits),
    ("int8, pooled to 5 × 5", 1, 25, pooled(5)),
]


def table(model: Tandem, tokenizer: Tokenizer, dev: str, match: dict[str, float]) -> str:
    """The Markdown table of recall by FORMS, with DEPTH candidates reranked."""
    samples = read_shards(dev)
    rows = ["| stored as | bytes an item | R@1 | R@5 | R@10 |", "|---|---|---|---|---|"]
    for name, size, cells, keep in FORMS:
        encoders = TorchEncoders(Graphs.of(model, keep), tokenizer)
        report = evaluate(encoders, samples, match, (DEPTH,))
        recall = report["text_to_image"][f"rerank@{DEPTH}"]
        total = int((cells or model.cells) * model.config.vision.token_width * size)
        figures = " | ".join(f"{recall[k]:.1f}" for k in ("r1", "r5", "r10"))
        rows.append(f"| {name} | {total:,} | {figures} |")
    return "\n".join(rows)


def main() -> None:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("checkpoint", type=Path)
    add("dev", help="glob of shards")
    add("--bundle", type=Path, required=True, help="its tokenizer and match rule are used")
    add("--write", type=Path, required=True, help="document with the marks to write between")
    args = parser.parse_args()
    model = Tandem.from_checkpoint(load(args.checkpoint))
    tokenizer = read_tokenizer(args.bundle / "tokenizer.json", model.config.text.max_tokens)
    rows = table(model, tokenizer, args.dev, read_manifest(args.bundle)["match"])
    text = args.write.read_text()
    if not all(mark in text for mark in MARKS):
        raise ValueError(f"{args.write} lacks the marks {' and '.join(MARKS)}")
    between = re.compile(f"{MARKS[0]}.*{MARKS[1]}", re.DOTALL)
    args.write.write_text(between.sub(lambda _: f"{MARKS[0]}\n{rows}\n{MARKS[1]}", text))
    print(rows)


if __name__ == "__main__":
    main()
