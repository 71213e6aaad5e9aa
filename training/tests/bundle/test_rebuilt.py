"""Models rebuilt from their bundles: the weights, the embeddings and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from support.models import STILL, TINY, VIT, options, tiny_model, with_fusion
from tandem_training.bundle.bundle import write_manifest
from tandem_training.bundle.hubs import uncorrected
from tandem_training.bundle.rebuilt import bundle_checkpoint
from tandem_training.bundle.write import export_bundle
from tandem_training.loop.checkpoint import load, save
from tandem_training.loop.start import starting_tokenizer, take_what_fits
from tandem_training.loop.trainer import Trainer
from tandem_training.models.fusion.late import Late
from tandem_training.models.model import ModelConfig, Tandem
from tandem_training.recipe import DataConfig, Recipe, TrainConfig

pytestmark = pytest.mark.usefixtures("one_thread")

LATE = replace(TINY, fusion=Late.Config())


@pytest.fixture
def bundle(tokenizer, shard: Path, tmp_path: Path):
    """Writes the bundle of a model."""
    tokenizer.save(str(tmp_path / "tokenizer.json"))

    def write(model: Tandem, **settings) -> Path:
        save(tmp_path / "old.pt", model.checkpoint())
        files = (tmp_path / "old.pt", tmp_path / "bundle", tmp_path / "tokenizer.json")
        export_bundle(*files, "", "1.0.0", **settings)
        return tmp_path / "bundle"

    return write


def learnt(config: ModelConfig) -> Tandem:
    """A model none of whose weights is as it was made: the exporter stores equal ones once."""
    model = tiny_model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def recipe(start: Path, model: ModelConfig, shard: Path | str = "", **train) -> Recipe:
    data = DataConfig(str(shard), str(shard), views=2, word_dropout=0.1)
    wanted = options(itc=1.0)
    made = Recipe(data, model, {}, wanted, TrainConfig(**{"start": str(start), "batch": 8} | train))
    made.check()
    return made


def rebuilt(folder: Path, config: ModelConfig) -> Tandem:
    torch.manual_seed(5)
    model = Tandem(config)
    take_what_fits(model, str(folder), recipe(folder, config))
    return model.eval()


@pytest.mark.parametrize(
    ("base", "fusion"), [(TINY, "none"), (TINY, "aligned"), (TINY, "late"), (VIT, "dual_stream")]
)
def test_a_rebuilt_model_has_the_weights_of_the_one_that_was_exported(
    base: ModelConfig, fusion: str, bundle
):
    config = with_fusion(fusion, base=base)
    model = learnt(config)
    again = rebuilt(bundle(model), config).state_dict()
    for name, value in model.state_dict().items():
        unread = fusion == "none" and name.startswith("pooler.tokens.")
        if name != "logit_scale" and not unread:  # no graph has those
            torch.testing.assert_close(again[name], value, atol=1e-3, rtol=1e-3, msg=name)


def test_a_bundle_with_corrected_embeddings_gives_those_of_before_the_correction(
    bundle, shard: Path
):
    model = learnt(LATE)
    folder = bundle(model, bank=str(shard))
    graph = uncorrected(onnx.load(folder / "image-encoder.onnx"))
    pixels = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), np.uint8)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    corrected, _, before = session.run(None, {"pixels": pixels})
    ours = rebuilt(folder, LATE).encode_images(torch.from_numpy(pixels))[0].detach().numpy()
    assert (ours * before).sum(1).min() > 0.9999
    assert (ours * corrected).sum(1).max() < 0.9


def test_a_run_from_a_bundle_trains_and_becomes_a_bundle_again(
    bundle, shard: Path, tokenizer, tmp_path: Path
):
    folder = bundle(learnt(LATE), bank=str(shard))
    made = recipe(folder, replace(STILL, fusion=LATE.fusion), shard, epochs=12, evaluate_every=12)
    ours = starting_tokenizer(made)
    assert ours.encode("a red bar").ids == tokenizer.encode("a red bar").ids
    run = Trainer(made, tmp_path / "run", tmp_path / "cache", Tandem(made.model), ours)
    run.run()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    losses = [line["itc"] for line in lines if "itc" in line]
    assert losses[-1] < losses[0]
    kept = load(tmp_path / "run" / "model.pt")
    assert kept["data"][0]["source"].startswith("the data of the bundle bundle 1.0.0")
    export_bundle(tmp_path / "run" / "model.pt", tmp_path / "new", None, "", "1.1.0")
    card = (tmp_path / "new" / "README.md").read_text()
    assert "the data of the bundle bundle 1.0.0, see its card. Terms: Weights" in card
    again = json.loads((tmp_path / "new" / "tokenizer.json").read_text())
    assert again["model"]["vocab"] == json.loads(tokenizer.to_str())["model"]["vocab"]
    assert again["truncation"] is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (VIT, "weights differ, such as .* in the recipe"),
        (replace(LATE, dim=24), "weights differ, such as pooler.values.weight: .16, 1280."),
        (
            replace(LATE, text=replace(TINY.text, heads=4)),
            "its text encoder gives other embeddings .* such as heads",
        ),
    ],
)
def test_a_recipe_of_other_encoders_is_refused_in_a_sentence(
    config: ModelConfig, message: str, bundle
):
    with pytest.raises(ValueError, match=message):
        rebuilt(bundle(learnt(LATE)), config)


def test_rounded_and_foreign_bundles_are_refused_in_a_sentence(bundle, shard: Path):
    folder = bundle(learnt(LATE), precision="int8", calibrate=str(shard))
    with pytest.raises(ValueError, match="computes in int8, .* start from the bundle in fp32"):
        bundle_checkpoint(folder)
    folder = bundle(learnt(LATE))
    for name in ("image-encoder.onnx", "text-encoder.onnx", "fusion-encoder.onnx"):
        graph = onnx.load(folder / name)
        for node in graph.graph.node:
            for names in (node.input, node.output):
                names[:] = [n.replace("model.", "weights/") for n in names]
            node.name = ""
        for tensor in graph.graph.initializer:
            tensor.name = tensor.name.replace("model.", "weights/")
        onnx.save(graph, folder / name)
    manifest = read_manifest_as_is(folder)
    (folder / "manifest.json").unlink()
    write_manifest(folder, manifest)
    with pytest.raises(ValueError, match="is no bundle of this trainer"):
        rebuilt(folder, LATE)


def read_manifest_as_is(folder: Path) -> dict:
    manifest = json.loads((folder / "manifest.json").read_text())
    return {key: value for key, value in manifest.items() if key != "files"}
