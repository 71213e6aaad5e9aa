"""Captions of mirrored views."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from support.drawings import drawing, write_shard
from support.models import masking_tokenizer, recipe_trainer, small

pytestmark = pytest.mark.usefixtures("one_thread")


def test_left_and_right_are_exchanged_where_the_view_is_mirrored(tmp_path: Path):
    captions = {"en": ["a red bar left", "a red square right"]}
    names = [f"image-{i}" for i in range(8)]
    write_shard(shard := tmp_path / "a.tar", {n: (drawing("red", "bar"), captions) for n in names})
    tokenizer = masking_tokenizer()
    tokenizer.add_tokens(["left", "right"])
    left, right = (tokenizer.token_to_id(word) for word in ("left", "right"))
    recipe = small("albef", shard)
    recipe.data = replace(recipe.data, views=4, captions=2)
    recipe.objectives["itc"] = replace(recipe.objectives["itc"], queue=0, soft_mix=0.0)
    batches = recipe_trainer(recipe, tmp_path / "run", tokenizer).batches
    seen = set()
    for number in range(4):
        drawn = batches.shuffle.draw(number)
        batch = batches[number]
        cells = batch.inputs["image.activations"]
        for row, ids in enumerate(batch.whole["text.ids"]):
            told = batches.captions[0][drawn.captions[row]]
            plain = [i for i in told if i in (left, right)]
            found = [int(i) for i in ids if int(i) in (left, right)]
            view = next(
                v for v in range(4) if torch.equal(of(batches, v, drawn.images[row]), cells[row])
            )
            mirrored = bool(batches.activations.mirrored(np.array([view]), drawn.images[[row]])[0])
            assert (found != plain) == mirrored
            further = [int(i) for i in batch.whole["further.ids"][row, 0]]
            assert (left in further) == ((told[4] == left) == mirrored)
            seen.add((view, mirrored))
    assert (0, False) in seen and (1, True) in seen


def of(batches, view: int, image: int) -> torch.Tensor:
    return batches.activations.batch(np.array([view]), np.array([image]))[0].float()
