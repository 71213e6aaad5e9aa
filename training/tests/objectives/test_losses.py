import math

import pytest
import torch
from torch import nn

from tandem_training.models.model import limit_scales
from tandem_training.objectives.contrastive import itc_loss
from tandem_training.objectives.matching import (
    binary_loss,
    listwise_loss,
    sample_negatives,
)


def slow_itc(similarity, scale, text_ids, image_ids):
    """Term by term: mean cross-entropy of each row and each column against its matching entries."""
    total = 0.0
    for rows, row_ids, column_ids in (
        (similarity, text_ids, image_ids),
        (similarity.T, image_ids, text_ids),
    ):
        losses = []
        for i, row in enumerate(rows):
            denominator = sum(math.exp(scale * float(v)) for v in row)
            matching = [j for j, c in enumerate(column_ids) if c == row_ids[i]]
            losses.append(
                -sum(math.log(math.exp(scale * float(row[j])) / denominator) for j in matching)
                / len(matching)
            )
        total += sum(losses) / len(losses) / 2
    return total


def test_itc_equals_the_slow_reference_with_several_captions_an_image():
    torch.manual_seed(0)
    similarity = torch.rand(6, 4) * 2 - 1
    text_ids, image_ids = torch.tensor([0, 0, 1, 2, 3, 3]), torch.arange(4)
    loss = itc_loss(similarity, torch.tensor(math.log(7.0)), text_ids, image_ids)["loss"]
    assert float(loss) == pytest.approx(
        slow_itc(similarity, 7.0, text_ids.tolist(), image_ids.tolist()), rel=1e-5
    )


def test_a_scale_beyond_one_hundred_is_clamped_after_the_step_and_comes_back():
    """At the limit it still has a gradient, which a clamp in the loss would take from it."""
    similarity, ids = torch.tensor([[0.5, 0.6], [0.1, 0.9]]), torch.arange(2)
    module = nn.Module()
    module.logit_scale = nn.Parameter(torch.tensor(math.log(1e6)))
    limit_scales(module)
    assert float(module.logit_scale.exp()) == pytest.approx(100)
    itc_loss(similarity, module.logit_scale, ids, ids)["loss"].backward()
    assert float(module.logit_scale.grad) > 0


def test_soft_targets_move_the_optimum_towards_the_teacher():
    similarity, ids = torch.eye(3), torch.arange(3)
    teacher = torch.tensor([[5.0, 5.0, 0.0], [5.0, 5.0, 0.0], [0.0, 0.0, 5.0]])
    scale = torch.tensor(math.log(10.0))
    agreeing = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])

    def loss(s, mix):
        return float(itc_loss(s, scale, ids, ids, soft=teacher, mix=mix)["loss"])

    assert loss(agreeing, 0.5) < loss(similarity, 0.5)
    assert loss(agreeing, 0.0) > loss(similarity, 0.0)


def test_hard_negatives_never_share_the_image_and_follow_similarity():
    similarity = torch.tensor([[0.9, 0.8, 0.1, -0.5], [0.9, 0.8, 0.1, -0.5]])
    other = torch.tensor([0, 1])[:, None] != torch.tensor([0, 1, 2, 1])
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(2, 4)
    for _ in range(300):
        for row, (column,) in enumerate(
            sample_negatives(similarity, torch.tensor(1.0), other, 1, generator).tolist()
        ):
            counts[row, column] += 1
    assert counts[0, 0] == 0 and counts[1, 1] == 0 and counts[1, 3] == 0
    share = counts[0, 1] / 300
    weights = [math.exp(math.e * s) for s in (0.8, 0.1, -0.5)]
    assert float(share) == pytest.approx(weights[0] / sum(weights), abs=0.1)


def test_hard_negatives_are_different_and_too_few_is_an_error():
    other = ~torch.eye(5, dtype=torch.bool)
    chosen = sample_negatives(torch.zeros(5, 5), torch.tensor(0.0), other, 4)
    assert [sorted(row) for row in chosen.tolist()] == [
        [j for j in range(5) if j != i] for i in range(5)
    ]
    with pytest.raises(ValueError, match="negatives = 5, .* only 4"):
        sample_negatives(torch.zeros(5, 5), torch.tensor(0.0), other, 5)


def test_itm_of_undecided_logits_is_chance_and_falls_with_the_right_order():
    zero = torch.zeros(3), torch.zeros(3, 2), torch.zeros(3, 2)
    assert float(binary_loss(*zero)) == pytest.approx(math.log(2))
    assert float(listwise_loss(*zero)) == pytest.approx(math.log(3))
    right = torch.full((3,), 4.0), torch.full((3, 2), -4.0), torch.full((3, 2), -4.0)
    assert float(binary_loss(*right) + listwise_loss(*right)) < 0.1
