"""Losses of five steps of each recipe, which a change of the code must not change:

    PYTHONPATH=.:tests python -m support.recorded [recipes]

writes those of the recipes into tests/data/losses.json, or all anew: their choices kept, their
sizes cut. All in float32 by one thread; every weight depends on its name alone."""

import dataclasses
import json
import re
import sys
import tempfile
import zlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tandem_training.loop import trainer
from tandem_training.loop.optim import Optimiser
from tandem_training.models.model import Tandem
from tandem_training.models.text.second import SecondText
from tandem_training.recipe import GroupConfig

from .drawings import write_drawings
from .models import masking_tokenizer, small

RECORD = Path(__file__).parents[1] / "data" / "losses.json"
STEPS = 5
# The names that weights had when the losses were recorded first.
FIRST_NAMES = {
    r"^pooler\.": "heads.",
    r"^fusion\.patches\.": "patches.",
    r"^objectives\.(m?lm)\.head\.": r"\1_head.",
    r"^inputs\.second_text\.encoder\.": "second.",
}


@torch.no_grad()
def fill(module: nn.Module, prefix: str = "", only: str = "") -> None:
    """Weights of a deviation that keeps a signal's size, drawn by each one's name."""
    for name, weight in module.named_parameters():
        name = prefix + name
        if weight.ndim == 0 or not name.startswith(only):
            continue
        for pattern, first in FIRST_NAMES.items():
            name = re.sub(pattern, first, name)
        random = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        noise = torch.randn(weight.shape, generator=random)
        if weight.ndim > 1:
            weight.copy_(noise * weight[0].numel() ** -0.5)
        elif "norm" in name and name.endswith("weight"):
            weight.copy_(1 + 0.1 * noise)
        else:
            weight.copy_(0.1 * noise)


def losses(name: str, folder: Path) -> list[dict[str, float]]:
    """Of STEPS steps, with what was mended since the first record undone."""
    shard = write_drawings(folder / "drawings-0000.tar", languages=("zh", "de"))
    recipe = small(name, shard)
    recipe.train = dataclasses.replace(recipe.train, precision="float32")
    recipe.optimiser = dataclasses.replace(recipe.optimiser, scalars=GroupConfig(5e-4))  # A4
    sizes = {"layers": 1, "width": 16, "heads": 2}
    recipe.inputs = {n: dataclasses.replace(c, **sizes) for n, c in recipe.inputs.items()}
    model = Tandem(recipe.model)
    fill(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "attach", attached)
        patch.setattr(SecondText, "__init__", started)
        patch.setattr(Optimiser, "step", step_at_earlier_rates)  # C8
        patch.setattr(Tandem, "read_words", encode_whole)  # C4
        run = trainer.Trainer(recipe, folder / "run", folder / "cache", model, masking_tokenizer())
        return [run.train_step() for _ in range(STEPS)]


ATTACH, START, STEP = trainer.attach, SecondText.__init__, Optimiser.step


def attached(objectives, model, vocabulary) -> None:
    ATTACH(objectives, model, vocabulary)
    fill(model, only="objectives.")


def started(encoder, *arguments) -> None:
    START(encoder, *arguments)
    fill(encoder, "inputs.second_text.", "inputs.second_text.encoder.")


def encode_whole(model: Tandem, token_ids: Tensor, mask: Tensor) -> Tensor:
    return model.encode_texts(token_ids, mask)[1]


def step_at_earlier_rates(optimiser, progress: float) -> None:
    """Progress n / total in step n, from 0."""
    done = getattr(optimiser, "done", 0)
    optimiser.done = done + 1
    STEP(optimiser, progress * done / (done + 1))


def main() -> None:
    torch.set_num_threads(1)
    record = json.loads(RECORD.read_text())
    for name in sys.argv[1:] or record:
        with tempfile.TemporaryDirectory() as folder:
            record[name] = losses(name, Path(folder))
    RECORD.write_text(written(record))


def written(record: dict) -> str:
    """JSON with a line a step."""
    rows = (
        f' "{name}": [\n  ' + ",\n  ".join(map(json.dumps, steps)) + "\n ]"
        for name, steps in record.items()
    )
    return "{\n" + ",\n".join(rows) + "\n}\n"


if __name__ == "__main__":
    main()
