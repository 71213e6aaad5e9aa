"""Each recipe of the taxonomy, at a size for a test: it trains, resumes, evaluates, exports, and
its bundle ranks."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from support.models import NAMES, RECIPES, compute_in_float32, recipe_trainer, small
from tandem_training.bundle.encoders import BundleEncoders
from tandem_training.bundle.write import export_bundle
from tandem_training.data.samples import read_shards
from tandem_training.evaluation.retrieval import evaluate
from tandem_training.loop.backward import backward
from tandem_training.models.model import Tandem
from tandem_training.recipe import read_recipe


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains_resumes_evaluates_and_exports(
    name: str, shard: Path, tmp_path: Path, tokenizer: Tokenizer
):
    torch.set_num_threads(1)
    tokenizer.add_special_tokens(["[MASK]"])
    recipe = small(name, shard)
    whole = recipe_trainer(recipe, tmp_path / "whole", tokenizer)
    curve = [whole.train_step() for _ in range(4)]
    assert set(curve[0]) == {*recipe.weights(), "loss"}

    broken = recipe_trainer(recipe, tmp_path / "broken", tokenizer)
    first = [broken.train_step() for _ in range(2)]
    broken.save_state()
    resumed = recipe_trainer(recipe, tmp_path / "broken", tokenizer)
    assert first + [resumed.train_step() for _ in range(2)] == curve

    report = whole.evaluate("en", (4,))
    assert report["photos"] == 8 and 0 <= report["text_to_image"]["rerank@4"]["r1"] <= 100

    torch.save(whole.average.checkpoint(), tmp_path / "model.pt")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    manifest = export_bundle(
        tmp_path / "model.pt", tmp_path / name, tmp_path / "tokenizer.json", "", "1.0.0"
    )
    assert manifest["rerank"]["default"] == (recipe.model.fusion != "none")
    card = (tmp_path / name / "README.md").read_text()
    assert ("EfficientNet-Lite2" in card, "MiniLM" in card) == (
        recipe.model.vision != "vit",
        recipe.model.text == "bert",
    )
    served = evaluate(
        BundleEncoders(tmp_path / name), read_shards(str(shard)), manifest["match"], (4,)
    )
    assert served["captions"] == 16


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_has_the_same_gradient_in_chunks(
    name: str, shard: Path, tmp_path: Path, tokenizer, monkeypatch
):
    compute_in_float32(monkeypatch.setattr)
    tokenizer.add_special_tokens(["[MASK]"])
    recipe = small(name, shard)
    recipe.model = replace(recipe.model, grid_dropout=0.0, text_dropout=0.0, fusion_dropout=0.0)
    gradients = []
    for chunk in (0, 3):
        run = recipe_trainer(recipe, tmp_path / "run", tokenizer)
        batch = run.batch(0)
        backward(run._encode, partial(run._losses, 1, batch), batch.inputs, chunk)
        parts = (*run.model.named_parameters(), *run.objectives.named_parameters())
        gradients.append({name: p.grad for name, p in parts if p.grad is not None})
    whole, chunked = gradients
    assert whole.keys() == chunked.keys()
    for key, gradient in whole.items():
        torch.testing.assert_close(chunked[key], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_image_tokens_of_a_recipe_fit_the_store(name: str):
    model = read_recipe(RECIPES / f"{name}.toml").model
    with torch.device("meta"):
        cells = Tandem(model).cells
    assert cells * model.image_token_width < 16 * 1024


def test_every_recipe_of_the_taxonomy_is_tested():
    bundled = {"tandem-small-towers", "tandem-small-fusion", "tandem-small-second"}
    assert {path.stem for path in RECIPES.glob("*.toml")} - bundled == set(NAMES)
