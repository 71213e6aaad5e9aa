"""The bundle of a second text encoder: a dual encoder over the same images."""

import tempfile
from functools import partial
from pathlib import Path

from ..loop.checkpoint import load
from ..models.model import Tandem
from ..models.text.second import SecondText
from .card import model_card
from .graphs import Graphs
from .hubs import Corrected
from .write import about_ours, second_languages, write_bundle


def export_second_text(
    checkpoint: Path,
    folder: Path,
    dev: str,
    version: str,
    precision: str = "fp32",
    calibrate: str = "",
    bank: str = "",
    image: Corrected | None = None,
) -> dict:
    """Write the image encoder and the second text encoder, with its tokenizer, as a bundle.

    `image`: the corrected image graph of the bundle that it is added to (`hubs`). See
    `write_bundle`. ValueError if the checkpoint has no second text encoder."""
    state = load(checkpoint)
    model, origins = Tandem.from_checkpoint(state), state.get("data", [])
    weights_of = second_languages(model)
    if not weights_of:
        raise ValueError(
            f"{checkpoint} has no second text encoder: its recipe had no table [second_text]"
        )
    second = model.inputs[SecondText.name]
    languages = sorted(weights_of, key=weights_of.get, reverse=True)
    card = partial(
        model_card,
        config=model.config,
        second=languages,
        origins=origins,
        avoids_hubs=bool(bank),
    )
    graphs = Graphs.with_text(model, second.encoder)
    about = about_ours(version, "Dual encoder", languages, origins)
    with tempfile.TemporaryDirectory() as temporary:
        tokenizer_file = Path(temporary) / "tokenizer.json"
        second.save_tokenizer(tokenizer_file)
        return write_bundle(
            graphs, tokenizer_file, folder, about, card, precision, calibrate, dev, bank, image
        )
