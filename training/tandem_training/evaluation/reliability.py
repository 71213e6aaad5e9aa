"""How far a match can be believed: reliability diagram and expected calibration error (Guo et al.
2017, arXiv:1706.04599)."""

from pathlib import Path

import numpy as np

from ..bundle.goldens import probability
from ..evaluate import Scored
from .calibration import DEPTH, calibration_error, reliability


def of(scored: Scored, match: dict) -> dict:
    """Of a match rule on captions and their candidates, matches and near misses counted as equally
    likely."""
    candidates, logits = scored.images[:, :DEPTH], scored.image_logits[:, :DEPTH]
    similarity = np.take_along_axis(scored.encoded.similarity, candidates, 1)
    truth = (candidates == scored.encoded.photo_of[:, None]).ravel()
    weights = np.where(truth, (~truth).sum() / max(1, truth.sum()), 1.0)
    found = probability(match, logits.ravel(), similarity.ravel())
    error = calibration_error(found, truth, weights)
    return {
        "expected_calibration_error": round(error, 5),
        "reliability": reliability(found, truth, weights),
    }


def draw(bins: list[dict], out: Path) -> None:
    """Write the diagram as PNG: observed over predicted, and below it how many pairs are predicted
    so. ModuleNotFoundError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a diagram needs matplotlib; run: pip install -e 'training[curves]'"
        ) from error
    figure = Figure(figsize=(5, 6.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    predicted, observed, share = (
        np.array([b[key] for b in bins]) for key in ("predicted", "observed", "share")
    )
    above.plot([0, 1], [0, 1], color="grey", linestyle="dashed", label="exact")
    above.plot(predicted, observed, marker="o", label="measured")
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of matches")
    above.legend()
    below.bar(predicted, share, width=0.04)
    below.set(xlabel="match", ylabel="share of pairs")
    figure.savefig(out, dpi=110)
