"""The bundle of a second text encoder: a dual encoder over the same images."""

import tempfile
from functools import partial
from pathlib import Path

import torch

from ..models.model import Tandem
from ..models.text.second import SecondText
from .card import model_card
from .graphs import Graphs
from .write import about_ours, second_languages, write_bundle


def export_second_text(checkpoint: Path, folder: Path, dev: str, version: str, precision: str = "fp32",
                       calibrate: str = "", bank: str = "") -> dict:  # fmt: skip
    """Write the image encoder and the second text encoder, with its tokenizer, as a bundle.

    See `write_bundle`. ValueError if the checkpoint has no second text encoder."""
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    weights_of = second_languages(saved)
    if not weights_of:
        raise ValueError(
            f"{checkpoint} has no second text encoder: its recipe had no table [second_text]"
        )
    model = Tandem.from_checkpoint(saved)
    second = SecondText.from_checkpoint(saved["second_text"], model.config)
    languages = sorted(weights_of, key=weights_of.get, reverse=True)
    card = partial(model_card, config=model.config, second=languages, avoids_hubs=bool(bank))
    graphs = Graphs.with_text(model, second.average)
    about = about_ours(version, "Dual encoder", languages)
    with tempfile.TemporaryDirectory() as temporary:
        tokenizer_file = Path(temporary) / "tokenizer.json"
        second.save_tokenizer(tokenizer_file)
        return write_bundle(
            graphs, tokenizer_file, folder, about, card, precision, calibrate, dev, bank
        )
