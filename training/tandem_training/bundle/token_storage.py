r"""What the stored form of the image tokens costs: rerank's recall on dev for several counts and
precisions.

python -m tandem_training.bundle.token_storage runs/fusion/model.pt
'../../shared/data/flickr8k-dev-*.tar' \
    --bundle ../models/tandem-small --write ../docs/bundles.md"""

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.samples import read_shards
from ..data.tokens import read_tokenizer
from ..evaluate import evaluate
from ..models.model import Tandem
from ..models.vision.efficientnet import TOKEN_RANGE, dequantise_tokens, quantise_tokens
from .bundle import read_manifest
from .graphs import Graphs
from .torch_encoders import TorchEncoders

DEPTH = 16
MARKS = ("<!-- image-tokens:begin -->", "<!-- image-tokens:end -->")


def four_bits(tokens: Tensor) -> Tensor:
    """Unit tokens as fifteen levels over the same range as int8, and back."""
    step = TOKEN_RANGE / (7 * math.sqrt(tokens.shape[-1]))
    return torch.clamp(torch.round(tokens / step), -7, 7) * step


def pooled(side: int) -> Callable[[Tensor], Tensor]:
    """Mean of neighbouring cells down to side × side, of unit length again, as int8 and back."""

    def keep(tokens: Tensor) -> Tensor:
        b, n, w = tokens.shape
        grid = tokens.transpose(1, 2).reshape(b, w, math.isqrt(n), math.isqrt(n))
        fewer = F.adaptive_avg_pool2d(grid, side).flatten(2).transpose(1, 2)
        return dequantise_tokens(quantise_tokens(F.normalize(fewer, dim=-1)))

    return keep


# Name, bytes a number, cells kept (0 = all), and what is left of the tokens after storing them.
FORMS: list[tuple[str, float, int, Callable[[Tensor], Tensor]]] = [
    ("float32", 4, 0, lambda tokens: tokens),
    ("int8", 1, 0, lambda tokens: dequantise_tokens(quantise_tokens(tokens))),
    ("4 bits", 0.5, 0, four_bits),
    ("int8, pooled to 5 × 5", 1, 25, pooled(5)),
]


def table(model: Tandem, tokenizer, dev: str, match: dict[str, float]) -> str:
    samples = read_shards(dev)
    rows = ["| stored as | bytes an item | R@1 | R@5 | R@10 |", "|---|---|---|---|---|"]
    for name, size, cells, keep in FORMS:
        report = evaluate(
            TorchEncoders(Graphs.of(model, keep), tokenizer), samples, match, (DEPTH,)
        )
        recall = report["text_to_image"][f"rerank@{DEPTH}"]
        total = int((cells or model.cells) * model.config.image_token_width * size)
        rows.append(
            f"| {name} | {total:,} | {recall['r1']:.1f} | {recall['r5']:.1f} | {recall['r10']:.1f} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("dev", help="glob of shards")
    parser.add_argument(
        "--bundle", type=Path, required=True, help="its tokenizer and match rule are used"
    )
    parser.add_argument(
        "--write", type=Path, required=True, help="document with the marks to write between"
    )
    args = parser.parse_args()
    model = Tandem.from_checkpoint(
        torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    )
    tokenizer = read_tokenizer(args.bundle / "tokenizer.json", model.config.max_tokens)
    found = table(model, tokenizer, args.dev, read_manifest(args.bundle)["match"])
    text = args.write.read_text()
    if not all(mark in text for mark in MARKS):
        raise ValueError(f"{args.write} lacks the marks {' and '.join(MARKS)}")
    between = re.compile(f"{MARKS[0]}.*{MARKS[1]}", re.DOTALL)
    args.write.write_text(between.sub(lambda _: f"{MARKS[0]}\n{found}\n{MARKS[1]}", text))
    print(found)


if __name__ == "__main__":
    main()
