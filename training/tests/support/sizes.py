"""How many parameters the recipes train, on the device `meta`, which has no memory:

PYTHONPATH=.:tests python -m support.sizes

writes `parameters` of every recipe's table [system] anew."""

import re

import torch

from tandem_training.models.model import Tandem
from tandem_training.objectives.objective import Vocabulary
from tandem_training.objectives.registry import attach
from tandem_training.recipe import Recipe, read_recipe

from .models import FILES, NAMES

LINE = re.compile(r"^parameters = .*$", re.MULTILINE)
BERT = Vocabulary(30522, 103, (0, 100, 101, 102, 103))


def millions(recipe: Recipe) -> float:
    """Of parameters, with the heads of the objectives."""
    with torch.device("meta"):
        model = Tandem(recipe.model)
        attach(recipe.objectives, model, BERT)
    return round(sum(p.numel() for p in model.parameters()) / 1e6, 1)


def main() -> None:
    for name in NAMES:
        path, count = FILES[name], millions(read_recipe(FILES[name]))
        path.write_text(
            re.sub("^parameters = .*$", f"parameters = {count}", path.read_text(), flags=re.M)
        )


if __name__ == "__main__":
    main()
