import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from support.models import FILES, RECIPES, recipe_trainer, small
from tandem_training.compare import outcome_of, train_for
from tandem_training.evaluation.comparison import Outcome, page, with_result
from tandem_training.recipe import read_recipe


def outcome(
    name: str, shard: Path, tmp_path: Path, tokenizer: Tokenizer, core_seconds: float
) -> Outcome:
    torch.set_num_threads(1)
    tokenizer.add_special_tokens(["[MASK]"])
    recipe = small(name, shard)
    return outcome_of(
        name, recipe, recipe_trainer(recipe, tmp_path / name, tokenizer), core_seconds
    )


def test_more_compute_is_more_steps_and_the_rates_end_at_zero(
    shard: Path, tmp_path: Path, tokenizer: Tokenizer
):
    torch.set_num_threads(1)
    made = recipe_trainer(small("clip", shard), tmp_path / "clip", tokenizer)
    spent = train_for(made, 0.6)
    assert spent >= 0.6
    assert made.step >= made.total - 1  # the schedule had come to its end
    group = made.optimiser.groups()[0]
    assert group["lr"] < 0.1 * group["peak"]


def test_the_page_has_a_row_for_each_recipe(shard: Path, tmp_path: Path, tokenizer: Tokenizer):
    outcomes = [outcome(name, shard, tmp_path, tokenizer, 0.1) for name in ("clip", "albef")]
    clip, albef = [line for line in page(outcomes).splitlines() if line.startswith("| `")]
    assert clip.startswith("| `clip` | itc |") and clip.count("–") == 6  # nothing to rerank with
    assert albef.startswith("| `albef` | itc · itm · mlm |") and "–" not in albef


def test_the_header_of_a_recipe_gets_the_measured_result(
    shard: Path, tmp_path: Path, tokenizer: Tokenizer
):
    found = outcome("clip", shard, tmp_path, tokenizer, 0.1)
    text = (FILES["clip"]).read_text()
    once = with_result(text, found)
    assert f"# Cost and result: {found.core_minutes} core-minutes" in once
    assert with_result(once, found) == once
    recipes = shutil.copytree(RECIPES, tmp_path / "recipes")
    copied = recipes / FILES["clip"].relative_to(RECIPES)
    copied.write_text(once)
    assert read_recipe(copied) == read_recipe(FILES["clip"])
    with pytest.raises(ValueError, match="clip has no line"):
        with_result("[data]\n", found)
