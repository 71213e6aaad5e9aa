"""Noun phrases of captions, by word lists, and the boxes that a shard may give for them."""

from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import torch
from torch import Tensor

from .function_words import FUNCTION_WORDS

MOST = 6  # phrases of a caption
# Words that describe the noun behind them.
DESCRIBING = """black white red blue green yellow brown orange pink purple gray grey tan blond
blonde golden silver dark light bright pale colorful colored striped plaid young old older little
big large small tall short long wide narrow wooden metal brick stone concrete wet dry dirty muddy
snowy snow icy sandy grassy rocky dusty rusty empty open crowded busy asian african furry fluffy
hairy bald shirtless barefoot two three four five six"""
ADJECTIVES = frozenset(DESCRIBING.split())
# Words of captions that are neither: what somebody does or how.
DOING = """are be been being runs run jumps jump walks walk stands stand sits sit plays play
looks look holds hold rides ride wears wear smiles smile climbs climb swims swim leaps leap
catches catch throws throw carries carry poses pose watches watch takes take makes make goes go
comes come lies lie sleeps eats drinks chases fetches dressed covered filled together alone away
up down out off where when that who which"""
VERBS = frozenset(DOING.split())
NOUNS_IN_ING = {"building", "railing", "clothing", "painting", "wedding", "ceiling", "ring"}


@dataclass(frozen=True)
class Phrase:
    """Places [start, stop) of a caption's tokens; its last token is the noun. `box` is x1, y1, x2,
    y2 in shares of the image's sides, or None where nobody has drawn it."""

    start: int
    stop: int
    box: tuple[float, ...] | None = None


Region = tuple[str, tuple[float, ...]]  # phrase, box


def read_regions(about: dict) -> list[Region]:
    """The phrases with boxes of a sample's .json: "regions": [{"phrase": "a dog", "box": [x1, y1,
    x2, y2]}, …], in shares of the image's sides. ValueError for another form."""
    regions = about.get("regions", [])
    for region in regions if isinstance(regions, list) else [regions]:
        phrase, box = (region.get(k) if isinstance(region, dict) else 0 for k in ("phrase", "box"))
        numbers = isinstance(box, list) and all(type(x) in (int, float) for x in box)
        inside = (
            numbers and len(box) == 4 and 0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1
        )
        if not isinstance(phrase, str) or not phrase.strip() or not inside:
            raise ValueError(
                f'a region is {str(region)[:100]}; expected {{"phrase": "a dog", "box": [x1, y1, '
                "x2, y2]} in shares of the image's sides"
            )
    return [(region["phrase"], tuple(region["box"])) for region in regions]


def is_noun(word: str) -> bool:
    """Whether a word of a caption names a thing, by exclusion: lists are short, nouns are many."""
    if not word.isalpha() or word in FUNCTION_WORDS or word in ADJECTIVES or word in VERBS:
        return False
    return not word.endswith("ing") or word in NOUNS_IN_ING


def noun_phrases(pieces: list[str]) -> list[Phrase]:
    """The nouns of a caption, given as word pieces, each with the adjectives right before it.
    Of two nouns in a row the second is the head: "dirt [bike]". Words of several pieces and special
    tokens are no nouns."""
    phrases = []
    whole = [not after.startswith("##") for after in [*pieces[1:], ""]]
    for at, piece in enumerate(pieces):
        head = whole[at] and is_noun(piece)
        if not head or (at + 1 < len(pieces) and whole[at + 1] and is_noun(pieces[at + 1])):
            continue
        before = takewhile(lambda p: p in ADJECTIVES or is_noun(p), reversed(pieces[:at]))
        phrases.append(Phrase(at - len(list(before)), at + 1))
    return phrases[:MOST]


def given_phrases(
    ids: list[int], regions: list[tuple[list[int], tuple[float, ...]]]
) -> list[Phrase]:
    """The phrases of a caption that the shard has boxes for: token ids of the caption, of each
    phrase with its box. A phrase that the caption has not word for word is left out."""
    phrases = []
    for words, box in regions:
        starts = range(len(ids) - len(words) + 1)
        at = next((i for i in starts if ids[i : i + len(words)] == words), None)
        if at is not None and words:
            phrases.append(Phrase(at, at + len(words), box))
    return phrases[:MOST]


def phrase_tensors(rows: list[list[Phrase]], mirrored: np.ndarray, t: int) -> dict[str, Tensor]:
    """The phrases of a batch, over texts of t tokens: "phrase.words" bool [b, MOST, t] and
    "phrase.boxes" [b, MOST, 4], of a `mirrored` [b] view mirrored too; negative where unknown."""
    words = torch.zeros(len(rows), MOST, t, dtype=torch.bool)
    boxes = torch.full((len(rows), MOST, 4), -1.0)
    for row, phrases in enumerate(rows):
        for place, phrase in enumerate(phrases):
            words[row, place, phrase.start : phrase.stop] = True
            if phrase.box is not None:
                x1, y1, x2, y2 = phrase.box
                turned = (1 - x2, y1, 1 - x1, y2) if mirrored[row] else phrase.box
                boxes[row, place] = torch.tensor(turned)
    return {"phrase.words": words, "phrase.boxes": boxes}
