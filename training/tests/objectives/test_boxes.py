"""Boxes and the sets that predict them, against slow references."""

import itertools

import pytest
import torch

from tandem_training.objectives.boxes import GIOU, L1, box_loss, centred, corners, giou, matched
from tandem_training.objectives.grounding import focal_loss
from tandem_training.objectives.phrases import pseudo_boxes
from tandem_training.objectives.query_sets import alignment_loss

pytestmark = pytest.mark.usefixtures("one_thread")
CLOSE = {"atol": 1e-5, "rtol": 1e-4}


def some_boxes(*shape: int) -> torch.Tensor:
    low, size = torch.rand(*shape, 2) * 0.5, 0.1 + torch.rand(*shape, 2) * 0.4
    return torch.cat([low, low + size], -1)


def test_corners_and_centres_are_each_others_inverse():
    boxes = some_boxes(5)
    torch.testing.assert_close(corners(centred(boxes)), boxes, **CLOSE)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((0, 0, 1, 1), (0, 0, 1, 1), 1.0),
        ((0, 0, 0.5, 1), (0, 0, 1, 1), 0.5),
        ((0, 0, 0.25, 1), (0.75, 0, 1, 1), -0.5),  # half of the hull is empty
        ((0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1), -0.5),
    ],
)
def test_giou_is_the_overlap_minus_the_empty_share_of_the_hull(one, other, expected):
    found = giou(torch.tensor(one, dtype=torch.float), torch.tensor(other, dtype=torch.float))
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_targets_go_to_queries_at_the_least_cost_of_all_assignments():
    torch.manual_seed(0)
    found, rows = centred(some_boxes(2, 4)), torch.tensor([0, 0, 0, 1])
    boxes, classes = some_boxes(4), torch.rand(4, 4)
    query = matched(classes, found, boxes, rows)
    for image, targets in ((0, [0, 1, 2]), (1, [3])):

        def cost(target: int, n: int, image: int = image) -> float:
            apart = (found[image, n] - centred(boxes[target])).abs().sum()
            near = giou(corners(found[image, n]), boxes[target])
            return float(L1 * apart - GIOU * near - classes[target, n])

        ways = itertools.permutations(range(4), len(targets))
        best = min(ways, key=lambda way: sum(map(cost, targets, way)))
        assert query[rows == image].tolist() == list(best)


def test_more_targets_than_queries_are_refused():
    with pytest.raises(ValueError, match="queries = 2, but an image has 3 phrases"):
        matched(torch.rand(3, 2), centred(some_boxes(1, 2)), some_boxes(3), torch.zeros(3).long())


def test_the_loss_of_a_box_is_zero_where_it_is_found_and_for_none():
    boxes = some_boxes(3)
    assert float(box_loss(centred(boxes), boxes)) == pytest.approx(0, abs=1e-5)
    assert float(box_loss(centred(boxes)[:0], boxes[:0])) == 0
    assert float(box_loss(centred(boxes.flip(0)), boxes)) > 0.1


def test_alignment_contrasts_queries_and_words_both_ways():
    torch.manual_seed(0)
    scores, words = torch.randn(2, 3, 4), torch.tensor([[True, True, False, False]] * 2)
    rows, query = torch.tensor([0, 1]), torch.tensor([2, 0])
    total = 0.0
    for row, n in ((0, 2), (1, 0)):
        own = scores[row, n]
        total += float(own.logsumexp(0) - own[:2].mean())
        for word in (0, 1):
            column = scores[row, :, word]
            total += float(column.logsumexp(0) - column[n])
    found = alignment_loss(scores, words, rows, query)
    assert float(found) == pytest.approx(total / 2 / 2, rel=1e-5)


def test_a_focal_loss_of_power_zero_is_binary_cross_entropy():
    logits, target = torch.randn(20), torch.rand(20) < 0.5
    plain = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, target.float(), reduction="sum"
    )
    torch.testing.assert_close(focal_loss(logits, target, 0.5, 0.0), plain / 2, **CLOSE)
    sure = torch.tensor([6.0, -6.0])
    assert focal_loss(sure, sure > 0) < 1e-4 * focal_loss(sure, sure < 0)


def test_a_pseudo_box_is_the_hull_of_the_tokens_that_name_the_thing():
    grid = torch.tensor([[[x, y, x + 0.5, y + 0.5] for y in (0.0, 0.5) for x in (0.0, 0.5)]])
    logits = torch.tensor([[3.0, 2.5, -4.0, -5.0]])  # the upper two cells
    assert pseudo_boxes(logits, grid, 0.5)[0].tolist() == [0.0, 0.0, 1.0, 0.5]
    assert pseudo_boxes(logits, grid, 1.0)[0].tolist() == [0.0, 0.0, 0.5, 0.5]
