"""Compare recipes at equal compute: each trains for the same core-seconds, whatever a step of it
costs.

python -m tandem_training.compare recipes/clip.toml recipes/albef.toml --minutes 20 --out
runs/compare

What came out of each is kept in `out`, so that a comparison that was ended goes on with the recipes
that are missing. Then the page and the headers of the recipes are written from it."""

import argparse
import json
import platform
import re
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch

from .data.tokens import read_tokenizer
from .loop.start import starting_model
from .loop.trainer import Trainer
from .models import weights
from .recipe import Recipe, read_recipe

K = 16  # candidates reranked
RESULT = re.compile(
    r"^# Cost and result: .*\n(?:#.*\n)*", re.MULTILINE
)  # the end of a recipe's header


@dataclass
class Outcome:
    """core_minutes: of training alone, summed over cores; pairs: of photo and caption, seen in all
    steps; dev: the report of `evaluate`; measured: on which machine and day."""

    recipe: str
    fusion: str
    objectives: dict[str, float]
    parameters: int
    steps: int
    pairs: int
    core_minutes: float
    dev: dict
    measured: str


def train_for(trainer: Trainer, core_seconds: float) -> float:
    """Train until the steps have cost `core_seconds`, over all threads; → what they did cost. The
    schedule of rates ends there: how many steps remain is foreseen anew after each."""
    spent = 0.0
    while spent < core_seconds:
        begun = time.process_time()
        losses = trainer.train_step()
        spent += time.process_time() - begun
        trainer.total = max(trainer.step + 1, round(trainer.step * core_seconds / spent))
        print(f"step {trainer.step}/{trainer.total} {json.dumps(losses)}", flush=True)
    return spent


def outcome_of(name: str, recipe: Recipe, trainer: Trainer, core_seconds: float) -> Outcome:
    spent = train_for(trainer, core_seconds)
    language = next(iter(recipe.data.languages))
    return Outcome(
        recipe=name,
        fusion=recipe.model.fusion.kind,
        objectives={name: options.weight for name, options in recipe.objectives.items()},
        parameters=sum(p.numel() for p in trainer.model.parameters()),
        steps=trainer.step,
        pairs=trainer.step * recipe.train.batch * recipe.train.accumulate,
        core_minutes=round(spent / 60, 1),
        dev=trainer.evaluate(language, (K,)),
        measured=f"{platform.machine()}, {torch.get_num_threads()} threads, {date.today()}",
    )


def page(outcomes: list[Outcome]) -> str:
    """The Markdown page, a table row a recipe."""
    minutes = round(max(o.core_minutes for o in outcomes))
    photos, captions = outcomes[0].dev["photos"], outcomes[0].dev["captions"]
    lines = [
        "# Recipes, compared",
        "",
        "Written by `python -m tandem_training.compare`. Each recipe of `training/recipes/` trained on the same photos",
        f"for the same compute, {minutes} core-minutes, a frozen trunk's activations not counted; then it searched",
        f"{photos} photos by {captions} captions that it had not seen. Rerank looks at {K} candidates. Encoders that",
        "start at random learn little from so few photos in so short a time: the table says what a recipe makes of",
        "this much, not of more.",
        "",
        "| recipe | objectives | parameters | steps | pairs seen | text→image R@1/5/10 | reranked "
        "| image→text R@1/5/10 | reranked |",
        "|---|---|---:|---:|---:|---|---|---|---|",
    ]
    for o in outcomes:
        cells = []
        for way in (o.dev["text_to_image"], o.dev["image_to_text"]):
            cells += [
                _recalls(way, "itc"),
                "–" if o.fusion == "none" else _recalls(way, f"rerank@{K}"),
            ]
        counted = f"{o.parameters / 1e6:.1f} M | {o.steps} | {o.pairs}"
        lines.append(
            f"| `{o.recipe}` | {' · '.join(o.objectives)} | {counted} | {' | '.join(cells)} |"
        )
    return "\n".join(
        [*lines, "", f"Measured: {'; '.join(sorted({o.measured for o in outcomes}))}.", ""]
    )


def with_result(recipe: str, outcome: Outcome) -> str:
    """The recipe's text, its header saying cost and result. ValueError where it has no such line."""
    way, back = (_recalls(outcome.dev[way], "itc") for way in ("text_to_image", "image_to_text"))
    said = (
        f"# Cost and result: {outcome.core_minutes} core-minutes, {outcome.steps} steps; Flickr8k dev by ITC alone,\n"
        f"# R@1/5/10: text to image {way}, image to text {back} (docs/recipes.md compares).\n"
    )
    if not RESULT.search(recipe):
        raise ValueError(
            f"recipe {outcome.recipe} has no line '# Cost and result: …' in its header"
        )
    return RESULT.sub(said, recipe, count=1)


def _recalls(way: dict, by: str) -> str:
    return "/".join(f"{way[by][f'r{k}']:.1f}" for k in (1, 5, 10))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument(
        "--minutes", type=float, default=20, help="of training a recipe, summed over cores"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of what came out of each recipe"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("cache"),
        help="folder for the frozen trunk's activations",
    )
    parser.add_argument("--page", type=Path, default=Path("../docs/recipes.md"))
    args = parser.parse_args()
    tokenizer_file = weights.minilm_folder() / "tokenizer.json"
    outcomes = []
    for path in args.recipes:
        kept = args.out / f"{path.stem}.json"
        if not kept.exists():
            recipe = read_recipe(path)
            torch.manual_seed(recipe.train.seed)
            tokenizer = read_tokenizer(tokenizer_file, recipe.model.text.max_tokens)
            trainer = Trainer(
                recipe, args.out / path.stem, args.cache, starting_model(recipe), tokenizer
            )
            kept.write_text(
                json.dumps(
                    asdict(outcome_of(path.stem, recipe, trainer, 60 * args.minutes)), indent=2
                )
            )
        outcomes.append(Outcome(**json.loads(kept.read_text())))
        path.write_text(with_result(path.read_text(), outcomes[-1]))
    args.page.write_text(page(outcomes))


if __name__ == "__main__":
    main()
