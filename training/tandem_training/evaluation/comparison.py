"""Results of compared recipes, as the page docs/recipes.md and in the headers of the recipes."""

import re
from dataclasses import dataclass

K = 16  # candidates reranked
RANKINGS = ("itc", "logit", "sum", "fitted")
# The end of a recipe's header.
RESULT = re.compile(r"^# Cost and result: .*\n(?:#.*\n)*", re.MULTILINE)
PAGE = """# Recipes, compared

Written by `python -m tandem_training.compare`. Each recipe of `training/recipes/` is trained on the
same photos for the same compute, {minutes} core-minutes; the frozen trunk's activations are not
counted. Then it searches {photos} unseen photos by {captions} captions, R@1/5/10. Rerank looks at
{k} candidates: by the logit alone as ALBEF ranks, by logit + cosine as BLIP does, and by a fitted
ratio of both, chosen without the photo at hand (cross-validated). One seed each: differences below
1.5 points say nothing. Encoders that start at random learn little from so few photos in so short a
time: the table compares recipes at this compute, not at a larger one.

| recipe | objectives | parameters | steps | pairs seen | text→image: ITC | logit | sum | fitted \
| image→text: ITC | logit | sum | fitted |
|---|---|---:|---:|---:|---|---|---|---|---|---|---|---|
{rows}

Measured: {measured}.
"""


@dataclass
class Outcome:
    """The result of a recipe."""

    recipe: str
    fusion: str
    objectives: dict[str, float]  # weights
    parameters: int
    steps: int
    pairs: int  # of image and caption, seen in all steps
    core_minutes: float  # of training alone, summed over cores
    dev: dict  # report of `Trainer.evaluate`
    measured: str  # machine and day


def page(outcomes: list[Outcome]) -> str:
    """The Markdown page, one table row a recipe."""
    dev = outcomes[0].dev
    return PAGE.format(
        minutes=round(max(outcome.core_minutes for outcome in outcomes)),
        photos=dev["photos"],
        captions=dev["captions"],
        k=K,
        rows="\n".join(map(_row, outcomes)),
        measured="; ".join(sorted({outcome.measured for outcome in outcomes})),
    )


def with_result(recipe: str, outcome: Outcome) -> str:
    """The text of a recipe file with cost and result in its header. ValueError without a place."""
    way, back = (_recalls(outcome.dev[name], "itc") for name in ("text_to_image", "image_to_text"))
    result = (
        f"# Cost and result: {outcome.core_minutes} core-minutes, {outcome.steps} steps; "
        "Flickr8k dev by ITC alone,\n"
        f"# R@1/5/10: text to image {way}, image to text {back} (docs/recipes.md compares).\n"
    )
    if not RESULT.search(recipe):
        raise ValueError(
            f"recipe {outcome.recipe} has no line '# Cost and result: …' in its header"
        )
    return RESULT.sub(result, recipe, count=1)


def _row(outcome: Outcome) -> str:
    cells = [f"`{outcome.recipe}`", " · ".join(outcome.objectives)]
    cells += [f"{outcome.parameters / 1e6:.1f} M", f"{outcome.steps}", f"{outcome.pairs}"]
    for name in ("text_to_image", "image_to_text"):
        way = outcome.dev[name]
        cells += [_recalls(way, by) if by in way else "–" for by in RANKINGS]
    return f"| {' | '.join(cells)} |"


def _recalls(way: dict, by: str) -> str:
    return "/".join(f"{way[by][f'r{k}']:.1f}" for k in (1, 5, 10))
