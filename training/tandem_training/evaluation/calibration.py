"""The match rule: the probability that a text and an image belong together, from ITM logit and
similarity.

Temperature scaling (Platt 1999: a sigmoid with fitted scale and bias) or isotonic regression
(Zadrozny and Elkan 2002: any rising line), whichever predicts held-out images better."""

import numpy as np
from sklearn.isotonic import isotonic_regression
from sklearn.linear_model import LogisticRegression

from .gain import RATIOS, choose_ratio, ranks_by_ratio
from .recall import match_score, probability
from .retrieval import Direction, Scored

DEPTH = 64  # candidates of a caption
FOLDS = 5
MOST_KNOTS = 32
BINS = 15  # of a reliability diagram
RIDGE = 1e-9  # keeps the slope of separable scores finite


def fit_match(scored: Scored) -> tuple[dict, dict]:
    """Fit `match` on the candidates that a search reranks (the DEPTH nearest images of a caption).

    The ratio of the two weights decides the order of hits; `choose_ratio` chooses it.

    The probability assumes that a match is as likely as a near miss. One candidate in 64 matches
    only because 64 were recalled, and Flickr8k counts every other fitting image as wrong, so the
    prior is moved to one half (King and Zeng 2001).

    Returns:
        The rule, and a report on held-out images under that prior: log loss of each method,
        expected calibration error and reliability bins of the chosen one. Each fold leaves out a
        fifth of the images.
    Raises:
        ValueError: higher scores do not mean more matches.
    """
    ways = [way.first(DEPTH) for way in (scored.text_to_image, scored.image_to_text)]
    ratio = float(RATIOS[choose_ratio([ranks_by_ratio(way) for way in ways])])
    score = match_score({"logit": 1.0, "similarity": ratio}, ways[0].logits, ways[0].similarity)
    score, (truth, weights) = score.ravel(), _pairs(ways[0])
    image = np.repeat(scored.encoded.image_of, ways[0].candidates.shape[1])
    held_out = {method: cross_validated(method, score, truth, weights, image) for method in FITS}
    loss = {method: log_loss(predicted, truth, weights) for method, predicted in held_out.items()}
    chosen = min(loss, key=loss.get)
    fitted = FITS[chosen](score, truth, weights)
    rule = {"logit": fitted["logit"], "similarity": fitted["logit"] * ratio, "bias": fitted["bias"]}
    rule = {name: round(float(value), 6) for name, value in rule.items()}
    if "knots" in fitted:
        rule["knots"] = fitted["knots"]
    return rule, {
        "depth": ways[0].candidates.shape[1],
        "method": chosen,
        "log_loss": {method: round(value, 5) for method, value in loss.items()},
        **_reliability_report(held_out[chosen], truth, weights),
    }


def reliability_of(scored: Scored, match: dict) -> dict:
    """Expected calibration error and reliability bins of a match rule on captions and their DEPTH
    nearest images, matches and near misses counted as equally likely."""
    way = scored.text_to_image.first(DEPTH)
    predicted = probability(match, way.logits.ravel(), way.similarity.ravel())
    return _reliability_report(predicted, *_pairs(way))


def _pairs(way: Direction) -> tuple[np.ndarray, np.ndarray]:
    """Whether each candidate matches, and its weight, so that both kinds weigh the same: [n]."""
    truth = np.take_along_axis(way.positive, way.candidates, 1).ravel()
    return truth, np.where(truth, (~truth).sum() / max(1, truth.sum()), 1.0)


def fit_temperature(score: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> dict:
    """The most likely sigmoid, its bias moved to the prior that `weights` give: all three [n]."""
    scale, bias = logistic_regression(score, truth)
    if scale <= 0:
        raise ValueError(
            f"the scores do not predict matches (slope {scale:.3g}): "
            "the checkpoint ranks no better than chance"
        )
    return {"logit": scale, "bias": bias + float(np.log((weights * truth).sum() / truth.sum()))}


def fit_isotonic(score: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> dict:
    """Knots of the best rising line over the argument of the fitted sigmoid: all three [n].

    The scores are first put into blocks of equal weight, and the fitted levels are merged to at
    most MOST_KNOTS. No knot is certain: each counts half a pair more of either kind."""
    rule = fit_temperature(score, truth, weights)
    argument = rule["logit"] * score + rule["bias"]
    order = np.argsort(argument, kind="stable")
    x, y, w = argument[order], truth[order].astype(float), weights[order]
    cuts = np.searchsorted(np.cumsum(w), np.linspace(0, w.sum(), 4 * MOST_KNOTS + 1)[1:-1])
    starts = np.unique([0, *cuts[cuts < len(x)]])
    # Per block: weight, weight of matches, weight · argument.
    blocks = np.add.reduceat(np.stack([w, w * y, w * x]), starts, axis=1)
    level = isotonic_regression(blocks[1] / blocks[0], sample_weight=blocks[0])
    blocks = np.add.reduceat(blocks, np.flatnonzero(np.diff(level, prepend=-1) > 1e-12), axis=1)
    step = max(1, -(-blocks.shape[1] // MOST_KNOTS))
    weight, match, moment = np.add.reduceat(blocks, np.arange(0, blocks.shape[1], step), axis=1)
    half = 0.5 * w.max()
    rising = np.maximum.accumulate((match + half) / (weight + 2 * half))
    points = {
        round(float(at), 6): round(float(p), 6)
        for at, p in zip(moment / weight, rising, strict=True)
    }
    if len(points) < 2:
        raise ValueError(f"isotonic regression found {len(points)} levels; expected at least 2")
    return {**rule, "knots": [[argument, p] for argument, p in points.items()]}


FITS = {"temperature": fit_temperature, "isotonic": fit_isotonic}


def cross_validated(
    method: str, score: np.ndarray, truth: np.ndarray, weights: np.ndarray, image: np.ndarray
) -> np.ndarray:
    """The probability of each pair by a rule fitted without the pair's image: float64 [n]."""
    count = image.max() + 1
    fold = np.random.default_rng(0).permutation(count)[image] % min(FOLDS, count)
    predicted = np.empty(len(score))
    for left in np.unique(fold):
        rest = fold != left
        rule = FITS[method](score[rest], truth[rest], weights[rest])
        predicted[~rest] = probability({**rule, "similarity": 0.0}, score[~rest], np.zeros(1))
    return predicted


def log_loss(probability: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """Weighted mean of the negative log likelihood of the truth, in nats."""
    p = np.clip(np.where(truth, probability, 1 - probability), 1e-12, 1)
    return float(-(weights * np.log(p)).sum() / weights.sum())


def logistic_regression(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Scale and bias of the most likely sigmoid(scale · x + bias): x float [n], y bool [n]."""
    x = np.asarray(x, np.float64)
    mean, spread = x.mean(), x.std() + 1e-12
    model = LogisticRegression(C=1 / RIDGE, tol=1e-9, solver="newton-cholesky", max_iter=100)
    model.fit(((x - mean) / spread)[:, None], y)
    scale = float(model.coef_[0, 0] / spread)
    return scale, float(model.intercept_[0] - scale * mean)


def _binned(probability: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weight, predicted and true matches of BINS bins of equal width, as shares of all weight:
    [BINS, 3]."""
    which = np.minimum((probability * BINS).astype(int), BINS - 1)
    counted = (weights, weights * probability, weights * truth)
    return np.stack([np.bincount(which, one, BINS) for one in counted], 1) / weights.sum()


def _reliability_report(probability: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> dict:
    """Expected calibration error, and of each bin that is not empty: mean prediction, share of
    matches, share of all pairs."""
    bins = [
        {"predicted": predicted / size, "observed": observed / size, "share": size}
        for size, predicted, observed in _binned(probability, truth, weights)
        if size > 0
    ]
    return {
        "expected_calibration_error": round(calibration_error(probability, truth, weights), 5),
        "reliability": [{name: round(v, 5) for name, v in entry.items()} for entry in bins],
    }


def calibration_error(
    probability: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Mean gap between predicted probability and share of matches over bins of equal width,
    weighted by their size (Guo et al. 2017, arXiv:1706.04599).

    `weights` [n] say how much each pair counts; all the same by default."""
    weights = np.ones(len(truth)) if weights is None else weights
    _, predicted, observed = _binned(probability, truth, weights).T
    return float(np.abs(predicted - observed).sum())
