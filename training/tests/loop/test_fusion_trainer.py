"""A fusion trained on the frozen tokens of a bundle, and the bundle that it makes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from support.models import SMALL, options, tiny_model
from tandem_training.bundle.bundle import read_manifest, token_sizes
from tandem_training.bundle.encoders import BundleEncoders, FusionEncoders
from tandem_training.bundle.graph_weights import graph_weights
from tandem_training.bundle.replace_fusion import replace_fusion
from tandem_training.bundle.write import export_bundle
from tandem_training.data.samples import read_shards
from tandem_training.data.tokens import pad_tokens
from tandem_training.export import main as export_main
from tandem_training.loop.checkpoint import load, save
from tandem_training.loop.fusion_trainer import FusionTrainer
from tandem_training.loop.tokens import encoded_once
from tandem_training.models.fusion.aligned import Aligned
from tandem_training.models.fusion.dual_stream import DualStream
from tandem_training.models.fusion.inserted_attention import InsertedAttention
from tandem_training.models.fusion.late import Late
from tandem_training.models.fusion_model import FusionModel
from tandem_training.recipe import DataConfig, GroupConfig, OptimiserConfig, Recipe, TrainConfig

pytestmark = pytest.mark.usefixtures("one_thread")

LATE = Late.Config(dropout=0.0)


@pytest.fixture
def towers(tokenizer, tmp_path: Path) -> Path:
    """A bundle of random encoders with the fusion 'aligned'."""
    model = tiny_model()
    torch.nn.init.normal_(model.fusion.head.weight, std=0.3)
    save(tmp_path / "towers.pt", model.checkpoint())
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    export_bundle(
        tmp_path / "towers.pt", tmp_path / "towers", tmp_path / "tokenizer.json", "", "1.0.0"
    )
    return tmp_path / "towers"


def recipe(shard: Path, towers: Path, fusion=LATE, **settings) -> Recipe:
    data = DataConfig(str(shard), str(shard), word_dropout=0.1)
    wanted = options(lists={"size": 3, "nearest": 4, "gallery": 8, "graded": 0.2})
    train = TrainConfig(
        **{"start": str(towers), "batch": 6, "epochs": 20, "warmup": 0.1, "ema": 0.8} | settings
    )
    made = Recipe(data, replace(Recipe().model, fusion=fusion), {}, wanted, train)
    made.optimiser = OptimiserConfig(fusion=GroupConfig(1e-2))
    made.check()
    return made


def run_of(shard: Path, towers: Path, out: Path, **settings) -> FusionTrainer:
    torch.manual_seed(0)
    made = recipe(shard, towers, **settings)
    return FusionTrainer(made, out, shard.parent / "cache")


def test_the_loss_of_lists_falls_and_the_new_bundle_keeps_the_encoders(
    shard: Path, towers: Path, tmp_path: Path
):
    run = run_of(shard, towers, tmp_path / "run", evaluate_every=20)
    run.run()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    losses = [line["lists"] for line in lines if "lists" in line]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    (report,) = [line["dev"] for line in lines if "dev" in line]
    assert {"itc", "logit", "sum", "fitted"} <= report["text_to_image"].keys()
    assert report["gain"]["text_to_image"]["r1"].keys() == {"points", "low", "high"}

    manifest = replace_fusion(
        tmp_path / "run" / "model.pt", towers, tmp_path / "new", "1.1.0", str(shard)
    )
    old = {file["path"]: file["sha256"] for file in read_manifest(towers)["files"]}
    new = {file["path"]: file["sha256"] for file in manifest_files(tmp_path / "new")}
    kept = ("image-encoder.onnx", "text-encoder.onnx", "tokenizer.json", "goldens-image.png")
    assert all(new[name] == old[name] for name in kept)
    assert new["fusion-encoder.onnx"] != old["fusion-encoder.onnx"]
    assert manifest["version"] == "1.1.0" and manifest["name"] == "new"
    rerank = manifest["metrics"]["drawings"]["rerank"]
    low = rerank["text_to_image"]["gain"]["r1"]["low"]
    assert manifest["rerank"]["default"] == (low > 0)
    card = (tmp_path / "new" / "README.md").read_text()
    assert card.startswith("# new 1.1.0")
    assert "Training data of the encoders:" in card and "of the fusion encoder" in card


def manifest_files(folder: Path) -> list[dict]:
    return read_manifest(folder)["files"]


def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(
    shard: Path, towers: Path, tmp_path: Path
):
    whole = run_of(shard, towers, tmp_path / "whole", epochs=6)
    broken = run_of(shard, towers, tmp_path / "broken", epochs=6)
    for _ in range(6):
        whole.train_step()
    for _ in range(3):
        broken.train_step()
    broken.save_state()
    resumed = run_of(shard, towers, tmp_path / "broken", epochs=6)
    assert resumed.step == 3
    for _ in range(3):
        resumed.train_step()
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, resumed.average.state_dict()[name]), name


@pytest.mark.parametrize("config", [LATE, Aligned.Config(width=8, heads=2, layers=1)])
def test_the_graph_gives_the_logits_of_pytorch_for_every_number_of_pairs_and_words(
    config, shard: Path, towers: Path, tmp_path: Path
):
    run = run_of(shard, towers, tmp_path / "run", fusion=config)
    for _ in range(3):
        run.train_step()
    run.save_state()
    save(tmp_path / "model.pt", run.average.checkpoint() | {"data": []})
    replace_fusion(tmp_path / "model.pt", towers, tmp_path / "new", "1.1.0", "")
    encoders = BundleEncoders(tmp_path / "new")
    model = FusionModel.from_checkpoint(load(tmp_path / "model.pt"))
    rng = np.random.default_rng(0)
    for lengths, images in (([4], 1), ([3, 7, 5], 4)):
        texts = [rng.normal(size=(n, SMALL["width"])).astype(np.float32) for n in lengths]
        tokens = rng.integers(-90, 90, (images, 4, SMALL["token_width"]), dtype=np.int8)
        pairs = np.array([[t, m] for t in range(len(texts)) for m in range(images)])
        ours = encoders.logits(texts, tokens, pairs)
        np.testing.assert_allclose(
            ours, FusionEncoders(model.fusion).logits(texts, tokens, pairs), atol=0.02
        )


def test_all_pairs_are_the_pairs_one_by_one():
    torch.manual_seed(0)
    sizes = {"text_width": 24, "image_width": 16, "cells": 4}
    for config in (LATE, Aligned.Config(width=8, heads=2), DualStream.Config(width=8, heads=2)):
        fusion = FusionModel(config, sizes).eval().fusion
        torch.nn.init.normal_(fusion.head.weight)
        texts, mask = torch.randn(3, 5, 24), torch.tensor([[1] * 5, [1, 1, 1, 0, 0], [1] * 5])
        images = torch.nn.functional.normalize(torch.randn(2, 4, 16), dim=-1)
        pairs = torch.tensor([[t, m] for t in range(3) for m in range(2)])
        each = fusion(texts, mask, images, pairs).view(3, 2)
        torch.testing.assert_close(fusion.all_pairs(texts, mask, images), each)
        alone = fusion(texts[1:2, :3], mask[1:2, :3], images, torch.tensor([[0, 0], [0, 1]]))
        torch.testing.assert_close(alone, each[1], atol=1e-5, rtol=1e-5)


def test_the_worst_word_counts_more_than_in_the_mean():
    sizes = {"text_width": 24, "image_width": 16, "cells": 4}
    fusion = FusionModel(LATE, sizes).eval().fusion
    fusion.worst_gate.load_state_dict(fusion.gate.state_dict())  # else the two weigh other words
    with torch.no_grad():
        fusion.worst.fill_(20.0)  # the soft minimum alone
    texts, mask = torch.randn(1, 6, 24), torch.ones(1, 6, dtype=torch.int64)
    images = torch.nn.functional.normalize(torch.randn(1, 4, 16), dim=-1)
    pair = torch.zeros(1, 2, dtype=torch.int64)
    least = fusion(texts, mask, images, pair)
    with torch.no_grad():
        fusion.worst.fill_(-20.0)
    assert least < fusion(texts, mask, images, pair)


def test_a_fusion_takes_the_weights_of_the_bundle_that_it_has_too(shard: Path, towers: Path):
    found = {
        name.removeprefix("fusion."): value
        for name, value in graph_weights(towers / "fusion-encoder.onnx").items()
    }
    own = tiny_model().fusion.state_dict()
    assert {"query.weight", "query.bias", "gate.weight", "sharpness", "text_in.weight"} <= set(
        found
    )
    for name in ("query.weight", "gate.weight", "read_in.weight", "sharpness"):
        torch.testing.assert_close(found[name], own[name], atol=1e-3, rtol=1e-3)


def test_lists_are_of_different_images_near_each_other_and_depend_on_the_number_alone(
    shard: Path, towers: Path, tmp_path: Path
):
    batches = run_of(shard, towers, tmp_path / "run").batches
    encoded = batches.encoded
    for number in range(5):
        one, again = batches[number], batches[number]
        assert all(torch.equal(one.inputs[k], again.inputs[k]) for k in one.inputs)
        images = one.whole["image.ids"].tolist()
        assert len(set(images)) == len(images) <= 6
        own = encoded.image_embedding[images] @ one.inputs["text.embedding"].numpy().T
        expected = [
            any(np.allclose(encoded.text_embedding[c], row) for c in batches.captions_of[image])
            for image, row in zip(images, one.inputs["text.embedding"].numpy(), strict=True)
        ]
        assert all(expected) and own.shape == (len(images), len(images))
        assert one.inputs["image.tokens"].shape[1] < encoded.image_tokens.shape[1]


def test_tokens_are_computed_once_and_are_those_of_the_bundle(
    shard: Path, towers: Path, tmp_path: Path
):
    encoders, samples = BundleEncoders(towers), read_shards(str(shard))
    first = encoded_once(encoders, samples, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").glob("tokens-*.npz")
    stamp = kept.stat().st_mtime_ns
    again = encoded_once(encoders, samples, tmp_path / "cache")
    assert kept.stat().st_mtime_ns == stamp
    embedding, tokens = encoders.texts([samples[2].captions[1]])
    row = [i for i, c in enumerate(again.captions) if again.image_of[i] == 2][1]
    np.testing.assert_allclose(again.text_embedding[row], embedding[0], atol=1e-5)
    np.testing.assert_allclose(again.text_tokens[row], tokens[0], atol=2e-3)
    np.testing.assert_array_equal(first.image_tokens, again.image_tokens)
    other = [replace(samples[0], captions=["another one"]), *samples[1:]]
    encoded_once(encoders, other, tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("tokens-*.npz"))) == 2


def test_what_cannot_be_trained_on_a_bundle_is_refused_in_a_sentence(
    shard: Path, towers: Path, tmp_path: Path
):
    with pytest.raises(ValueError, match="reads more than the tokens of a bundle"):
        FusionModel(InsertedAttention.Config(), token_sizes(read_manifest(towers)))
    made = recipe(shard, towers)
    made.objectives = options(itm=1.0) | made.objectives
    with pytest.raises(ValueError, match="the objectives are lists alone, or others without it"):
        made.check()
    made = recipe(shard, towers)
    made.train = replace(made.train, start="")
    with pytest.raises(ValueError, match="needs 'near.lists'.*folder of a bundle would"):
        made.check()
    with pytest.raises(ValueError, match="no checkpoint of a fusion"):
        replace_fusion(tmp_path / "towers.pt", towers, tmp_path / "new", "1.0.0", "")


def test_the_command_writes_over_the_bundle_that_the_encoders_are_from(
    shard: Path, towers: Path, tmp_path: Path, monkeypatch, capsys
):
    model = FusionModel(LATE, token_sizes(read_manifest(towers)))
    save(tmp_path / "model.pt", model.checkpoint() | {"data": []})
    before = (towers / "image-encoder.onnx").read_bytes()
    monkeypatch.setattr(
        "sys.argv",
        ["export", str(tmp_path / "model.pt"), str(towers), "--towers", str(towers)]
        + ["--version", "2.0.0"],
    )
    export_main()
    assert read_manifest(towers)["version"] == "2.0.0"
    assert (towers / "image-encoder.onnx").read_bytes() == before
    shutil.rmtree(towers)


def test_padded_texts_give_the_logits_of_unpadded_ones():
    torch.manual_seed(0)
    fusion = FusionModel(LATE, {"text_width": 24, "image_width": 16, "cells": 4}).fusion
    torch.nn.init.normal_(fusion.head.weight)
    side = FusionEncoders(fusion)
    texts = [np.random.default_rng(n).normal(size=(n, 24)).astype(np.float32) for n in (3, 6)]
    tokens = np.random.default_rng(0).integers(-90, 90, (1, 4, 16), dtype=np.int8)
    together = side.logits(texts, tokens, np.array([[0, 0], [1, 0]]))
    alone = side.logits(texts[:1], tokens, np.array([[0, 0]]))
    assert pad_tokens(texts)[0].shape == (2, 6, 24)
    np.testing.assert_allclose(together[:1], alone, atol=1e-4)
