"""The match rule: the probability of "these two belong together" from ITM logit and similarity.

Temperature (Platt 1999: a sigmoid whose scale and bias are fitted) or isotonic regression (Zadrozny
and Elkan 2002: any line that rises), whichever predicts photos better that it was not fitted on."""

import numpy as np

from ..bundle.goldens import probability
from ..evaluate import Scored
from .recall import recall_at_k, reranked

DEPTH = 64  # candidates of a caption
FOLDS = 5
MOST_KNOTS = 32


def fit_match(scored: Scored) -> tuple[dict, dict]:
    """Fit `match` on the candidates that search would rerank (the DEPTH most similar photos of each
    caption).

    The ratio of the two weights is the one of best R@1 (then R@10), since it decides the order of
    hits: that of both directions together, because the rule serves both, and one alone picks its
    ratio by luck. The probability is that of a pair which is as likely a match as a near miss: one
    photo in 64 matches only because 64 were recalled, and Flickr8k calls every other photo wrong
    that fits the caption as well, so the share of matches among the candidates is moved to one half
    (King and Zeng 2001). Cross-validation leaves out a fifth of the photos at a time. Returns the
    rule and a report: log loss of each method and expected calibration error of the chosen one
    under that prior, on photos that were left out, and what a reliability diagram draws. ValueError
    when higher scores do not mean more matches."""
    encoded, candidates, logits = (
        scored.encoded,
        scored.images[:, :DEPTH],
        scored.image_logits[:, :DEPTH],
    )
    similarity = np.take_along_axis(encoded.similarity, candidates, 1)
    truth = candidates == encoded.photo_of[:, None]
    ratio = max([0.0, *np.geomspace(1, 400, 27)], key=lambda weight: recall_of_both(scored, weight))
    score, truth = (logits + ratio * similarity).ravel(), truth.ravel()
    weights = np.where(truth, (~truth).sum() / truth.sum(), 1.0)
    photo = np.repeat(encoded.photo_of, candidates.shape[1])
    left_out = {method: cross_validated(method, score, truth, weights, photo) for method in FITS}
    loss = {method: log_loss(found, truth, weights) for method, found in left_out.items()}
    chosen = min(loss, key=loss.get)
    fitted = FITS[chosen](score, truth, weights)
    rule = {"logit": fitted["logit"], "similarity": fitted["logit"] * ratio, "bias": fitted["bias"]}
    rule = {name: round(float(value), 6) for name, value in rule.items()}
    if "knots" in fitted:
        rule["knots"] = fitted["knots"]
    error = calibration_error(left_out[chosen], truth, weights)
    return rule, {
        "depth": candidates.shape[1],
        "method": chosen,
        "log_loss": {method: round(value, 5) for method, value in loss.items()},
        "expected_calibration_error": round(error, 5),
        "reliability": reliability(left_out[chosen], truth, weights),
    }


def recall_of_both(scored: Scored, weight: float) -> tuple[float, float]:
    """R@1 and R@10, the sum over both directions, of candidates ordered by logit + `weight` ·
    similarity."""
    similarity, positive = scored.encoded.similarity, scored.encoded.positive
    found = []
    for matrix, truth, candidates, logits in (
        (similarity, positive, scored.images[:, :DEPTH], scored.image_logits[:, :DEPTH]),
        (similarity.T, positive.T, scored.texts[:, :DEPTH], scored.text_logits[:, :DEPTH]),
    ):
        scores = logits + weight * np.take_along_axis(matrix, candidates, 1)
        found.append(recall_at_k(reranked(matrix, candidates, scores), truth))
    return sum(one["r1"] for one in found), sum(one["r10"] for one in found)


def fit_temperature(score: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> dict:
    """The most likely sigmoid, its bias moved to the prior that `weights` give."""
    scale, bias = logistic_regression(score, truth)
    if scale <= 0:
        raise ValueError(
            f"the scores say nothing of matches (slope {scale:.3g}): the checkpoint ranks no better than chance"
        )
    return {"logit": scale, "bias": bias + float(np.log((weights * truth).sum() / truth.sum()))}


def fit_isotonic(score: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> dict:
    """Knots of the rising line that fits best, over the argument of the fitted sigmoid: pool
    adjacent violators (Ayer et al. 1955), then few knots. No knot is certain: each has seen half a
    pair more of either kind."""
    rule = fit_temperature(score, truth, weights)
    argument = rule["logit"] * score + rule["bias"]
    order = np.argsort(argument, kind="stable")
    x, y, w = argument[order], truth[order].astype(float), weights[order]
    parts = np.searchsorted(np.cumsum(w), np.linspace(0, w.sum(), 4 * MOST_KNOTS + 1)[1:-1])
    blocks: list[list[float]] = []  # weight, weight of matches, weight · argument
    for rows in np.split(np.arange(len(x)), np.unique(parts)):
        if len(rows) == 0:
            continue
        blocks.append([w[rows].sum(), (w[rows] * y[rows]).sum(), (w[rows] * x[rows]).sum()])
        while len(blocks) > 1 and blocks[-2][1] * blocks[-1][0] >= blocks[-1][1] * blocks[-2][0]:
            blocks[-2:] = [[a + b for a, b in zip(*blocks[-2:], strict=True)]]
    step = max(1, -(-len(blocks) // MOST_KNOTS))
    pooled = [np.sum(blocks[i : i + step], axis=0) for i in range(0, len(blocks), step)]
    half = 0.5 * w.max()
    rising = np.maximum.accumulate(
        [(match + half) / (all_ + 2 * half) for all_, match, _ in pooled]
    )
    points = {
        round(float(at / all_), 6): round(float(p), 6)
        for (all_, _, at), p in zip(pooled, rising, strict=True)
    }
    if len(points) < 2:
        raise ValueError(f"isotonic regression found {len(points)} levels; expected at least 2")
    return {**rule, "knots": [[argument, p] for argument, p in points.items()]}


FITS = {"temperature": fit_temperature, "isotonic": fit_isotonic}


def cross_validated(
    method: str, score: np.ndarray, truth: np.ndarray, weights: np.ndarray, photo: np.ndarray
):
    """The probability of each pair by a rule fitted without the pair's photo: float64 [n]."""
    fold = np.random.default_rng(0).permutation(photo.max() + 1)[photo] % min(
        FOLDS, photo.max() + 1
    )
    found = np.empty(len(score))
    for left in np.unique(fold):
        rest = fold != left
        rule = FITS[method](score[rest], truth[rest], weights[rest])
        found[~rest] = probability(
            {**rule, "similarity": 0.0}, score[~rest], np.zeros((~rest).sum())
        )
    return found


def log_loss(probability: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """Mean surprise at what was true, in nats."""
    p = np.clip(np.where(truth, probability, 1 - probability), 1e-12, 1)
    return float(-(weights * np.log(p)).sum() / weights.sum())


def logistic_regression(x: np.ndarray, y: np.ndarray, steps: int = 50) -> tuple[float, float]:
    """Scale and bias of the most likely sigmoid(scale · x + bias), by Newton's method."""
    mean, spread = x.mean(), x.std() + 1e-12
    features = np.stack([(x - mean) / spread, np.ones_like(x)], 1)
    weights = np.zeros(2)
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(features @ weights, -50, 50)))
        hessian = (features * (p * (1 - p))[:, None]).T @ features + 1e-6 * np.eye(2)
        weights -= np.linalg.solve(hessian, features.T @ (p - y))
    return float(weights[0] / spread), float(weights[1] - weights[0] * mean / spread)


def _binned(
    probability: np.ndarray, truth: np.ndarray, weights: np.ndarray, bins: int
) -> np.ndarray:
    """Over bins of equal width, as shares of the weight of all pairs: pairs, predicted and true
    matches [bins, 3]."""
    which = np.minimum((probability * bins).astype(int), bins - 1)
    counted = (weights, weights * probability, weights * truth)
    return np.stack([np.bincount(which, one, minlength=bins) for one in counted], 1) / weights.sum()


def reliability(
    probability: np.ndarray, truth: np.ndarray, weights: np.ndarray, bins: int = 15
) -> list[dict]:
    """Over bins of equal width that are not empty: mean prediction, share of matches, and share of
    all pairs."""
    return [
        {
            "predicted": round(predicted / size, 5),
            "observed": round(observed / size, 5),
            "share": round(size, 5),
        }
        for size, predicted, observed in _binned(probability, truth, weights, bins)
        if size > 0
    ]


def calibration_error(
    probability: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None, bins: int = 15
) -> float:
    """Mean gap between predicted probability and share of matches (Guo et al. 2017,
    arXiv:1706.04599), over bins of equal width weighted by their size. `weights` say how much each
    pair counts, all the same if absent."""
    weights = np.ones(len(truth)) if weights is None else weights
    _, predicted, observed = _binned(probability, truth, weights, bins).T
    return float(np.abs(predicted - observed).sum())
