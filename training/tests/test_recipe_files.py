"""Recipe files: what they say of themselves, how they extend one another; a fusion of one's own."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from support.models import (
    FILES,
    NAMES,
    RECIPES,
    TINY,
    masking_tokenizer,
    options,
    tiny_model,
)
from support.sizes import millions
from tandem_training.loop.trainer import Trainer
from tandem_training.models.fusion.fusion import Fusion
from tandem_training.models.part import PartConfig
from tandem_training.models.registry import PARTS, register
from tandem_training.recipe import GroupConfig, read_recipe


@pytest.mark.parametrize("name", NAMES)
def test_the_header_of_a_recipe_says_how_many_parameters_train_and_names_the_file(name: str):
    recipe, text = read_recipe(FILES[name]), FILES[name].read_text()
    assert recipe.system.parameters == millions(recipe)
    path = FILES[name].relative_to(RECIPES.parent)
    assert f"python -m tandem_training.train {path} --out" in text


def test_only_the_recipes_of_the_taxonomy_name_a_system():
    assert {n for n, path in FILES.items() if read_recipe(path).system} == set(NAMES)
    papers = [read_recipe(FILES[name]).system.name for name in NAMES]
    assert len(papers) == len(set(papers))


def test_a_recipe_shows_what_differs_from_the_files_it_extends(tmp_path: Path):
    (tmp_path / "base.toml").write_text(
        """
        [text]
        kind = "bert"
        layers = 3
        [fusion]
        kind = "aligned"
        layers = 5
        [objectives]
        itc = 1.0
        itm = { weight = 0.5, negatives = 3 }
        [optimiser]
        text = { rate = 1e-3, weight_decay = 0.2 }
        """
    )
    (tmp_path / "family.toml").write_text('extends = "base.toml"\n[text]\nwidth = 48')
    (tmp_path / "mine.toml").write_text(
        """
        extends = "family.toml"
        [fusion]
        kind = "single_stream"
        [objectives]
        itc = 0.0
        itm = { negatives = 2 }
        [optimiser]
        text = 5e-5
        """
    )
    recipe = read_recipe(tmp_path / "mine.toml")
    assert (recipe.model.text.layers, recipe.model.text.width) == (3, 48)
    assert recipe.model.fusion == PARTS["fusion"]["single_stream"].Config()  # not 5 layers
    assert recipe.objectives == options(itm={"weight": 0.5, "negatives": 2})
    assert recipe.optimiser.text == GroupConfig(5e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "mine.toml"', "a file cannot extend itself"),
        ('extends = "none.toml"', "there is no file .*none.toml"),
        ("extends = 3", "extends = 3; expected the name of a file"),
        ('[system]\nname = "X"', r"\[system\]: paper is missing"),
        (
            "[system]\nname = 'X'\npaper = 'Y'\nyear = 2020\nsource = 'Z'\nparameters = 1.0\n"
            "traits = ['a (3)', 'all 3 (or 4)']",
            r"trait 'all 3 \(or 4\)' does not end with where it is from; expected a section as",
        ),
        ("SYSTEM\nserve = 'S'", r"serve = 'S'; expected one of E, R, R\+, L"),
        ("SYSTEM\nserve = 'E'\n[objectives]\nitm = 1", "the fusion 'aligned' gives a logit"),
        ("SYSTEM\nserve = 'R+'\n[objectives]\nitm = 1", r"\[model\] companion = false"),
    ],
)
def test_a_recipe_file_that_does_not_fit_is_refused_in_a_sentence(
    text: str, message: str, tmp_path: Path
):
    system = "[system]\nname = 'X'\npaper = 'Y'\nyear = 2020\nsource = 'Z'\nparameters = 1.0\n"
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("SYSTEM", system + "traits = ['a (3)', 'b (3.1)']"))
    with pytest.raises(ValueError, match=f"mine.toml: .*{message}"):
        read_recipe(path)


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
