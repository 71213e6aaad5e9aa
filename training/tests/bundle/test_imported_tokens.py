"""A fusion encoder trained on the tokens of an imported dual encoder (recipe fusion-on-clip)."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from support import checkpoints
from support.drawings import write_drawings
from support.models import FILES
from tandem_training.bundle.bundle import read_manifest
from tandem_training.bundle.encoders import BundleEncoders, TorchEncoders
from tandem_training.bundle.hugging_face import graphs_in, import_checkpoint
from tandem_training.bundle.imported.token_projection import TokenProjection
from tandem_training.bundle.replace_fusion import replace_fusion
from tandem_training.data.samples import read_shards
from tandem_training.loop.fusion_trainer import FusionTrainer
from tandem_training.recipe import GroupConfig, OptimiserConfig, read_recipe
from tandem_training.train import trainer_of

pytest.importorskip("transformers", reason="transformers is not installed (extra hugging-face)")
pytestmark = pytest.mark.usefixtures("one_thread")
WIDTH = 8


@pytest.fixture(params=["clip", "siglip"], scope="module")
def bundle(request, tmp_path_factory) -> Path:
    """An imported random model with tokens of the drawings."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    source = getattr(checkpoints, request.param)(folder / "source")
    shard = write_drawings(folder / "drawings-0000.tar")
    import_checkpoint(source, folder / "tokens", tokens=str(shard), token_width=WIDTH)
    return folder / "tokens"


def test_tokens_stand_beside_the_embeddings_of_the_checkpoint(bundle: Path, shard: Path):
    manifest, encoders = read_manifest(bundle), BundleEncoders(bundle)
    assert manifest["image_tokens"] == {"count": 4, "width": WIDTH, "dtype": "int8"}
    assert manifest["text_encoder"]["token_width"] == WIDTH
    graphs, tokenizer, _, _ = graphs_in(bundle.parent / "source")
    alone = TorchEncoders(graphs, encoders.tokenizer, bfloat16=False)
    samples = read_shards(str(shard))
    pixels = np.stack([encoders.rules.pixels(sample.jpeg) for sample in samples])
    embedding, tokens = encoders.images(pixels)
    np.testing.assert_allclose(embedding, alone.images(pixels)[0], atol=5e-3)
    assert np.linalg.norm(tokens.astype(float), axis=-1).min() > 50
    captions = [sample.captions[0] for sample in samples] + ["a"]
    embedding, tokens = encoders.texts(captions)
    np.testing.assert_allclose(embedding, alone.texts(captions)[0], atol=5e-3)
    # Padding changes no token of a text.
    np.testing.assert_allclose(encoders.texts(captions[-1:])[1][0], tokens[-1], atol=1e-4)


def test_a_fusion_that_has_not_been_trained_changes_no_order(bundle: Path):
    manifest, encoders = read_manifest(bundle), BundleEncoders(bundle)
    _, texts = encoders.texts(["a red bar", "one"])
    tokens = np.full((3, 4, WIDTH), 127, np.int8)
    assert not encoders.logits(texts, tokens, np.array([[0, 2], [1, 0], [1, 1]])).any()
    assert manifest["match"]["logit"] == 0 and not manifest["rerank"]["default"]
    assert "is not trained" in (bundle / "README.md").read_text()


def test_the_loss_of_the_recipe_falls_and_its_export_reranks(
    bundle: Path, shard: Path, tmp_path: Path
):
    recipe = read_recipe(FILES["fusion-on-clip"])
    recipe.data = replace(recipe.data, train=str(shard), dev=str(shard))
    recipe.train = replace(
        recipe.train, start=str(bundle), batch=6, epochs=60, evaluate_every=60, ema=0.8
    )
    recipe.objectives["lists"] = replace(recipe.objectives["lists"], size=3, nearest=4, gallery=8)
    recipe.optimiser = OptimiserConfig(
        projection=GroupConfig(2e-2, weight_decay=0.0), fusion=GroupConfig(2e-2)
    )
    recipe.check()
    run = trainer_of(recipe, tmp_path / "run", tmp_path / "cache")
    assert isinstance(run, FusionTrainer)
    run.run()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    losses = [line["lists"] for line in lines if "lists" in line]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    checkpoint, out = tmp_path / "run" / "model.pt", tmp_path / "out"
    manifest = replace_fusion(checkpoint, bundle, out, "1.1.0", str(shard))
    assert manifest["match"]["logit"] > 0
    card = (out / "README.md").read_text()
    assert "is not trained" not in card and "Training data of the fusion encoder:" in card
    old, new = BundleEncoders(bundle), BundleEncoders(out)
    pixels = np.stack([new.rules.pixels(s.jpeg) for s in read_shards(str(shard))])
    np.testing.assert_array_equal(new.images(pixels)[0], old.images(pixels)[0])


def test_states_on_few_directions_keep_what_differs():
    torch.manual_seed(0)
    basis = torch.randn(3, 24)
    states = 5 + torch.randn(40, 3) @ basis  # a large mean that all share
    project = TokenProjection.of(states, 4)
    tokens = project(states[None])[0]
    torch.testing.assert_close(tokens.norm(dim=-1), torch.ones(40))
    assert (tokens @ tokens.T).mean().abs() < 0.1
    with pytest.raises(ValueError, match="there are 3 of width 24"):
        TokenProjection.of(states[:3], 4)


def test_tokens_of_a_checkpoint_that_has_its_own_are_refused(shard: Path, tmp_path: Path):
    source = checkpoints.blip(tmp_path / "source")
    with pytest.raises(ValueError, match="--tokens: the graphs of BLIP give no states"):
        import_checkpoint(source, tmp_path / "out", tokens=str(shard))


def test_a_recipe_on_a_folder_that_is_no_bundle_is_refused(tmp_path: Path):
    recipe = read_recipe(FILES["fusion-on-clip"])
    recipe.train = replace(recipe.train, start=str(tmp_path))
    with pytest.raises(ValueError, match="is no bundle: it has no manifest.json"):
        trainer_of(recipe, tmp_path / "run", tmp_path / "cache")
