"""What a stored token of a region holds: feature, tag and box, [n, v] an image.

The service keeps image tokens as int8 numbers of one step for all (`vision.token_step`), and treats
them as opaque bytes. So a box and a tag travel as further numbers of the token:

    [0, v - 6)      the feature, of unit length
    [v - 6, v - 4)  a tag of the image, in the first tokens: 127 · first + second is its number + 1;
                    0 is none
    [v - 4, v)      the box: x1, y1, x2, y2 in shares of the image's sides, over the whole range
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .vision import BESIDE_FEATURE as NUMBERS
from .vision import TOKEN_RANGE, token_step

BOX = 4
TAGS = 5  # an image
BASE = 127


def pack(features: Tensor, boxes: Tensor, tags: Tensor) -> Tensor:
    """Unit features [b, n, v - 6], boxes [b, n, 4], tags int64 [b, ≤ n] → tokens [b, n, v]."""
    places = (2 * boxes - 1) * TOKEN_RANGE / math.sqrt(features.shape[-1] + NUMBERS)
    none = features.new_zeros(*features.shape[:2], NUMBERS - BOX)
    return with_tags(torch.cat([features, none, places.to(features)], -1), tags)


def features_of(tokens: Tensor) -> Tensor:
    """Tokens [..., n, v] → [..., n, v - 6]."""
    return tokens[..., :-NUMBERS]


def boxes_of(tokens: Tensor) -> Tensor:
    """→ [..., n, 4] in [0, 1]."""
    return (tokens[..., -BOX:] * math.sqrt(tokens.shape[-1]) / TOKEN_RANGE + 1) / 2


def tags_of(tokens: Tensor, count: int) -> Tensor:
    """→ int64 [..., count]; -1 where the image has fewer."""
    coded = (tokens[..., :count, -NUMBERS:-BOX] / token_step(tokens.shape[-1])).round()
    return (BASE * coded[..., 0] + coded[..., 1]).long() - 1


def with_features(tokens: Tensor, features: Tensor) -> Tensor:
    """Tokens with other features [..., n, v - 6]; tags and boxes stay."""
    return torch.cat([features, tokens[..., -NUMBERS:]], -1)


def with_tags(tokens: Tensor, tags: Tensor) -> Tensor:
    """Tokens [b, n, v] of images that have these tags, int64 [b, ≤ n]."""
    number = F.pad(tags + 1, (0, tokens.shape[1] - tags.shape[1]))
    first = torch.div(number, BASE, rounding_mode="floor")
    coded = torch.stack([first, number - BASE * first], -1) * token_step(tokens.shape[-1])
    return torch.cat([tokens[..., :-NUMBERS], coded.to(tokens), tokens[..., -BOX:]], -1)


def iou(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of boxes [..., 4] that broadcast → [...]."""
    low = torch.maximum(one[..., :2], other[..., :2])
    high = torch.minimum(one[..., 2:], other[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area, another = ((boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (one, other))
    return shared / (area + another - shared).clamp(min=1e-9)


def overlap(boxes: Tensor) -> Tensor:
    """Intersection over union of every two boxes [..., n, 4] → [..., n, n]."""
    return iou(boxes[..., :, None, :], boxes[..., None, :, :])
