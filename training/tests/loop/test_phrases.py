"""Phrases with boxes of a shard, as a batch has them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from support.drawings import drawing
from support.models import masking_tokenizer, small
from tandem_training.data.samples import Sample
from tandem_training.loop.batches import Phrases

REGIONS = [("red square", (0.25, 0.25, 0.5, 0.75))]


def samples() -> list[Sample]:
    jpeg = drawing("red", "square")
    return [Sample("a", jpeg, ["a red square"], regions=REGIONS), Sample("b", jpeg, ["a bar"])]


def test_a_batch_has_the_shards_boxes_and_noun_phrases_elsewhere(tmp_path: Path):
    tokenizer = masking_tokenizer()
    phrases = Phrases(small("mdetr", tmp_path), samples(), tokenizer)
    texts = ["a red square", "a red square", "a red bar"]
    rows = [tokenizer.encode(text).ids for text in texts]
    found = phrases.batch(
        np.array([0, 0, 1]),
        torch.tensor(rows),
        torch.ones(3, 5, dtype=torch.int64),
        np.array([False, True, False]),
    )
    words, boxes = found["phrase.words"], found["phrase.boxes"]
    assert words[:, 0].tolist() == [[False, False, True, True, False]] * 3
    torch.testing.assert_close(boxes[0, 0], torch.tensor(REGIONS[0][1]))
    torch.testing.assert_close(boxes[1, 0], torch.tensor([0.5, 0.25, 0.75, 0.75]))  # mirrored
    assert (boxes[2] < 0).all() and not words[:, 1:].any()


def test_boxes_are_refused_where_views_are_crops(tmp_path: Path):
    recipe = small("mdetr", tmp_path)
    recipe.data = replace(recipe.data, views=6)
    with pytest.raises(ValueError, match="views = 6, but .* has boxes, which hold"):
        Phrases(recipe, samples(), masking_tokenizer())
    none = [replace(sample, regions=[]) for sample in samples()]
    assert not any(Phrases(recipe, none, masking_tokenizer()).regions)
