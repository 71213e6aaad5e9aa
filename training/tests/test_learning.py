"""Training teaches something that holds on images it has not seen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.drawings import COLOURS, SHAPES, rendering, write_shard
from support.models import masking_tokenizer, recipe_trainer, small

KINDS = [(colour, shape) for colour in COLOURS for shape in SHAPES]
CHANCE = 100 / len(KINDS)  # R@1 in per cent


def renderings(path: Path, count: int, seed: int) -> Path:
    """A shard of `count` renderings of each colour and shape, with two captions each."""
    rng = np.random.default_rng(seed)
    samples = {
        f"{colour}-{shape}-{number}": (
            rendering(colour, shape, rng),
            {"en": [f"a {colour} {shape}", f"one {shape} that is {colour}"]},
        )
        for number in range(count)
        for colour, shape in KINDS
    }
    write_shard(path, samples)
    return path


@pytest.mark.usefixtures("one_thread")
def test_the_recipe_clip_finds_unseen_renderings_far_better_than_chance(tmp_path: Path):
    recipe = small("clip", renderings(tmp_path / "train.tar", 8, seed=1))
    recipe.data = replace(recipe.data, dev=str(renderings(tmp_path / "dev.tar", 1, seed=2)))
    recipe.train = replace(recipe.train, epochs=19)  # 152 steps of 8
    run = recipe_trainer(recipe, tmp_path / "run", masking_tokenizer())
    untrained = run.evaluate("en", 4)
    for _ in range(run.total):
        run.train_step()
    trained = run.evaluate("en", 4)
    for way in ("text_to_image", "image_to_text"):
        assert untrained[way]["itc"]["r1"] < 2 * CHANCE
        assert trained[way]["itc"]["r1"] > 3 * CHANCE
