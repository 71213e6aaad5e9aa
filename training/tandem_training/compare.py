"""Compare recipes at equal compute: each trains for the same core-seconds.

python -m tandem_training.compare recipes/{clip,albef}.toml --minutes 20 --out runs/compare

Each result is kept in `--out`, so an interrupted comparison goes on with the missing recipes. The
page and the headers of the recipes are written from the results."""

import argparse
import json
import platform
import time
from dataclasses import asdict
from datetime import date
from pathlib import Path

import torch

from .command import errors_as_sentences
from .data.tokens import read_tokenizer
from .evaluation.comparison import K, Outcome, page, with_result
from .loop.start import starting_model
from .loop.trainer import Trainer
from .models import weights
from .recipe import Recipe, read_recipe


def train_for(trainer: Trainer, core_seconds: float) -> float:
    """Train until the steps have cost `core_seconds`, summed over threads → the actual cost.

    The number of remaining steps is estimated after each one; the learning rates end there."""
    spent = 0.0
    while spent < core_seconds:
        start = time.process_time()
        losses = trainer.train_step()
        spent += time.process_time() - start
        trainer.total = max(trainer.step + 1, round(trainer.step * core_seconds / spent))
        print(f"step {trainer.step}/{trainer.total} {json.dumps(losses)}", flush=True)
    return spent


def outcome_of(name: str, recipe: Recipe, trainer: Trainer, core_seconds: float) -> Outcome:
    """Train for `core_seconds` and evaluate on dev, by captions of the first language."""
    spent = train_for(trainer, core_seconds)
    return Outcome(
        recipe=name,
        fusion=recipe.model.fusion.kind,
        objectives={name: options.weight for name, options in recipe.objectives.items()},
        parameters=sum(p.numel() for p in trainer.model.parameters()),
        steps=trainer.step,
        pairs=trainer.step * recipe.train.batch * recipe.train.accumulate,
        core_minutes=round(spent / 60, 1),
        dev=trainer.evaluate(next(iter(recipe.data.languages)), K),
        measured=f"{platform.machine()}, {torch.get_num_threads()} threads, {date.today()}",
    )


@errors_as_sentences("compare")
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("recipes", type=Path, nargs="+")
    add("--minutes", type=float, default=20, help="of training a recipe, summed over cores")
    add("--out", type=Path, required=True, help="folder of the results")
    add(
        "--cache", type=Path, default=Path("cache"), help="folder of the frozen trunk's activations"
    )
    add("--page", type=Path, default=Path("../docs/recipes.md"))
    args = parser.parse_args()
    tokenizer_file = weights.minilm_folder() / "tokenizer.json"
    outcomes = []
    for path in args.recipes:
        result = args.out / f"{path.stem}.json"
        if not result.exists():
            recipe, run = read_recipe(path), args.out / path.stem
            torch.manual_seed(recipe.train.seed)
            tokenizer = read_tokenizer(tokenizer_file, recipe.model.text.max_tokens)
            trainer = Trainer(recipe, run, args.cache, starting_model(recipe), tokenizer)
            outcome = outcome_of(path.stem, recipe, trainer, 60 * args.minutes)
            result.write_text(json.dumps(asdict(outcome), indent=2))
        outcomes.append(Outcome(**json.loads(result.read_text())))
        path.write_text(with_result(path.read_text(), outcomes[-1]))
    args.page.write_text(page(outcomes))


if __name__ == "__main__":
    main()
