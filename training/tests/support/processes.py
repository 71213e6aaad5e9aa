"""Steps of recipes by two processes, which have to agree with one: started by `losses_of_two`.

RANK=0 WORLD_SIZE=2 … python -m support.processes SHARD FOLDER RECIPE…"""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from tandem_training import distributed
from tandem_training.loop.trainer import Trainer
from tandem_training.recipe import Recipe

from .models import PYTHON_PATH, masking_tokenizer, recipe_trainer, small

STEPS = 2


def still(recipe: Recipe) -> Recipe:
    """Without dropout, of which every process has its own, and in float32."""
    recipe.train = replace(recipe.train, precision="float32")
    none = {"pool_dropout": 0.0, "dropout": 0.0, "drop_tokens": 0.0}
    parts = {
        role: replace(part, **{key: v for key, v in none.items() if hasattr(part, key)})
        for role, part in recipe.model.parts().items()
    }
    recipe.model = replace(recipe.model, **parts)
    recipe.inputs = {name: replace(config, dropout=0.0) for name, config in recipe.inputs.items()}
    return recipe


def losses(name: str, shard: Path, folder: Path) -> list[dict[str, float]]:
    run = recipe_trainer(still(small(name, shard)), folder / name, masking_tokenizer())
    return [run.train_step() | {"gradient": gradient_of(run)} for _ in range(STEPS)]


def gradient_of(run: Trainer) -> float:
    """The length of the last step's gradient."""
    gradients = [p.grad.norm() for p in run.model.parameters() if p.grad is not None]
    return torch.stack(gradients).norm().item()


def losses_of_two(names: list[str], shard: Path, folder: Path) -> dict[str, list[dict]]:
    """Losses and gradient of each recipe by two processes, which share a batch."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.getsockname()[1])}
    shared = os.environ | address | {"PYTHONPATH": PYTHON_PATH, "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "support.processes", shard, folder, *names],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=600) for process in processes] == [0, 0]
    return json.loads((folder / "losses.json").read_text())


def main() -> None:
    torch.set_num_threads(1)
    distributed.start()
    shard, folder, names = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    result = {name: losses(name, shard, folder) for name in names}
    if distributed.rank() == 0:
        (folder / "losses.json").write_text(json.dumps(result))
    distributed.end()


if __name__ == "__main__":
    main()
