"""Boxes: how far two are apart, and which prediction of a set stands for which."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..models.vision.region_tokens import iou

L1, GIOU = 5.0, 2.0  # weights in DETR's loss and matching (its code, facebookresearch/detr main.py)


def corners(boxes: Tensor) -> Tensor:
    """Centre and size [..., 4] → x1, y1, x2, y2."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def centred(boxes: Tensor) -> Tensor:
    """x1, y1, x2, y2 [..., 4] → centre and size."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1)


def giou(one: Tensor, other: Tensor) -> Tensor:
    """Generalised intersection over union (Rezatofighi et al. 2019, arXiv:1902.09630) of boxes x1,
    y1, x2, y2 [..., 4] that broadcast → [...] in (-1, 1]."""
    low = torch.minimum(one[..., :2], other[..., :2])
    high = torch.maximum(one[..., 2:], other[..., 2:])
    hull = (high - low).prod(-1).clamp(min=1e-9)
    shared = torch.minimum(one[..., 2:], other[..., 2:]) - torch.maximum(
        one[..., :2], other[..., :2]
    )
    areas = sum((boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (one, other))
    both = areas - shared.clamp(min=0).prod(-1)
    return iou(one, other) - (hull - both) / hull


def box_loss(found: Tensor, boxes: Tensor, l1: float = L1, weight: float = GIOU) -> Tensor:
    """Predicted boxes [k, 4] as centre and size, target boxes [k, 4] as corners → the weighted sum
    of L1 and 1 - GIoU, mean over boxes; 0 for none."""
    apart = (found - centred(boxes)).abs().sum(-1)
    loss = l1 * apart + weight * (1 - giou(corners(found), boxes))
    return loss.sum() / max(1, len(boxes))


@torch.no_grad()
def matched(classes: Tensor, found: Tensor, boxes: Tensor, rows: Tensor) -> Tensor:
    """Which query stands for which target, one each, at the least cost for each image (Hungarian
    algorithm; DETR, Carion et al. 2020, arXiv:2005.12872, section 3.1).

    classes [k, n]: probability that a query gives to the target's class; found [q, n, 4] as centre
    and size; boxes [k, 4] as corners; rows [k]: the image of each target, rising. → int64 [k].
    ValueError where an image has more targets than queries."""
    near = found[rows].float()  # [k, n, 4]
    apart = (near - centred(boxes)[:, None]).abs().sum(-1)
    cost = L1 * apart - GIOU * giou(corners(near), boxes[:, None]) - classes
    query, at = torch.empty_like(rows), 0
    for count in torch.bincount(rows, minlength=len(found)).tolist():
        if count > found.shape[1]:
            raise ValueError(f"queries = {found.shape[1]}, but an image has {count} phrases")
        targets, chosen = linear_sum_assignment(cost[at : at + count].cpu().numpy())
        query[at + torch.from_numpy(targets)] = torch.from_numpy(chosen).to(query)
        at += count
    return query
