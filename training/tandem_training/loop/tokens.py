"""The embeddings and tokens that a bundle gives to captioned images, computed once and kept."""

import hashlib
import json
from pathlib import Path

import numpy as np

from ..bundle.encoders import BundleEncoders
from ..data.atomic import replace_file
from ..data.samples import Sample
from ..evaluation.retrieval import Encoded


def encoded_once(encoders: BundleEncoders, samples: list[Sample], folder: Path) -> Encoded:
    """The samples after the encoders of a bundle. The result is kept in `folder`, under a name that
    holds the hash of the graphs, the images and the captions. Text tokens are kept as float16."""
    path = folder / f"tokens-{_key(encoders, samples)}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, Encoded(encoders, samples))
    with np.load(path) as kept:
        starts = np.cumsum(kept["lengths"])[:-1]
        return Encoded.of(
            samples,
            (kept["image_embedding"], kept["image_tokens"]),
            (kept["text_embedding"], np.split(kept["text_tokens"], starts)),
        )


def _write(path: Path, encoded: Encoded) -> None:
    with replace_file(path) as file:
        np.savez(
            file,
            image_embedding=encoded.image_embedding,
            image_tokens=encoded.image_tokens,
            text_embedding=encoded.text_embedding,
            text_tokens=np.concatenate(encoded.text_tokens).astype(np.float16),
            lengths=[len(tokens) for tokens in encoded.text_tokens],
        )


def _key(encoders: BundleEncoders, samples: list[Sample]) -> str:
    graphs = {encoders.manifest[part]["file"] for part in ("image_encoder", "text_encoder")}
    graphs |= {encoders.manifest["text_encoder"]["tokenizer"]}
    hashes = [file["sha256"] for file in encoders.manifest["files"] if file["path"] in graphs]
    content = [[hashlib.sha256(s.jpeg).hexdigest(), s.captions] for s in samples]
    rules = encoders.rules.entry()
    return hashlib.sha256(json.dumps([hashes, rules, content]).encode()).hexdigest()[:16]
