"""Results of compared recipes, as the page docs/recipes.md and in the headers of the recipes."""

import math
import re
from dataclasses import dataclass

from ..recipe import Recipe

K = 16  # candidates reranked
RANKINGS = ("itc", "logit", "sum", "fitted")
SIDES = ("text_to_image", "image_to_text")
RECALLS = ("r1", "r5", "r10")
# The end of a recipe's header.
RESULT = re.compile(r"^# Cost and result: .*\n(?:#.*\n)*", re.MULTILINE)
PAGE = """# Recipes, compared

Written by `python -m tandem_training.compare`. Each recipe of `training/recipes/` is trained on the
same photos for the same compute{minutes}; the frozen trunk's activations are not counted. Then it
searches {photos} unseen photos by {captions} captions, R@1/5/10. Rerank looks at {k} candidates: by
the logit alone as ALBEF ranks (of a system that writes, the likelihood), by logit + cosine as BLIP
does, and by a fitted ratio of both, chosen without the photo at hand (cross-validated); `gain` is
what that adds to ITC in R@1, with its 95 % interval (paired bootstrap by photo). The floors are the
dual encoder alone, column ITC, and a random order. Means over seeds; with a single seed,
differences below 1.5 points say nothing. Encoders that start at random learn little from so few
photos in so short a time: the table compares recipes at this compute, not at a larger one.

`ms a pair`: of a core, in PyTorch. `bytes`: that an item stores, embedding and image tokens. What
each recipe has of its paper and what it lacks stands in [the survey](survey.md).
{picture}
| recipe | objectives | parameters | pairs seen | seeds | text→image: ITC | logit | sum | fitted \
| gain | image→text: ITC | logit | sum | fitted | gain | ms a pair | bytes |
|---|---|---:|---:|---:|---|---|---|---|---|---|---|---|---|---|---:|---:|
{rows}

{measured}
"""


@dataclass
class Outcome:
    """The result of a recipe by one seed."""

    recipe: str
    fusion: str
    objectives: dict[str, float]  # weights
    parameters: int
    steps: int
    pairs: int  # of image and caption, seen in all steps
    core_minutes: float  # of training alone, summed over cores
    dev: dict  # report of `Trainer.evaluate`
    measured: str  # machine and day
    pair_ms: float = 0.0  # of a core, to rerank a pair; 0 without a fusion
    stored_bytes: int = 0  # of an item
    key: str = ""  # of recipe, start and minutes


@dataclass
class Row:
    """A recipe with its results, one a seed; none where it is not measured."""

    name: str
    recipe: Recipe
    outcomes: list[Outcome]

    def mean(self, side: str, ranking: str, k: str) -> float:
        return sum(o.dev[side][ranking][k] for o in self.outcomes) / len(self.outcomes)

    def cost_and_recall(self) -> tuple[float, float]:
        """Milliseconds a pair, and R@1 of the fitted order by captions."""
        return self.outcomes[0].pair_ms, self.mean(SIDES[0], "fitted", "r1")

    def cells(self) -> list[str]:
        parameters = self.recipe.system.parameters if self.recipe.system else 0
        anchor = f"[`{self.name}`](survey.md#{self.name})" if parameters else f"`{self.name}`"
        cells = [anchor, " · ".join(self.recipe.objectives)]
        if not self.outcomes:
            size = f"{parameters:.1f} M" if parameters else "–"
            return [*cells, size, "not measured", *["–"] * 13]
        one = self.outcomes[0]
        cells += [f"{one.parameters / 1e6:.1f} M", f"{one.pairs}", f"{len(self.outcomes)}"]
        for side in SIDES:
            way = one.dev[side]
            cells += [
                _recalls([self.mean(side, by, k) for k in RECALLS]) if by in way else "–"
                for by in RANKINGS
            ]
            cells.append(self._gain(side))
        return [*cells, f"{one.pair_ms:.2f}" if one.pair_ms else "–", f"{one.stored_bytes}"]

    def _gain(self, side: str) -> str:
        """Over seeds the mean of points and of both ends."""
        if "gain" not in self.outcomes[0].dev:
            return "–"
        gains = [outcome.dev["gain"][side]["r1"] for outcome in self.outcomes]
        means = (sum(gain[n] for gain in gains) / len(gains) for n in ("points", "low", "high"))
        return "{:+.1f} [{:.1f}, {:.1f}]".format(*means)


def page(rows: list[Row], picture: str = "") -> str:
    """The Markdown page, one table row a recipe; `picture` is the file of recall against cost."""
    every = [outcome for row in rows for outcome in row.outcomes]
    dev = every[0].dev if every else {"photos": 0, "captions": 0}
    minutes = round(max((outcome.core_minutes for outcome in every), default=0))
    random = [_random(dev["photos"], dev["captions"])] if every else []
    days = "; ".join(sorted({outcome.measured for outcome in every}))
    count = sum(bool(row.outcomes) for row in rows)
    return PAGE.format(
        minutes=f", {minutes} core-minutes" if every else "",
        photos=dev["photos"] or "the",
        captions=dev["captions"] or "their",
        k=K,
        picture=f"\n![Recall by what a pair costs to rerank]({picture})\n" if picture else "",
        rows="\n".join(
            f"| {' | '.join(cells)} |" for cells in [*(r.cells() for r in rows), *random]
        ),
        measured=f"{count} of {len(rows)} recipes are measured" + (f": {days}." if days else "."),
    )


def with_result(recipe: str, outcome: Outcome) -> str:
    """The text of a recipe file with cost and result in its header. ValueError without a place."""
    way, back = (_recalls(outcome.dev[side]["itc"][k] for k in RECALLS) for side in SIDES)
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


def _random(photos: int, captions: int) -> list[str]:
    """The row of a random order. An image has captions / photos captions."""
    own = round(captions / photos)
    ways = []
    for right, total in ((1, photos), (own, captions)):
        missed = (math.comb(total - right, min(k, total)) / math.comb(total, min(k, total))
                  for k in (1, 5, 10))  # fmt: skip
        ways.append(_recalls(100 * (1 - share) for share in missed))
    blank = ["–"] * 4
    return ["random order", "–", "–", "–", "–", ways[0], *blank, ways[1], *blank, "–", "–"]


def _recalls(values) -> str:
    return "/".join(f"{value:.1f}" for value in values)
