"""The worst misses of an evaluation, as an HTML page."""

import base64
import io
from html import escape

import numpy as np

from ..data.decoder import read_image
from .recall import ranks_of_first_positive
from .retrieval import Scored

SHOWN, HITS, SIDE = 40, 4, 160  # misses a direction, hits a miss, pixels of a thumbnail

STYLE = """body{font:15px/1.4 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}
article{border-top:1px solid #8884;padding:.8rem 0}
figure{display:inline-block;margin:.3rem .6rem .3rem 0;width:170px;vertical-align:top;
font-size:.8rem}
img{display:block;max-width:160px}.right{outline:3px solid #2a8}"""
HEAD = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Worst misses</title>'
    f"<style>{STYLE}</style>"
)


def page(scored: Scored, match: dict) -> str:
    """HTML that loads nothing: images are small JPEGs inside it, captions are escaped.

    The ranking is that of a search with rerank of all scored candidates."""
    encoded = scored.encoded
    thumbnails: dict[int, str] = {}

    def figure(image: int, right: bool, note: str) -> str:
        sample = encoded.samples[image]
        if image not in thumbnails:
            thumbnails[image] = thumbnail(sample.jpeg)
        kind = ' class="right"' if right else ""
        return (
            f'<figure><img{kind} alt="{escape(sample.key)}" src="{thumbnails[image]}">'
            f"<figcaption>{escape(note)}</figcaption></figure>"
        )

    parts = [HEAD, "<h1>Worst misses</h1>", "<h2>Captions whose image came late</h2>"]
    scores = scored.text_to_image.scores(match)
    for caption, rank in _worst(scores, encoded.positive):
        right = int(encoded.image_of[caption])
        best = enumerate(_best(scores[caption]), 1)
        hits = "".join(figure(int(hit), False, f"{at}.") for at, hit in best if hit != right)
        own = figure(right, True, f"its image, at {rank + 1}.")
        parts.append(f"<article><p>{escape(encoded.captions[caption])}</p>{own}{hits}</article>")
    parts.append("<h2>Images whose captions came late</h2>")
    scores = scored.image_to_text.scores(match)
    for image, rank in _worst(scores, encoded.positive.T):
        hits = "".join(f"<li>{escape(encoded.captions[c])}</li>" for c in _best(scores[image]))
        own = figure(image, True, f"its first caption is at {rank + 1}.")
        caption = escape(encoded.samples[image].captions[0])
        parts.append(f"<article>{own}<p>{caption}</p><ol>{hits}</ol></article>")
    return "\n".join([*parts, "</html>\n"])


def _best(scores: np.ndarray) -> np.ndarray:
    return np.argsort(-scores, kind="stable")[:HITS]


def _worst(scores: np.ndarray, positive: np.ndarray) -> list[tuple[int, int]]:
    """Row and rank (0 is first) of the missed queries, worst first."""
    ranks = ranks_of_first_positive(scores, positive)
    worst = np.argsort(-ranks, kind="stable")[:SHOWN]
    return [(int(row), int(ranks[row])) for row in worst if ranks[row] > 0]


def thumbnail(jpeg: bytes) -> str:
    """A data URL of the image as a JPEG of at most SIDE pixels."""
    image = read_image(jpeg)
    image.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=70)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
