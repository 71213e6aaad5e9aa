r"""Export a checkpoint as a bundle: ONNX graphs, tokenizer, calibrated match rule, goldens, model
card, manifest.

python -m tandem_training.export runs/small/model.pt ../models/tandem-small \
    --dev '../../shared/data/flickr8k-dev-*.tar' \
    --precision int8 --calibrate '../../shared/data/flickr8k-train-0000.tar'"""

import argparse
import json
import re
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from .bundle import goldens
from .bundle.bundle import BundleEncoders, write_manifest
from .bundle.card import model_card, spoken
from .bundle.float16 import to_float16
from .bundle.graphs import Graphs, export_graphs
from .bundle.half_storage import store_float16
from .bundle.hubs import correct_hubs
from .bundle.int8 import feeds_of, to_int8
from .bundle.padding import fold_padding
from .bundle.rerank_margin import fit_margin
from .bundle.torch_encoders import TorchEncoders
from .data.samples import Sample, read_languages, read_shards
from .data.tokens import read_tokenizer
from .evaluate import Pictures, Scored, evaluate
from .evaluation.calibration import fit_match
from .models import weights
from .models.model import Tandem
from .models.text.second import SecondText

PARTS = ("image_encoder", "text_encoder", "fusion_encoder")
CANDIDATES = 64  # that a search reranks, unless it asks for others
RERANK_DEPTHS = (16, CANDIDATES, 128)
CALIBRATION_PHOTOS = 64


def write_bundle(graphs: Graphs, tokenizer_file: Path, folder: Path, about: dict, card: Callable[[dict], str],
                 precision: str = "fp32", calibrate: str = "", dev: str = "", bank: str = "") -> dict:  # fmt: skip
    """Write the bundle and see that its graphs reproduce the model; returns the manifest.

    `about` holds description, license, languages, version and the first match rule. With `dev` the
    match rule is fitted and everything measured on those shards by captions in the first of the
    languages, with the graphs as exported; of the others recall is measured. int8 needs
    `calibrate`, shards of photos that the model was trained on; with `bank`, more of those, the
    embeddings avoid hubs (`hubs`). What lies in `folder` is replaced at the very end, and only if
    it is a bundle."""
    if precision == "int8" and not calibrate:
        raise ValueError(
            "precision int8 needs photos to find its ranges with: give --calibrate SHARDS"
        )
    if folder.exists() and not (folder / "manifest.json").is_file():
        raise ValueError(f"{folder} exists and is no bundle; it is left as it is")
    made = folder.with_name(f".{folder.name}.partial")
    float_encoders = TorchEncoders(
        graphs, read_tokenizer(tokenizer_file, graphs.max_tokens), bfloat16=False
    )
    if bank:
        graphs = correct_hubs(
            graphs, float_encoders, read_shards(bank, dict.fromkeys(about["languages"], 1.0))
        )
        float_encoders = TorchEncoders(graphs, float_encoders.tokenizer, bfloat16=False)
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    paths = export_graphs(graphs, made)
    fold_padding(paths[0])
    shutil.copy(tokenizer_file, made / "tokenizer.json")
    if precision == "int8":
        photos = read_shards(calibrate, dict.fromkeys(about["languages"], 1.0))
        if not photos:
            raise ValueError(f"{calibrate}: no photo has a caption in {spoken(about['languages'])}")
        chosen = [
            photos[i]
            for i in np.random.default_rng(0).permutation(len(photos))[:CALIBRATION_PHOTOS]
        ]
        feeds = feeds_of(chosen, graphs.image_size, float_encoders.tokenizer)
        for path in paths:
            to_int8(path, feeds)
    for path in paths:
        store_float16(path)
    manifest = first_manifest(graphs, folder.name, about)

    def finish(computed: str) -> None:
        for part in PARTS:
            if part in manifest:
                manifest[part]["precision"] = computed
        goldens.record(float_encoders, manifest["match"], made, computed, about["languages"])
        (made / "README.md").write_text(card(manifest))
        write_manifest(made, manifest)

    # A whole bundle first: calibration and evaluation read it as the service does. What float16
    # will compute is measured in float32, with weights of float16: there is no runtime for it on a
    # CPU.
    finish("int8" if precision == "int8" else "fp32")
    if dev:
        samples = read_languages(dev, about["languages"])
        manifest["match"], figures, margin, gain = measure(made, float_encoders, samples)
        manifest["metrics"] = {data_name(dev): figures}
        manifest["rerank"]["default"] = gain > 0
        if graphs.fusion is not None:
            manifest["rerank"]["margin"] = margin
    if precision == "fp16":
        for path in paths:
            to_float16(path)
    finish(precision)
    goldens.check(BundleEncoders(made), made)
    shutil.rmtree(folder, ignore_errors=True)
    made.rename(folder)
    return manifest


def first_manifest(graphs: Graphs, name: str, about: dict) -> dict:
    """The manifest of a bundle that has not been measured."""
    manifest = {
        "schema_version": 1, "name": name, **about, "embedding": {"dim": graphs.dim},
        "image_encoder": {"file": "image-encoder.onnx", "size": graphs.image_size, "fit": "fill"},
        "text_encoder": {"file": "text-encoder.onnx", "tokenizer": "tokenizer.json", "max_tokens": graphs.max_tokens},
        "rerank": {"default": graphs.fusion is not None, "candidates": CANDIDATES},
        "goldens": "goldens.json",
        "metrics": {},
    }  # fmt: skip
    if graphs.fusion is not None:
        manifest["image_tokens"] = {
            "count": graphs.cells,
            "width": graphs.image_token_width,
            "dtype": "int8",
        }
        manifest["text_encoder"]["token_width"] = graphs.token_width
        manifest["fusion_encoder"] = {"file": "fusion-encoder.onnx"}
    return manifest


def measure(
    folder: Path, model: TorchEncoders, languages: dict[str, list[Sample]]
) -> tuple[dict, dict, float, float]:
    """Fit the match rule on the captions of the first language → the rule, the metrics, the margin
    of rerank, and the points of R@1 that rerank gains."""
    encoders, (samples, *others) = BundleEncoders(folder), languages.values()
    pictures = Pictures(encoders, sum(languages.values(), []))
    scored = Scored(encoders, samples, max(RERANK_DEPTHS), pictures)
    match, calibration = fit_match(scored)
    report = scored.report(match, RERANK_DEPTHS)
    margin, kept = fit_margin(scored, match, CANDIDATES)
    found = report["text_to_image"]
    figures = {
        "bundle": report,
        "bundle_first_100": evaluate(encoders, samples[:100], match, RERANK_DEPTHS),
        "pytorch": evaluate(
            TorchEncoders(model.graphs, model.tokenizer), samples, match, RERANK_DEPTHS[:1]
        ),
        "calibration": calibration,
        "margin": kept,
        "pair_ms": round(scored.pair_ms, 3),
    }
    if others:
        reports = (
            Scored(encoders, other, max(RERANK_DEPTHS), pictures).report(match, RERANK_DEPTHS)
            for other in others
        )
        figures["languages"] = dict(zip(list(languages)[1:], reports, strict=True))
    return match, figures, margin, found[f"rerank@{CANDIDATES}"]["r1"] - found["itc"]["r1"]


def data_name(shards: str) -> str:
    """What the shards are called without numbers and patterns: `a/flickr8k-dev-*.tar` →
    `flickr8k-dev`."""
    return re.split(r"[-_.]*(?:[*{\[]|\d+\.tar|\.tar)", shards.rsplit("/", 1)[-1])[0] or "dev"


def export_bundle(checkpoint: Path, folder: Path, tokenizer_file: Path, dev: str, version: str,
                  precision: str = "fp32", calibrate: str = "", bank: str = "") -> dict:  # fmt: skip
    """Write the bundle of a checkpoint of ours; see `write_bundle`."""
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    model = Tandem.from_checkpoint(saved)
    card = partial(
        model_card,
        config=model.config,
        second=list(_second_languages(saved)),
        avoids_hubs=bool(bank),
    )
    about = _about(
        version,
        "Dual encoder" if model.config.fusion == "none" else "Dual encoder and fusion encoder",
        ["en"],
    )
    return write_bundle(
        Graphs.of(model), tokenizer_file, folder, about, card, precision, calibrate, dev, bank
    )


def export_second_text(checkpoint: Path, folder: Path, dev: str, version: str, precision: str = "fp32",
                       calibrate: str = "", bank: str = "") -> dict:  # fmt: skip
    """Write the same images with the second text encoder, and its own tokenizer, as a bundle: a
    dual encoder alone. See `write_bundle`. ValueError where the checkpoint has no second text
    encoder."""
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    weights_of = _second_languages(saved)
    if not weights_of:
        raise ValueError(
            f"{checkpoint} has no second text encoder: its recipe had no table [second_text]"
        )
    model = Tandem.from_checkpoint(saved)
    second = SecondText.from_checkpoint(saved["second_text"], model.config)
    languages = sorted(weights_of, key=weights_of.get, reverse=True)
    card = partial(model_card, config=model.config, second=languages, avoids_hubs=bool(bank))
    graphs = Graphs.with_text(model, second.average)
    with tempfile.TemporaryDirectory() as kept:
        tokenizer_file = Path(kept) / "tokenizer.json"
        second.save_tokenizer(tokenizer_file)
        about = _about(version, "Dual encoder", languages)
        return write_bundle(
            graphs, tokenizer_file, folder, about, card, precision, calibrate, dev, bank
        )


def _second_languages(saved: dict) -> dict[str, float]:
    return saved.get("second_text", {"config": {"languages": {}}})["config"]["languages"]


def _about(version: str, kind: str, languages: list[str]) -> dict:
    return {
        "version": version,
        "description": f"{kind} for {spoken(languages)} captions of everyday photos",
        "license": "Weights: see README.md of the bundle (trained on Flickr8k, for research and education)",
        "languages": languages,
        "match": {"logit": 1.0, "similarity": 1.0, "bias": 0.0},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument(
        "folder", type=Path, help="folder of the bundle; one that is there is replaced"
    )
    parser.add_argument("--dev", default="", help="glob of shards to calibrate and evaluate on")
    parser.add_argument("--version", default="0.1.0")
    parser.add_argument(
        "--precision", choices=sorted(goldens.TOLERANCES), default="fp32", help="fp16 is for a GPU"
    )
    parser.add_argument(
        "--calibrate", default="", help="glob of training shards that int8 finds its ranges with"
    )
    parser.add_argument(
        "--bank",
        default="",
        help="glob of training shards that hubs are known by (default: they stay)",
    )
    parser.add_argument(
        "--text",
        choices=["first", "second"],
        default="first",
        help="second: of [second_text], a dual encoder alone",
    )
    args = parser.parse_args()
    wanted = (args.dev, args.version, args.precision, args.calibrate, args.bank)
    if args.text == "second":
        manifest = export_second_text(args.checkpoint, args.folder, *wanted)
    else:
        tokenizer_file = weights.minilm_folder() / "tokenizer.json"
        manifest = export_bundle(args.checkpoint, args.folder, tokenizer_file, *wanted)
    print(json.dumps({"match": manifest["match"], "metrics": manifest["metrics"]}, indent=2))


if __name__ == "__main__":
    main()
