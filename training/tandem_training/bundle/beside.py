r"""Put the fusion encoder of a BLIP-ITM checkpoint, a folder saved by `transformers`, beside a
bundle that is a dual encoder alone: searches recall by the one and rerank by the other.

python -m tandem_training.bundle.beside ../models/siglip2 blip-itm-base-coco ../models/with-blip \
    --dev '../../shared/data/flickr8k-dev-*.tar'

BLIP has image tokens of its own. They are stored with each item, or, with --compute, computed when
an image is reranked."""

import json
import shutil
from pathlib import Path

import torch

from ..command import argument_parser, errors_as_sentences
from ..data.samples import read_shards
from ..data.shards import data_name, locations
from ..evaluation.retrieval import Scored
from . import goldens
from .bundle import in_place_of, read_manifest, refuse_other_folder, write_manifest
from .card import card_beside
from .encoders import BundleEncoders
from .graphs import export_fusion, export_images
from .half_storage import store_float16
from .hugging_face import license_of, read_checkpoint
from .imported.graphs import BlipFusionOfIds, BlipTokens, Pixels
from .imported.preprocessing import of_transformers
from .imported.tokenizer import save_plain, tokenizer_in
from .write import CANDIDATES, RERANK_DEPTHS, measured

IMAGE, FUSION, TOKENIZER = (
    "fusion-image-encoder.onnx",
    "fusion-encoder.onnx",
    "fusion-tokenizer.json",
)
OWN_MATCH = {"logit": 1.0, "similarity": 0.0, "bias": 0.0}  # BLIP's own probability


def put_beside(
    dual: Path, source: Path, folder: Path, version: str, dev: str = "", compute: bool = False
) -> dict:
    """Write the bundle `folder` → its manifest.

    Args:
        dual: bundle of the dual encoder, whose graphs stay.
        source: folder of the BLIP-ITM checkpoint.
        dev: shards to fit the match rule on and to measure on; without them `match` is BLIP's.
        compute: image tokens are not stored.
    Raises:
        ValueError: `dual` has a fusion encoder; `source` holds another model; `folder` is no
            bundle; a golden is missed.
    """
    manifest = read_manifest(dual)
    if "fusion_encoder" in manifest:
        raise ValueError(f"{dual} has a fusion encoder already; expected a dual encoder alone")
    refuse_other_folder(folder)
    model, kind = read_checkpoint(source)
    if kind != "BLIP":
        raise ValueError(f"{source} holds {kind}; expected BLIP-ITM (BlipForImageTextRetrieval)")
    vision, text = model.config.vision_config, model.config.text_config
    given = of_transformers(source, vision.image_size, crops=False)
    cells, width = (vision.image_size // vision.patch_size) ** 2 + 1, vision.hidden_size + 1
    with in_place_of(folder) as aside:
        shutil.copytree(dual, aside)
        save_plain(tokenizer_in(source), aside / TOKENIZER)
        export_images(BlipTokens(Pixels(given), model).eval(), given.rules.size, aside / IMAGE)
        fusion = BlipFusionOfIds(model).eval()
        export_fusion(fusion, (1, cells, width), aside / FUSION, _ids(text.vocab_size))
        for name in (IMAGE, FUSION):
            store_float16(aside / name)
        (aside / "manifest.json").unlink()
        manifest = {key: value for key, value in manifest.items() if key != "files"}
        # Tokens of stored images and computed ones come from the same pixels.
        rules = {k: v for k, v in given.rules.entry().items() if k != "source"}
        manifest |= {"name": folder.name, "version": version, "metrics": {}, "match": OWN_MATCH}
        manifest["license"] += f"; fusion encoder: {license_of(source)}"
        manifest["image_tokens"] = {"count": cells, "width": width, "dtype": "int8"}
        if compute:
            manifest["image_tokens"]["stored"] = False
        manifest["text_encoder"] = {**manifest["text_encoder"], "token_width": 1}
        manifest["fusion_encoder"] = {
            "file": FUSION,
            "precision": "fp32",
            "image_encoder": {"file": IMAGE, **rules, "precision": "fp32"},
            "tokenizer": TOKENIZER,
            "max_tokens": text.max_position_embeddings,
        }
        manifest["rerank"] = {"default": True, "candidates": CANDIDATES}
        old_card = (dual / "README.md").read_text()
        write_manifest(aside, manifest)
        encoders = BundleEncoders(aside)
        if dev:
            scored = Scored(encoders, read_shards(dev), max(RERANK_DEPTHS))
            figures, fitted = measured(encoders, scored)
            manifest |= fitted | {"metrics": {data_name(dev): figures}}
        if compute:  # an image encoder runs for each candidate, so a search has to ask for it
            manifest["rerank"]["default"] = False
        goldens.record_matches(encoders, encoders, manifest["match"], aside)
        (aside / "README.md").write_text(card_beside(manifest, old_card, source.resolve().name))
        write_manifest(aside, manifest)
        goldens.check(BundleEncoders(aside), aside)
    return manifest


def _ids(pieces: int) -> torch.Tensor:
    """Text tokens to trace with: ids of the vocabulary, float32 [2, 7, 1]."""
    return (torch.arange(14) % pieces).float().view(2, 7, 1)


@errors_as_sentences("beside")
def main() -> None:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("dual", type=Path, help="bundle of a dual encoder")
    add("source", type=Path, help="folder of a BLIP-ITM checkpoint")
    add("folder", type=Path, help="folder of the bundle; a bundle in it is replaced")
    add("--version", default="1.0.0")
    add("--dev", default="", help="glob of shards to calibrate and evaluate on")
    add("--compute", action="store_true", help="compute image tokens when an image is reranked")
    options = vars(parser.parse_args())
    if options["dev"]:
        locations(options["dev"])
    manifest = put_beside(**options)
    print(json.dumps({"match": manifest["match"], "metrics": manifest["metrics"]}, indent=2))


if __name__ == "__main__":
    main()
