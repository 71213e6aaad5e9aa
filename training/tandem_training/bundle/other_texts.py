"""A bundle with several text encoders over the same images, each for its languages."""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from ..data.samples import read_shards
from ..loop.checkpoint import load
from ..models.model import Tandem
from .bundle import read_manifest, refuse_other_folder, write_manifest
from .card import card_of_more_texts
from .encoders import TorchEncoders
from .goldens import of_encoder
from .graphs import Graphs
from .hubs import correct_hubs
from .second_text import export_second_text
from .write import export_bundle, tokenizer_of


def export_both_texts(checkpoint: Path, folder: Path, bank: str = "", **options) -> dict:
    """Write the bundle of a checkpoint with both its text encoders; see `write_bundle` for the
    options.

    Returns:
        The manifest.
    Raises:
        ValueError: the checkpoint has no second text encoder; see `write_bundle` for others.
    """
    graphs = _corrected(checkpoint, bank) if bank else None
    image = graphs.image if graphs else None
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        first, second = Path(temporary) / folder.name, Path(temporary) / "second"
        # The second is first to fail: a checkpoint may have none.
        export_second_text(checkpoint, second, bank=bank, image=image, **options)
        export_bundle(checkpoint, first, None, bank=bank, corrected=graphs, **options)
        manifest = add_text_encoder(first, second)
        refuse_other_folder(folder)
        shutil.rmtree(folder, ignore_errors=True)
        first.rename(folder)
    return manifest


def _corrected(checkpoint: Path, bank: str) -> Graphs:
    """The graphs of the first text encoder, corrected by the bank."""
    state = load(checkpoint)
    graphs = Graphs.of(Tandem.from_checkpoint(state))
    encoders = TorchEncoders(graphs, tokenizer_of(state, graphs.max_tokens), bfloat16=False)
    return correct_hubs(graphs, encoders, read_shards(bank, {"en": 1.0}))


def add_text_encoder(folder: Path, other: Path) -> dict:
    """Put the text encoder of the bundle `other`, which has the same image encoder, into the bundle
    in `folder`, with its languages, match rule, goldens and figures.

    Returns:
        The manifest.
    Raises:
        ValueError: the image encoders differ, or a language is in both.
    """
    manifest, added = read_manifest(folder), read_manifest(other)
    if both := set(_languages(manifest)) & set(_languages(added)):
        raise ValueError(f"{other} is for {', '.join(sorted(both))}, which {folder} has already")
    goldens, new = (json.loads((path / "goldens.json").read_text()) for path in (folder, other))
    images = [np.array(recorded["image"]["embedding"]) for recorded in (goldens, new)]
    least = goldens["tolerances"]["embedding_cosine"]
    if images[0].shape != images[1].shape or not images[0] @ images[1] >= least:
        raise ValueError(f"{folder} and {other} embed an image differently; expected one encoder")
    others = manifest.setdefault("other_text_encoders", [])
    number = len(others) + 1
    entry = {"languages": added["languages"], "match": added["match"]}
    entry |= {k: v for k, v in added["text_encoder"].items() if k in ("max_tokens", "precision")}
    for key in ("file", "tokenizer"):
        source = Path(added["text_encoder"][key])
        entry[key] = f"{source.stem}-{number}{source.suffix}"
        shutil.copy(other / source, folder / entry[key])
    others.append(entry)
    goldens["texts"] += [text | {"encoder": number} for text in of_encoder(new, 0)]
    (folder / "goldens.json").write_text(json.dumps(goldens, ensure_ascii=False) + "\n")
    for name, figures in added["metrics"].items():
        measured = manifest["metrics"].setdefault(name, {}).setdefault("languages", {})
        measured |= {added["languages"][0]: figures["bundle"]} | figures.get("languages", {})
    card = folder / "README.md"
    card.write_text(card_of_more_texts(manifest, card.read_text()))
    manifest.pop("files")
    write_manifest(folder, manifest)
    return manifest


def _languages(manifest: dict) -> list[str]:
    """The languages of all text encoders of a bundle."""
    others = manifest.get("other_text_encoders", [])
    return manifest["languages"] + [name for entry in others for name in entry["languages"]]
