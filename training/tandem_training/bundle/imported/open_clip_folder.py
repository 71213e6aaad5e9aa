"""Folders of open_clip's hub: open_clip_config.json beside open_clip_model.safetensors."""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..graphs import Graphs
from .graphs import Pixels, padded
from .preprocessing import of_open_clip, read_json
from .tokenizer import clean_as_open_clip, clip_tokenizer, padding_of, tokenizer_in

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"


class OpenClipImage(nn.Module):
    """The image encoder, after the preprocessing of its configuration."""

    def __init__(self, model: nn.Module, pixels: Pixels):
        super().__init__()
        self.model, self.pixels = model, pixels

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model.encode_image(self.pixels(pixels), normalize=True)


class OpenClipText(nn.Module):
    """open_clip pads every text to the full length. The graph pads each text itself."""

    def __init__(self, model: nn.Module, length: int, padding: int):
        super().__init__()
        self.model, self.padding = model, padding
        self.register_buffer("rest", torch.full((1, length), padding))

    def forward(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        ids = padded(token_ids, attention_mask, self.rest, self.padding)
        return self.model.encode_text(ids, normalize=True)


def open_clip_folder(folder: Path) -> tuple[Graphs, Tokenizer, nn.Module]:
    """→ the graphs, the tokenizer with the folder's rules for texts, the model.

    Raises:
        ValueError: a file is missing, or the folder names what a bundle cannot hold.
    """
    config = read_json(folder / CONFIG)
    model_cfg, pixels_cfg = config.get("model_cfg"), config.get("preprocess_cfg")
    if not isinstance(model_cfg, dict) or not isinstance(pixels_cfg, dict):
        raise ValueError(f"{folder / CONFIG} has no model_cfg and preprocess_cfg")
    text_cfg = model_cfg.get("text_cfg", {})
    if text_cfg.get("hf_model_name"):
        raise ValueError(
            f"{folder / CONFIG}: its text encoder is {text_cfg['hf_model_name']} of transformers; "
            "expected one of open_clip"
        )
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} has no {WEIGHTS}; weights in other files are not read")
    import open_clip

    try:
        model = open_clip.create_model(f"local-dir:{folder.resolve()}").eval().float()
    except (RuntimeError, TypeError, KeyError, AssertionError) as error:
        raise ValueError(f"{folder} cannot be loaded by open_clip: {error}") from error
    side = model.visual.image_size
    side = side[0] if isinstance(side, tuple | list) and side[0] == side[-1] else side
    if not isinstance(side, int):
        raise ValueError(f"{folder}: the image size is {side!r}; expected one side of a square")
    given = of_open_clip(pixels_cfg, side, folder / CONFIG)
    tokenizer, padding = _tokenizer(folder, text_cfg)
    length = text_cfg.get("context_length", 77)
    torch.backends.mha.set_fastpath_enabled(False)  # its operator has no ONNX counterpart
    graphs = Graphs(
        OpenClipImage(model, Pixels(given)),
        OpenClipText(model, length, padding),
        None,
        given.rules,
        model_cfg["embed_dim"],
        length,
    )
    return graphs, tokenizer, model


def _tokenizer(folder: Path, text_cfg: dict) -> tuple[Tokenizer, int]:
    """The tokenizer, and the id that pads a text."""
    options = dict(text_cfg.get("tokenizer_kwargs", {}))
    named = text_cfg.get("hf_tokenizer_name")
    clean = options.pop("clean", "whitespace" if named else "lower")
    if options or text_cfg.get("tokenizer_mode"):
        raise ValueError(
            f"{folder / CONFIG}: its tokenizer has the options {[*options, 'tokenizer_mode']}; "
            "expected none but clean"
        )
    if named:
        tokenizer = tokenizer_in(folder)
        padding = padding_of(folder, tokenizer)
    else:
        # Folders have a copy in the form of transformers, which pads otherwise.
        tokenizer, padding = clip_tokenizer(), 0
    clean_as_open_clip(tokenizer, clean)
    return tokenizer, padding
