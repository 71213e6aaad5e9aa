"""A bundle with another fusion encoder: image and text graphs stay byte for byte, so stored items
stay valid."""

import shutil
from pathlib import Path

from ..data.samples import read_shards
from ..data.shards import data_name
from ..evaluation.retrieval import Scored
from ..loop.checkpoint import load
from ..models.fusion_model import FusionModel
from . import goldens
from .bundle import in_place_of, read_manifest, refuse_other_folder, token_sizes, write_manifest
from .card import card_of_new_fusion
from .encoders import BundleEncoders, FusionEncoders
from .graphs import FusionGraph, export_fusion
from .half_storage import store_float16
from .int8 import to_int8
from .write import RERANK_DEPTHS, brief_terms, measured

GRAPH = "fusion-encoder.onnx"
OF_FUSION = "; training data of the fusion encoder: "


def replace_fusion(
    checkpoint: Path, towers: Path, folder: Path, version: str, dev: str, precision: str = "fp32"
) -> dict:
    """Write the bundle `folder`: image and text graphs of the bundle `towers`, the fusion encoder
    of a checkpoint that was trained on its tokens, a match rule fitted on `dev`.

    Returns:
        The manifest. A bundle in `folder` is replaced at the end; it may be `towers` itself.
    Raises:
        ValueError: the checkpoint reads tokens of other widths; `folder` is no bundle; a golden is
            missed.
    """
    state = load(checkpoint)
    if "sizes" not in state:
        raise ValueError(f"{checkpoint} is no checkpoint of a fusion that started from a bundle")
    model, manifest = FusionModel.from_checkpoint(state), read_manifest(towers)
    given = token_sizes(manifest)
    if given != model.sizes:
        raise ValueError(f"{towers} gives tokens of {given}; the fusion reads {model.sizes}")
    refuse_other_folder(folder)
    with in_place_of(folder) as aside:
        shutil.copytree(towers, aside)
        widths = (given["text_width"], given["cells"], given["image_width"])
        export_fusion(FusionGraph(model), widths, aside / GRAPH)
        if precision == "int8":
            to_int8(aside / GRAPH, {})
        store_float16(aside / GRAPH)
        (aside / "manifest.json").unlink()
        manifest = {key: value for key, value in manifest.items() if key != "files"}
        others = manifest["metrics"].get(data_name(dev), {}).get("languages") if dev else None
        manifest |= {"name": folder.name, "version": version, "metrics": {}}
        manifest["fusion_encoder"] = {"file": GRAPH, "precision": precision}
        encoders_terms = manifest["license"].split(OF_FUSION)[0]
        manifest["license"] = f"{encoders_terms}{OF_FUSION}{brief_terms(state['data'])}"
        old_card = (towers / "README.md").read_text()
        write_manifest(aside, manifest)
        encoders = BundleEncoders(aside)
        if dev:
            scored = Scored(encoders, read_shards(dev), max(RERANK_DEPTHS))
            figures, fitted = measured(encoders, scored)
            if others:
                figures["languages"] = others  # their texts are not reranked
            manifest |= fitted | {"metrics": {data_name(dev): figures}}
        goldens.record_matches(encoders, FusionEncoders(model.fusion), manifest["match"], aside)
        (aside / "README.md").write_text(card_of_new_fusion(manifest, old_card, state["data"]))
        write_manifest(aside, manifest)
        goldens.check(BundleEncoders(aside), aside)
    return manifest
