"""VATT's contrast (arXiv:2104.11178, section 3.4)."""

import pytest
import torch

from support.models import options
from tandem_training.objectives.mil_nce import mil_nce_loss
from tandem_training.recipe import DataConfig, Recipe


def test_mil_nce_is_the_share_of_the_own_captions_among_all_pairs_of_image_and_captions():
    torch.manual_seed(0)
    similarity, scale = torch.rand(3, 6), torch.tensor(1.5)
    own = torch.eye(3, dtype=torch.bool).repeat(1, 2)  # two captions an image
    slow, e = 0.0, (similarity * scale.exp()).exp()
    for i in range(3):
        positive = e[i, i] + e[i, i + 3]
        negative = sum(
            (e[i, k] if not own[i, k] else 0) + (0 if j == i or not own[i, k] else e[j, k])
            for k in range(6)
            for j in ([i] if not own[i, k] else range(3))
        )
        slow -= torch.log(positive / (positive + negative)) / 3
    torch.testing.assert_close(mil_nce_loss(similarity, scale, own), torch.as_tensor(slow))


def test_one_fitting_caption_suffices():
    """A mean over captions, as of ITC, would punish the caption that does not fit."""
    own = torch.eye(2, dtype=torch.bool).repeat_interleave(2, 1)
    one = torch.tensor([[1.0, -1.0, -1.0, -1.0], [-1.0, -1.0, 1.0, -1.0]])
    assert mil_nce_loss(one, torch.tensor(3.0), own) < 1e-6


def test_mil_nce_without_further_captions_is_refused():
    with pytest.raises(ValueError, match=r"mil_nce needs 'further.embedding'.*captions = 5 would"):
        Recipe(objectives=options(mil_nce=1.0)).check()
    Recipe(DataConfig(captions=5), objectives=options(mil_nce=1.0)).check()
