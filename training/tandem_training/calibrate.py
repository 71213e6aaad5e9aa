"""The match rule: a logistic regression of "these two belong together" on ITM logit and similarity (Platt 1999)."""

import numpy as np

from .evaluate import Scored
from .recall import recall_at_k, reranked


def fit_match(scored: Scored) -> tuple[dict[str, float], dict]:
    """Fit `match` on the candidates that search would rerank (the most similar photos of each caption).

    The ratio of the two weights is the one of best R@1 (then R@10), since it decides the order of hits; scale and bias
    are then fitted by maximum likelihood, since they decide the probability. The bias is moved from the share of
    matches among the candidates to one half (King and Zeng 2001): one photo in 64 matches only because 64 were
    recalled, and Flickr8k calls every other photo wrong that fits the caption as well. So the probability is that of a
    pair which is as likely a match as a near miss. Returns the rule and a report with the expected calibration error
    under that prior, over 15 bins of equal width (Guo et al. 2017, arXiv:1706.04599). ValueError when higher scores do
    not mean more matches."""
    encoded, candidates, logits = scored.encoded, scored.images, scored.image_logits
    similarity = np.take_along_axis(encoded.similarity, candidates, 1)
    truth = candidates == encoded.photo_of[:, None]
    best, ratio = (-1.0, -1.0), 0.0
    for weight in [0.0, *np.geomspace(1, 200, 24)]:
        scores = reranked(encoded.similarity, candidates, logits + weight * similarity)
        recall = recall_at_k(scores, encoded.positive)
        if (recall["r1"], recall["r10"]) > best:
            best, ratio = (recall["r1"], recall["r10"]), float(weight)
    score, truth = (logits + ratio * similarity).ravel(), truth.ravel()
    scale, bias = logistic_regression(score, truth)
    if scale <= 0:
        raise ValueError(
            f"the scores say nothing of matches (slope {scale:.3g}): the checkpoint ranks no better than chance"
        )
    bias += float(np.log((~truth).sum() / truth.sum()))
    probability = 1 / (1 + np.exp(-(scale * score + bias)))
    error = calibration_error(probability, truth, weights=np.where(truth, (~truth).sum() / truth.sum(), 1.0))
    rule = {"logit": scale, "similarity": scale * ratio, "bias": bias}
    rule = {name: round(float(value), 6) for name, value in rule.items()}
    return rule, {"depth": candidates.shape[1], "expected_calibration_error": round(error, 5)}


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


def calibration_error(
    probability: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None, bins: int = 15
) -> float:
    """Mean gap between predicted probability and share of matches, over bins of equal width weighted by their size.
    `weights` say how much each pair counts, all the same if absent."""
    weights = np.ones(len(truth)) if weights is None else weights
    which = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = np.bincount(which, weights * (probability - truth), minlength=bins)
    return float(np.abs(gaps).sum() / weights.sum())
