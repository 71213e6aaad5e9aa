"""Every recipe file is in the conformance suite, and a fusion of one's own in none."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from support.models import (
    BUNDLED,
    NAMES,
    ON_BUNDLES,
    RECIPES,
    TINY,
    masking_tokenizer,
    options,
    tiny_model,
)
from tandem_training.loop.trainer import Trainer
from tandem_training.models.fusion.fusion import Fusion
from tandem_training.models.part import PartConfig
from tandem_training.models.registry import PARTS, register
from tandem_training.recipe import read_recipe


def test_every_recipe_file_is_in_the_conformance_suite():
    assert {path.stem for path in RECIPES.glob("*.toml")} == {*NAMES, *BUNDLED, *ON_BUNDLES}


class Product(Fusion):
    """The product of the mean token of both sides."""

    name = "product"

    @dataclass(frozen=True)
    class Config(PartConfig):
        width: int = 8

    def __init__(self, config, text, image):
        super().__init__()
        self.width = config.width
        self.text_in = nn.Linear(text.width, self.width)
        self.image_in = nn.Linear(image.token_width, self.width)
        self.head = nn.Linear(self.width, 1)

    def hidden(self, text_tokens, mask, image_tokens, pairs, causal=False):
        words = self.text_in(text_tokens)[pairs[:, 0]]  # [p, t, width]
        cells = self.image_in(image_tokens).mean(1)[pairs[:, 1]]  # [p, width]
        return words * cells[:, None], None


def test_a_fusion_of_ones_own_is_registered_and_trained_without_touching_another_file(
    shard: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setitem(PARTS["fusion"], "product", None)
    register(Product)
    path = tmp_path / "mine.toml"
    path.write_text(
        f"""
        [data]
        train = "{shard}"
        dev = "{shard}"
        views = 1
        word_dropout = 0.0
        [fusion]
        kind = "product"
        width = 12
        [objectives]
        itm = {{ negatives = 2 }}
        mlm = {{ weight = 0.5, share = 0.4 }}
        [train]
        batch = 8
        epochs = 8
        """
    )
    recipe = read_recipe(path)
    recipe.model = replace(TINY, fusion=recipe.model.fusion)
    assert recipe.objectives == options(itm={"negatives": 2}, mlm={"weight": 0.5, "share": 0.4})
    model = tiny_model(recipe.model)
    run = Trainer(recipe, tmp_path / "run", tmp_path / "cache", model, masking_tokenizer())
    before = run.model.fusion.text_in.weight.clone()
    losses = [run.train_step() for _ in range(4)]
    assert set(losses[0]) == {"itm", "mlm", "loss"} and run.model.fusion.width == 12
    assert not torch.equal(run.model.fusion.text_in.weight, before)
