"""The graphs of a bundle as modules, and their export to ONNX (docs/bundles.md)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..data.pixel_rules import PixelRules
from ..models.model import Tandem
from ..models.vision.vision import dequantise_tokens, quantise_tokens
from .detector import Behind, detector_of, join_detector

OPSET = 17
AXES = {
    "boxes": {0: "images"}, "features": {0: "images"},
    "pixels": {0: "images"}, "image_tokens": {0: "images"}, "embedding": {0: "rows"},
    "token_ids": {0: "texts", 1: "length"}, "attention_mask": {0: "texts", 1: "length"},
    "text_tokens": {0: "texts", 1: "length"}, "pairs": {0: "pairs"}, "logit": {0: "pairs"},
}  # fmt: skip


class ImageGraph(nn.Module):
    """`alone`: without tokens. `keep` makes the stored form of the tokens: int8 in a bundle."""

    def __init__(
        self, model: Tandem, alone: bool, keep: Callable[[Tensor], Tensor] = quantise_tokens
    ):
        super().__init__()
        self.model, self.alone, self.keep = model, alone, keep

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        embedding, tokens = self.model.encode_images(pixels)
        return embedding if self.alone else (embedding, self.keep(tokens))


class TextGraph(nn.Module):
    """The text encoder of a model; `alone`: without its tokens, which only a fusion reads."""

    def __init__(self, model: Tandem, alone: bool):
        super().__init__()
        self.model, self.alone = model, alone

    def forward(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        embedding, tokens = self.model.encode_texts(token_ids, attention_mask)
        return embedding if self.alone else (embedding, tokens)


class OtherTextGraph(nn.Module):
    """A text encoder that is no part of the model."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.encoder(token_ids, attention_mask)[0]


class FusionGraph(nn.Module):
    """The fusion encoder of a model, which reads image tokens as they are stored."""

    def __init__(self, model: Tandem):
        super().__init__()
        self.model = model

    def forward(
        self, text_tokens: Tensor, attention_mask: Tensor, image_tokens: Tensor, pairs: Tensor
    ) -> Tensor:
        if image_tokens.dtype == torch.int8:
            image_tokens = dequantise_tokens(image_tokens)
        return self.model.fusion(text_tokens, attention_mask, image_tokens, pairs).float()


@dataclass
class Graphs:
    """The graphs of a bundle and the sizes in its manifest.

    In a dual encoder alone `fusion` is None, image and text give the embedding only, and the token
    sizes are 0."""

    # pixels uint8 [b, s, s, 3] → embedding [b, dim], image tokens int8 [b, cells, width]
    image: nn.Module
    # token ids, mask int64 [b, t] → embedding [b, dim], text tokens [b, t, token_width]
    text: nn.Module
    # text tokens, mask, image tokens, pairs int64 [p, 2] → logits [p]
    fusion: nn.Module | None
    rules: PixelRules
    dim: int
    max_tokens: int
    cells: int = 0
    image_token_width: int = 0
    token_width: int = 0

    def __post_init__(self):
        for module in (self.image, self.text, self.fusion):
            if module is not None:
                module.eval()

    @classmethod
    def of(cls, model: Tandem, keep: Callable[[Tensor], Tensor] = quantise_tokens) -> "Graphs":
        """The graphs of a model, with its fusion encoder if it has one."""
        config, alone = model.config, not model.serves_fusion
        encoders = (ImageGraph(model, alone, keep), TextGraph(model, alone))
        sizes = (PixelRules(config.vision.image_size), config.dim, config.text.max_tokens)
        if alone:
            return cls(*encoders, None, *sizes)
        token_sizes = (model.cells, config.vision.token_width, model.text_token_width)
        return cls(*encoders, FusionGraph(model), *sizes, *token_sizes)

    @classmethod
    def with_text(cls, model: Tandem, encoder: nn.Module) -> "Graphs":
        """A dual encoder alone: the model's image encoder and another text encoder."""
        config = model.config
        graphs = (ImageGraph(model, alone=True), OtherTextGraph(encoder))
        sizes = (PixelRules(config.vision.image_size), config.dim, config.text.max_tokens)
        return cls(*graphs, None, *sizes)


def export_graphs(graphs: Graphs, folder: Path) -> list[Path]:
    """Write the float32 graphs into `folder`, with dynamic batch and text length → their paths."""
    size = graphs.rules.size
    pixels = {"pixels": torch.zeros(2, size, size, 3, dtype=torch.uint8)}
    ids = torch.ones(2, 7, dtype=torch.int64)
    texts = {"token_ids": ids, "attention_mask": ids}
    written = []
    for name, module, examples, tokens in (
        ("image-encoder", graphs.image, pixels, "image_tokens"),
        ("text-encoder", graphs.text, texts, "text_tokens"),
    ):
        outputs = ["embedding"] + [tokens] * (graphs.fusion is not None)
        written.append(folder / f"{name}.onnx")
        detector = detector_of(module)
        if detector and module is graphs.image:
            n, width = detector.regions, detector.width
            regions = {"boxes": torch.zeros(2, n, 4), "features": torch.zeros(2, n, width)}
            _export(Behind(module), regions, outputs, written[-1])
            join_detector(detector, written[-1], outputs)
        else:
            _export(module, examples, outputs, written[-1])
    if graphs.fusion is not None:
        written.append(folder / "fusion-encoder.onnx")
        widths = (graphs.token_width, graphs.cells, graphs.image_token_width)
        export_fusion(graphs.fusion, widths, written[-1])
    return written


def export_images(module: nn.Module, size: int, path: Path) -> None:
    """Write the float32 graph of a module that gives the image tokens of pixels."""
    pixels = {"pixels": torch.zeros(2, size, size, 3, dtype=torch.uint8)}
    _export(module, pixels, ["image_tokens"], path)


def export_fusion(
    module: nn.Module,
    widths: tuple[int, int, int],
    path: Path,
    text_tokens: Tensor | None = None,
) -> None:
    """Write the float32 graph of a fusion.

    Args:
        widths: of a text token, image tokens an image, of an image token.
        text_tokens: to trace with [2, 7, w]; zeros by default.
    """
    text_width, cells, image_width = widths
    examples = {
        "text_tokens": torch.zeros(2, 7, text_width) if text_tokens is None else text_tokens,
        "attention_mask": torch.ones(2, 7, dtype=torch.int64),
        "image_tokens": torch.zeros(3, cells, image_width, dtype=torch.int8),
        "pairs": torch.tensor([[0, 0], [1, 1], [0, 2], [1, 0]]),
    }
    _export(module, examples, ["logit"], path)


@torch.no_grad()
def _export(module: nn.Module, examples: dict, outputs: list[str], path: Path) -> None:
    torch.onnx.export(
        module,
        tuple(examples.values()),
        path,
        input_names=list(examples),
        output_names=outputs,
        dynamic_axes={name: AXES[name] for name in (*examples, *outputs)},
        opset_version=OPSET,
        dynamo=False,  # the newer exporter makes the pair axis constant
    )
