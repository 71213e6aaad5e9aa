"""Train what a recipe names: encoders, a fusion, and the weighted sum of its objectives.

python -m tandem_training.train recipes/shipped/tandem-small-towers.toml --out runs/towers"""

import argparse
from pathlib import Path

import torch

from . import distributed
from .command import errors_as_sentences
from .data.shards import locations
from .loop.fusion_trainer import FusionTrainer
from .loop.start import starting_model, starting_tokenizer
from .loop.trainer import Trainer
from .recipe import Recipe, read_recipe


@errors_as_sentences("train")
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("recipe", type=Path)
    add("--out", type=Path, required=True, help="folder of the run; a run in it is resumed")
    add("--cache", type=Path, default=Path("cache"), help="folder for the trunk's activations")
    args = parser.parse_args()
    recipe = read_recipe(args.recipe)
    for pattern in (recipe.data.train, recipe.data.dev):
        locations(pattern)  # a pattern without a shard is an error before the weights are read
    distributed.start()
    torch.manual_seed(recipe.train.seed)
    trainer_of(recipe, args.out, args.cache).run()
    distributed.end()


def trainer_of(recipe: Recipe, out: Path, cache: Path) -> Trainer:
    """The run that the recipe asks for."""
    if recipe.fuses_tokens:
        return FusionTrainer(recipe, out, cache)
    return Trainer(recipe, out, cache, starting_model(recipe), starting_tokenizer(recipe))


if __name__ == "__main__":
    main()
