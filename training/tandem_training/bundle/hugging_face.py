r"""Import a checkpoint of CLIP, SigLIP or BLIP-ITM, a folder saved by `transformers`, as a bundle.

python -m tandem_training.bundle.hugging_face clip-vit-base-patch32 ../models/clip-base \
    --dev '../../shared/data/flickr8k-dev-*.tar'"""

import argparse
import json
import re
import tempfile
from functools import partial
from pathlib import Path

from tokenizers import Regex, Tokenizer, normalizers
from torch import nn

from ..command import errors_as_sentences
from .card import imported_card
from .graphs import Graphs
from .hugging_face_graphs import Pixels, blip_graphs, clip_graphs, siglip_graphs
from .write import CLIP_THRESHOLD, add_options, write_bundle

GEMMA_PIECES = 256_000  # the vocabulary of SigLIP 2
PUNCTUATION = r"[!-/:-@\[-`{-~]"  # string.punctuation
ARCHITECTURES = {"CLIPModel": "CLIP", "SiglipModel": "SigLIP", "BlipForImageTextRetrieval": "BLIP"}


def read_checkpoint(folder: Path) -> tuple[nn.Module, str]:
    """The model and the name of its architecture.

    Raises:
        ValueError: another architecture, or weights are missing.
    """
    config = _json(folder / "config.json")
    named = (config.get("architectures") or ["none"])[0]
    if named not in ARCHITECTURES:
        raise ValueError(
            f"{folder} holds the architecture {named}; known are {', '.join(ARCHITECTURES)}"
        )
    import transformers

    kind = getattr(transformers, named)
    model, loading = kind.from_pretrained(
        folder, attn_implementation="eager", local_files_only=True, output_loading_info=True
    )
    if missing := [*loading["missing_keys"], *loading["mismatched_keys"]]:
        raise ValueError(
            f"{folder}: {len(missing)} weights of {named} are missing or of another shape: "
            f"{missing[:3]}"
        )
    return model.eval().float(), ARCHITECTURES[named]


def read_pixels(folder: Path) -> Pixels:
    """How the checkpoint normalises pixels. ValueError if the folder has no such configuration."""
    alone = folder / "preprocessor_config.json"
    given = (
        _json(alone)
        if alone.is_file()
        else _json(folder / "processor_config.json").get("image_processor") or {}
    )
    plain = not given.get("do_normalize", True)
    mean, std = (
        ([0.0] * 3, [1.0] * 3) if plain else (given.get("image_mean"), given.get("image_std"))
    )
    if not all(isinstance(numbers, list) and len(numbers) == 3 for numbers in (mean, std)):
        raise ValueError(
            f"{folder}: its preprocessor has no image_mean and image_std of three numbers"
        )
    return Pixels(
        given.get("rescale_factor", 1 / 255) if given.get("do_rescale", True) else 1.0, mean, std
    )


def save_tokenizer(folder: Path, path: Path, kind: str) -> Tokenizer:
    """Write `tokenizer.json`, the checkpoint's own or one converted by `transformers`, with the
    rules of `kind`, an architecture.

    Raises:
        ValueError: the tokenizer cannot be converted.
    """
    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    else:
        from transformers import AutoTokenizer

        found = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if not hasattr(found, "backend_tokenizer"):
            raise ValueError(
                f"{folder} has no tokenizer.json, and none can be made of a "
                f"{type(found).__name__}; take that file from another copy of the checkpoint"
            )
        tokenizer = found.backend_tokenizer
    if kind == "SigLIP":
        clean_as_siglip(tokenizer)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(path))
    return tokenizer


def clean_as_siglip(tokenizer: Tokenizer) -> None:
    """Do in the normaliser what the libraries do in code before a text is tokenised: SigLIP 2
    lowercases; SigLIP also removes punctuation and collapses white space
    (big_vision, `pp/ops_text.py`). What the tokenizer does already, found by tokenising, stays."""

    def is_same(one: str, other: str) -> bool:
        return tokenizer.encode(one).ids == tokenizer.encode(other).ids

    steps = []
    is_first = tokenizer.get_vocab_size() < GEMMA_PIECES
    if is_first and not is_same('a "red" car, now!', "a red car now"):
        steps.append(normalizers.Replace(Regex(PUNCTUATION), ""))
    if not is_same("A RED Car", "a red car"):
        steps.append(normalizers.Lowercase())
    if is_first and not is_same("  a  red\n car ", "a red car"):
        steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    if steps:
        own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
        tokenizer.normalizer = normalizers.Sequence([*steps, *own])


def padding_of(folder: Path, tokenizer: Tokenizer) -> int:
    """Id of the padding token. The model's own configuration states ids of other models."""
    named = _json(folder / "tokenizer_config.json").get("pad_token")
    named = named.get("content") if isinstance(named, dict) else named
    found = tokenizer.token_to_id(named) if isinstance(named, str) else None
    if found is None:
        raise ValueError(
            f"{folder}: tokenizer_config.json names the pad_token {named!r}, which is no token"
        )
    return found


def graphs_of(
    model: nn.Module, kind: str, folder: Path, tokenizer: Tokenizer
) -> tuple[Graphs, dict]:
    """The graphs, and the match rule of the checkpoint itself."""
    pixels, side = read_pixels(folder), model.config.vision_config.image_size
    if not isinstance(side, int):
        raise ValueError(f"{folder}: the image size is {side!r}; expected one side of a square")
    if kind == "BLIP":
        return blip_graphs(model, pixels), {"logit": 1.0, "similarity": 0.0, "bias": 0.0}
    scale = model.logit_scale.exp().item()
    if kind == "CLIP":
        return clip_graphs(model, pixels), {
            "logit": 0.0,
            "similarity": scale,
            "bias": -CLIP_THRESHOLD * scale,
        }
    graphs = siglip_graphs(model, pixels, padding_of(folder, tokenizer))
    return graphs, {"logit": 0.0, "similarity": scale, "bias": model.logit_bias.item()}


def import_checkpoint(
    source: Path,
    folder: Path,
    version: str = "1.0.0",
    languages: tuple[str, ...] = ("en",),
    precision: str = "fp32",
    calibrate: str = "",
    dev: str = "",
    bank: str = "",
) -> dict:
    """Write the bundle of the checkpoint in `source` → its manifest; see `write_bundle`."""
    model, kind = read_checkpoint(source)
    with tempfile.TemporaryDirectory() as temporary:
        tokenizer = Path(temporary) / "tokenizer.json"
        graphs, match = graphs_of(model, kind, source, save_tokenizer(source, tokenizer, kind))
        about = {
            "version": version,
            "description": f"{kind} imported from {source.resolve().name}",
            "license": _license(source),
            "languages": list(languages),
            "match": {name: round(value, 6) for name, value in match.items()},
        }
        card = partial(imported_card, kind=kind, avoids_hubs=bool(bank))
        return write_bundle(graphs, tokenizer, folder, about, card, precision, calibrate, dev, bank)


def _license(folder: Path) -> str:
    """The license in the front matter of the checkpoint's card."""
    card = folder / "README.md"
    found = (
        re.search(r"\A---\n(?:.*\n)*?license: *(\S+)", card.read_text(errors="replace"))
        if card.is_file()
        else None
    )
    return found[1] if found else "not stated by the checkpoint: see its source"


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


@errors_as_sentences("hugging_face")
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "source", type=Path, help="folder with config.json, weights, tokenizer and preprocessor"
    )
    add_options(parser, version="1.0.0")
    parser.add_argument("--languages", nargs="+", default=["en"])
    manifest = import_checkpoint(**vars(parser.parse_args()))
    print(json.dumps({"match": manifest["match"], "metrics": manifest["metrics"]}, indent=2))


if __name__ == "__main__":
    main()
