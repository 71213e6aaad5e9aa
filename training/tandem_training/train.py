"""Train what a recipe names: encoders, a fusion, and the weighted sum of its objectives.

python -m tandem_training.train recipes/tandem-small-towers.toml --out runs/towers"""

import argparse
from pathlib import Path

import torch

from . import distributed
from .command import errors_as_sentences
from .data.shards import locations
from .data.tokens import read_tokenizer
from .loop.start import starting_model
from .loop.trainer import Trainer
from .models import weights
from .recipe import read_recipe


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
    max_tokens = recipe.model.text.max_tokens
    tokenizer = read_tokenizer(weights.minilm_folder() / "tokenizer.json", max_tokens)
    Trainer(recipe, args.out, args.cache, starting_model(recipe), tokenizer).run()
    distributed.end()


if __name__ == "__main__":
    main()
