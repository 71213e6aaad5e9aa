"""Fixtures of the traits."""

from pathlib import Path

import pytest

from support.drawings import write_drawings
from support.models import masking_tokenizer, recipe_trainer, small
from tandem_training.loop.trainer import Trainer


@pytest.fixture
def run(tmp_path: Path):
    """Makes the trainer of a recipe with its sizes cut."""

    def of(name: str) -> Trainer:
        shard = write_drawings(tmp_path / "drawings-0000.tar")
        return recipe_trainer(small(name, shard), tmp_path / name, masking_tokenizer())

    return of
