"""Writes a bundle: graphs, tokenizer, match rule, measurements, goldens, model card, manifest."""

import shutil
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from ..data.samples import Sample, read_languages, read_shards
from ..data.shards import data_name
from ..data.tokens import read_tokenizer
from ..evaluation.calibration import fit_match
from ..evaluation.gain import gain_report
from ..evaluation.retrieval import Scored, evaluate, report_languages, score_languages
from ..loop.checkpoint import load
from ..models import weights
from ..models.model import Tandem
from ..models.text.second import SecondText
from . import goldens
from .bundle import in_place_of, refuse_other_folder, write_manifest
from .card import model_card, spoken, terms_of
from .detector import detector_of
from .encoders import OUTPUTS, BundleEncoders, TorchEncoders
from .float16 import to_float16
from .graphs import Graphs, export_graphs
from .half_storage import store_float16
from .hubs import Corrected, correct_hubs, correct_other_text
from .int8 import feeds_of, to_int8
from .padding import fold_padding
from .rerank_margin import fit_margin

CANDIDATES = 64  # reranked by a search that asks for no other number
RERANK_DEPTHS = (16, CANDIDATES, 128)
CALIBRATION_IMAGES = 64
# Similarity from which CLIP's pairs match, without shards to calibrate on. The pairs of LAION-5B
# were chosen by it (Schuhmann et al. 2022, arXiv:2210.08402).
CLIP_THRESHOLD = 0.28


def write_bundle(
    graphs: Graphs,
    tokenizer_file: Path,
    folder: Path,
    about: dict,
    card: Callable[[dict], str],
    precision: str = "fp32",
    calibrate: str = "",
    dev: str = "",
    bank: str = "",
    image: Corrected | None = None,
) -> dict:
    """Write a bundle and check that its graphs reproduce the model.

    Args:
        about: description, license, languages, version and the first match rule.
        card: manifest → model card.
        precision: fp32, int8 or fp16.
        calibrate: shards of training images; int8 takes the ranges of activations from them.
        dev: shards to fit the match rule on, by captions in the first of the languages, and to
            measure the graphs on in all of them.
        bank: shards of training images; with them, the embeddings avoid hubs (`hubs`).
        image: the image graph of another bundle, corrected by its bank, to which the text encoder
            is fitted.
    Returns:
        The manifest. A bundle in `folder` is replaced at the end.
    Raises:
        ValueError: int8 without `calibrate`; `folder` is no bundle; a weight is not finite; the
            model ranks no better than chance; a graph misses a tolerance.
    """
    _require_finite(graphs)
    if precision == "int8" and not calibrate:
        raise ValueError("precision int8 needs images to take its ranges from: give --calibrate")
    refuse_other_folder(folder)
    languages = dict.fromkeys(about["languages"], 1.0)
    tokenizer = read_tokenizer(tokenizer_file, graphs.max_tokens)
    float_encoders = TorchEncoders(graphs, tokenizer, bfloat16=False)
    if bank:
        samples = read_shards(bank, languages)
        graphs = (
            correct_other_text(graphs, float_encoders, samples, image)
            if image
            else correct_hubs(graphs, float_encoders, samples)
        )
        float_encoders = TorchEncoders(graphs, tokenizer, bfloat16=False)
    with in_place_of(folder) as aside:
        aside.mkdir(parents=True)
        paths = export_graphs(graphs, aside)
        fold_padding(paths[0])
        shutil.copy(tokenizer_file, aside / "tokenizer.json")
        if precision == "int8":
            samples = read_shards(calibrate, languages)
            rows = np.random.default_rng(0).permutation(len(samples))[:CALIBRATION_IMAGES]
            feeds = feeds_of([samples[row] for row in rows], graphs.rules, tokenizer)
            for path in paths:
                to_int8(path, feeds)
        for path in paths:
            store_float16(path)
        manifest = _first_manifest(graphs, folder.name, about)

        def finish(computed: str) -> None:
            for part in OUTPUTS:
                if part in manifest:
                    manifest[part]["precision"] = computed
            goldens.record(float_encoders, manifest["match"], aside, computed, [*languages])
            (aside / "README.md").write_text(card(manifest))
            write_manifest(aside, manifest)

        # A whole bundle first: calibration and evaluation read it as the service does. fp16 is
        # measured in float32 with weights of float16, because no CPU runtime computes in it.
        finish("int8" if precision == "int8" else "fp32")
        if dev:
            samples = read_languages(dev, languages)
            figures, fitted = _measure(aside, float_encoders, samples)
            if graphs.fusion is None:
                del fitted["rerank"]["margin"]
            manifest |= fitted | {"metrics": {data_name(dev): figures}}
        if precision == "fp16":
            for path in paths:
                to_float16(path)
        finish(precision)
        goldens.check(BundleEncoders(aside), aside)
    return manifest


def _require_finite(graphs: Graphs) -> None:
    for module in (graphs.image, graphs.text, graphs.fusion):
        for name, weight in module.named_parameters() if module is not None else ():
            if not torch.isfinite(weight).all():
                raise ValueError(
                    f"the weight {name} has values that are not finite: the training diverged; "
                    "take an earlier checkpoint, or train with a lower learning rate"
                )


def _first_manifest(graphs: Graphs, name: str, about: dict) -> dict:
    """The manifest of a bundle that has not been measured."""
    manifest = {
        "schema_version": 1,
        "name": name,
        **about,
        "embedding": {"dim": graphs.dim},
        "image_encoder": {"file": "image-encoder.onnx", **graphs.rules.entry()},
        "text_encoder": {
            "file": "text-encoder.onnx",
            "tokenizer": "tokenizer.json",
            "max_tokens": graphs.max_tokens,
        },
        "rerank": {
            # A rule without the logit goes with a fusion that has not been trained.
            "default": graphs.fusion is not None and about["match"]["logit"] > 0,
            "candidates": CANDIDATES,
        },
        "goldens": "goldens.json",
        "metrics": {},
    }
    if graphs.fusion is not None:
        manifest["image_tokens"] = {
            "count": graphs.cells,
            "width": graphs.image_token_width,
            "dtype": "int8",
        }
        manifest["text_encoder"]["token_width"] = graphs.token_width
        manifest["fusion_encoder"] = {"file": "fusion-encoder.onnx"}
    return manifest


def _measure(
    folder: Path, model: TorchEncoders, languages: dict[str, list[Sample]]
) -> tuple[dict, dict]:
    """`measured` of the bundle on the captions of the first language, with the figures of the
    others and of the model in PyTorch."""
    encoders, samples = BundleEncoders(folder), next(iter(languages.values()))
    scored = score_languages(encoders, languages, max(RERANK_DEPTHS))
    figures, fitted = measured(encoders, next(iter(scored.values())))
    match = fitted["match"]
    torch_encoders = TorchEncoders(model.graphs, model.tokenizer)
    figures["pytorch"] = evaluate(torch_encoders, samples, match, RERANK_DEPTHS[:1])
    if others := report_languages(scored, match, RERANK_DEPTHS)["languages"]:
        figures["languages"] = others
    return figures, fitted


def measured(encoders: BundleEncoders, scored: Scored) -> tuple[dict, dict]:
    """Fit match rule and rerank margin → the metrics, and `match` and `rerank` of a manifest.

    The first 100 images are measured by themselves too, for a short test of a service."""
    match, calibration = fit_match(scored)
    margin, margin_report = fit_margin(scored, match, CANDIDATES)
    short = Scored.of(encoders, scored.encoded.first(100), max(RERANK_DEPTHS))
    figures = {
        "bundle": scored.report(match, RERANK_DEPTHS),
        "bundle_first_100": short.report(match, RERANK_DEPTHS),
        "rerank": gain_report(scored, CANDIDATES),
        "calibration": calibration,
        "margin": margin_report,
        "pair_ms": round(scored.pair_ms, 3),
    }
    rerank = {"default": gains(figures["rerank"]), "candidates": CANDIDATES, "margin": margin}
    return figures, {"match": match, "rerank": rerank}


def gains(rerank: dict) -> bool:
    """Whether a search for images reranks by default: only where the whole interval of its gain in
    R@1 is above 0, by a rule that was not fitted on the photos it is measured on."""
    return rerank["text_to_image"]["gain"]["r1"]["low"] > 0


def export_bundle(
    checkpoint: Path,
    folder: Path,
    tokenizer_file: Path | None,
    dev: str,
    version: str,
    precision: str = "fp32",
    calibrate: str = "",
    bank: str = "",
    corrected: Graphs | None = None,
) -> dict:
    """Write the bundle of a checkpoint of `train`; see `write_bundle`.

    Args:
        tokenizer_file: in place of the checkpoint's own.
        corrected: its graphs, which were corrected by the bank before.
    """
    state = load(checkpoint)
    model, origins = Tandem.from_checkpoint(state), state.get("data", [])
    card = partial(
        model_card,
        config=model.config,
        second=list(second_languages(model)),
        origins=origins,
        avoids_hubs=bool(bank),
    )
    kind = "Dual encoder and fusion encoder" if model.serves_fusion else "Dual encoder"
    about = about_ours(version, kind, ["en"], origins)
    if not model.serves_fusion:
        about["match"] = match_of_similarity(model, state["state"])
    graphs = corrected or Graphs.of(model)
    if detector := detector_of(graphs.image):
        about["detector"] = detector.about()
    with tempfile.TemporaryDirectory() as temporary:
        if tokenizer_file is None:
            tokenizer_file = Path(temporary) / "tokenizer.json"
            tokenizer_file.write_text(kept_tokenizer(state))
        remaining = "" if corrected else bank
        return write_bundle(
            graphs, tokenizer_file, folder, about, card, precision, calibrate, dev, remaining
        )


def kept_tokenizer(state: dict) -> str:
    """The tokenizer of a checkpoint; of one that keeps none, MiniLM's."""
    kept = state.get("tokenizer")
    return kept or (weights.minilm_folder() / "tokenizer.json").read_text()


def tokenizer_of(state: dict, max_tokens: int) -> Tokenizer:
    """The same, cut to `max_tokens`."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "tokenizer.json"
        path.write_text(kept_tokenizer(state))
        return read_tokenizer(path, max_tokens)


def second_languages(model: Tandem) -> dict[str, float]:
    """Languages of a model's second text encoder, with their weights; empty without one."""
    has = SecondText.name in model.inputs
    return model.inputs[SecondText.name].config.languages if has else {}


def about_ours(version: str, kind: str, languages: list[str], origins: list[dict]) -> dict:
    """The part `about` of `write_bundle` for a checkpoint of `train`."""
    return {
        "version": version,
        "description": f"{kind} for {spoken(languages)} captions of images",
        "license": "Weights: see README.md of the bundle; terms of the training data: "
        + brief_terms(origins),
        "languages": languages,
        "match": {"logit": 1.0, "similarity": 1.0, "bias": 0.0},
    }


def match_of_similarity(model: Tandem, state: dict) -> dict:
    """The first match rule of a dual encoder: the probability that it was trained by (SigLIP), or a
    guess where training gave none (CLIP's softmax has no threshold)."""
    scale = model.logit_scale.exp().item()
    bias = state.get("objectives.siglip.bias")
    bias = -CLIP_THRESHOLD * scale if bias is None else bias.item()
    return {"logit": 0.0, "similarity": scale, "bias": bias}


def brief_terms(origins: list[dict]) -> str:
    """The terms of most images of the training data."""
    terms = terms_of(origins) or ["not recorded by the checkpoint"]
    return "; ".join(terms[:3]) + ("; and others" if len(terms) > 3 else "")


def add_options(parser: ArgumentParser, version: str) -> None:
    """The command line options that every export has."""
    add = parser.add_argument
    add("folder", type=Path, help="folder of the bundle; a bundle in it is replaced")
    add("--dev", default="", help="glob of shards to calibrate and evaluate on")
    add("--version", default=version)
    add("--precision", choices=sorted(goldens.TOLERANCES), default="fp32", help="fp16 is for a GPU")
    add("--calibrate", default="", help="glob of training shards that int8 takes its ranges from")
    add("--bank", default="", help="glob of training shards; with them, embeddings avoid hubs")
