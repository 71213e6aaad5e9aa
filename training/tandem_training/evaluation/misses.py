"""The worst misses of an evaluation as a page of its own: captions whose photo came late, photos
whose captions did."""

import base64
import io
from html import escape

import numpy as np
from PIL import Image

from ..evaluate import Scored
from .recall import ranks_of_first_positive, reranked

SHOWN, HITS, SIDE = 40, 4, 160

STYLE = """body{font:15px/1.4 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}
article{border-top:1px solid #8884;padding:.8rem 0}figure{display:inline-block;margin:.3rem .6rem .3rem 0;width:170px;
vertical-align:top;font-size:.8rem}img{display:block;max-width:160px}.right{outline:3px solid #2a8}"""


def page(scored: Scored, match: dict) -> str:
    """HTML without anything from elsewhere: pictures are small JPEGs inside it, captions are
    escaped. The ranking is that of search with rerank over all candidates that were scored."""
    encoded = scored.encoded
    thumbnails = [None] * len(encoded.samples)

    def picture(photo: int, right: bool, note: str) -> str:
        thumbnails[photo] = thumbnails[photo] or thumbnail(encoded.samples[photo].jpeg)
        kind = ' class="right"' if right else ""
        return (
            f'<figure><img{kind} alt="{escape(encoded.samples[photo].key)}" src="{thumbnails[photo]}">'
            f"<figcaption>{escape(note)}</figcaption></figure>"
        )

    parts = ["<h1>Worst misses</h1>", "<h2>Captions whose photo came late</h2>"]
    scores = _scores(encoded.similarity, scored.images, scored.image_logits, match)
    for caption, rank in _worst(scores, encoded.positive):
        right = int(encoded.photo_of[caption])
        best = np.argsort(-scores[caption], kind="stable")[:HITS]
        shown = "".join(
            picture(int(p), False, f"{at}.") for at, p in enumerate(best, 1) if p != right
        )
        own = picture(right, True, f"its photo, at {rank + 1}.")
        parts.append(f"<article><p>{escape(encoded.captions[caption])}</p>{own}{shown}</article>")
    parts.append("<h2>Photos whose captions came late</h2>")
    scores = _scores(encoded.similarity.T, scored.texts, scored.text_logits, match)
    for photo, rank in _worst(scores, encoded.positive.T):
        best = np.argsort(-scores[photo], kind="stable")[:HITS]
        found = "".join(f"<li>{escape(encoded.captions[c])}</li>" for c in best)
        own = picture(photo, True, f"its first caption is at {rank + 1}.")
        parts.append(
            f"<article>{own}<p>{escape(encoded.samples[photo].captions[0])}</p><ol>{found}</ol></article>"
        )
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Worst misses</title><style>{STYLE}</style>'
    return "\n".join([head, *parts, "</html>\n"])


def _scores(
    similarity: np.ndarray, candidates: np.ndarray, logits: np.ndarray, match: dict
) -> np.ndarray:
    own = match["logit"] * logits + match["similarity"] * np.take_along_axis(
        similarity, candidates, 1
    )
    return reranked(similarity, candidates, own)


def _worst(scores: np.ndarray, positive: np.ndarray) -> list[tuple[int, int]]:
    """Row and rank (0 is first) of the queries that were missed, worst first."""
    ranks = ranks_of_first_positive(scores, positive)
    return [
        (int(row), int(ranks[row]))
        for row in np.argsort(-ranks, kind="stable")[:SHOWN]
        if ranks[row] > 0
    ]


def thumbnail(jpeg: bytes) -> str:
    """A picture as a data URL of a small JPEG."""
    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    image.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=70)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
