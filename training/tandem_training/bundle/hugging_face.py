r"""Import a checkpoint as a bundle: CLIP, SigLIP or BLIP-ITM in a folder saved by `transformers`,
or a folder of open_clip's hub (open_clip_config.json and open_clip_model.safetensors).

python -m tandem_training.bundle.hugging_face clip-vit-base-patch32 ../models/clip-base \
    --dev '../../shared/data/flickr8k-dev-*.tar'

With --tokens, the bundle of a CLIP or SigLIP also gives tokens, on which a fusion encoder can be
trained (recipes/imported/fusion-on-clip.toml)."""

import json
import re
import tempfile
from functools import partial
from pathlib import Path

from tokenizers import Tokenizer
from torch import nn

from ..command import argument_parser, errors_as_sentences
from ..data.samples import read_shards
from ..data.shards import locations
from .card import imported_card
from .graphs import Graphs
from .imported.graphs import blip_graphs, clip_graphs, siglip_graphs
from .imported.open_clip_folder import CONFIG, open_clip_folder
from .imported.preprocessing import of_transformers, read_json
from .imported.token_projection import with_tokens
from .imported.tokenizer import clean_as_siglip, padding_of, save_plain, tokenizer_in
from .write import CLIP_THRESHOLD, add_options, write_bundle

ARCHITECTURES = {"CLIPModel": "CLIP", "SiglipModel": "SigLIP", "BlipForImageTextRetrieval": "BLIP"}
TOKEN_WIDTH = 128


def read_checkpoint(folder: Path) -> tuple[nn.Module, str]:
    """The model and the name of its architecture.

    Raises:
        ValueError: another architecture, or weights are missing.
    """
    config = read_json(folder / "config.json")
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


def graphs_in(folder: Path) -> tuple[Graphs, Tokenizer, dict, str]:
    """→ the graphs, the tokenizer with the rules of its library, the match rule of the checkpoint
    itself, the name of its kind.

    Raises:
        ValueError: the folder holds something else, lacks a part, or has a rule that the service
            cannot follow.
    """
    if (folder / CONFIG).is_file():
        graphs, tokenizer, model = open_clip_folder(folder)
        return graphs, tokenizer, _own_match(model), "open_clip"
    model, kind = read_checkpoint(folder)
    side = model.config.vision_config.image_size
    if not isinstance(side, int):
        raise ValueError(f"{folder}: the image size is {side!r}; expected one side of a square")
    given, tokenizer = of_transformers(folder, side, kind == "CLIP"), tokenizer_in(folder)
    if kind == "BLIP":
        match = {"logit": 1.0, "similarity": 0.0, "bias": 0.0}
        return blip_graphs(model, given), tokenizer, match, kind
    if kind == "CLIP":
        return clip_graphs(model, given), tokenizer, _own_match(model), kind
    clean_as_siglip(tokenizer)
    graphs = siglip_graphs(model, given, padding_of(folder, tokenizer))
    return graphs, tokenizer, _own_match(model), kind


def _own_match(model: nn.Module) -> dict:
    """By scale and bias of the logits; CLIP has no bias, which a threshold stands for."""
    scale, bias = model.logit_scale.exp().item(), getattr(model, "logit_bias", None)
    bias = -CLIP_THRESHOLD * scale if bias is None else bias.item()
    return {"logit": 0.0, "similarity": scale, "bias": bias}


def import_checkpoint(
    source: Path,
    folder: Path,
    version: str = "1.0.0",
    languages: tuple[str, ...] = ("en",),
    precision: str = "fp32",
    calibrate: str = "",
    dev: str = "",
    bank: str = "",
    tokens: str = "",
    token_width: int = TOKEN_WIDTH,
) -> dict:
    """Write the bundle of the checkpoint in `source` → its manifest.

    Args:
        tokens: shards of images and captions; with them, the bundle of a dual encoder gives tokens
            of `token_width` numbers, and its fusion encoder still has to be trained.
        others: see `write_bundle`.
    Raises:
        ValueError: see `graphs_in`, `with_tokens` and `write_bundle`.
    """
    graphs, tokenizer, match, kind = graphs_in(source)
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "tokenizer.json"
        save_plain(tokenizer, file)
        if tokens:
            if not hasattr(graphs.image, "states"):
                raise ValueError(
                    f"--tokens: the graphs of {kind} give no states of patches and words; expected "
                    "a dual encoder saved by transformers, CLIP or SigLIP"
                )
            graphs = with_tokens(graphs, file, read_shards(tokens), token_width)
        about = {
            "version": version,
            "description": f"{kind} imported from {source.resolve().name}",
            "license": license_of(source),
            "languages": list(languages),
            "match": {name: round(value, 6) for name, value in match.items()},
        }
        card = partial(
            imported_card,
            kind=kind,
            fit=graphs.rules.fit,
            avoids_hubs=bool(bank),
            tokens=bool(tokens),
        )
        return write_bundle(graphs, file, folder, about, card, precision, calibrate, dev, bank)


def license_of(folder: Path) -> str:
    """The license in the front matter of the checkpoint's card."""
    card = folder / "README.md"
    found = (
        re.search(r"\A---\n(?:.*\n)*?license: *(\S+)", card.read_text(errors="replace"))
        if card.is_file()
        else None
    )
    return found[1] if found else "not stated by the checkpoint: see its source"


@errors_as_sentences("hugging_face")
def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "source", type=Path, help="folder with config.json, weights, tokenizer and preprocessor"
    )
    add_options(parser, version="1.0.0")
    parser.add_argument("--languages", nargs="+", default=["en"])
    parser.add_argument(
        "--tokens",
        default="",
        help="glob of training shards; with them, the bundle gives tokens to train a fusion on",
    )
    parser.add_argument("--token-width", type=int, default=TOKEN_WIDTH, help="numbers of a token")
    options = vars(parser.parse_args())
    for name in ("dev", "calibrate", "bank", "tokens"):
        if options[name]:
            locations(options[name])  # before the graphs, which take minutes
    manifest = import_checkpoint(**options)
    print(json.dumps({"match": manifest["match"], "metrics": manifest["metrics"]}, indent=2))


if __name__ == "__main__":
    main()
