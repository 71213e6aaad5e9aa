"""What rerank gains over the similarity, with the interval in which the gain lies.

The match rule is a choice, so its recall counts only on images that it was not chosen on: other
data, or the left-out folds of the same (cross-validation). The interval is a bootstrap over images
(Efron and Tibshirani 1993): captions of an image are not independent, so whole images are drawn.
Both rankings are read on the same drawn images, which makes the comparison paired."""

import numpy as np

from .recall import KS, candidate_ranks, ranks_of_first_positive
from .retrieval import Direction, Scored

# Ratios of similarity to logit that a rule is chosen from.
RATIOS = np.array([0.0, *np.geomspace(1, 400, 27)])
FOLDS, REPEATS = 5, 10
RESAMPLES = 4000  # of the bootstrap


def ranks_by_ratio(way: Direction) -> np.ndarray:
    """The rank of each query's first right item with candidates ordered by logit + ratio ·
    similarity, for each of RATIOS: int64 [ratios, q]."""
    return np.stack([ranks_of(way, ratio) for ratio in RATIOS])


def ranks_of(way: Direction, ratio: float) -> np.ndarray:
    """`ranks_by_ratio` of a single ratio: int64 [q]."""
    scores = way.logits.astype(np.float64) + ratio * way.similarity.astype(np.float64)
    return candidate_ranks(way.all_similarity, way.positive, way.candidates, scores)


def choose_ratio(ranks: list[np.ndarray]) -> int:
    """The row of RATIOS with the best R@1, then R@10, over the queries of all directions together,
    because a rule serves them all and each query says as much of it: `ranks_by_ratio` of each."""
    every = np.concatenate(ranks, axis=1)
    return int(np.lexsort((-(every < 10).sum(1), -(every < 1).sum(1)))[0])


def cross_validated_hits(
    ranks: list[np.ndarray], image_of: list[np.ndarray], k: int
) -> list[np.ndarray]:
    """How often each query finds a right item among the first k, by a ratio chosen without its
    image: float64 [q] for each direction, the mean of REPEATS divisions into FOLDS.

    image_of: of each direction, the image of each query, int64 [q]."""
    images = 1 + max(int(own.max()) for own in image_of)
    hits = [np.zeros(len(own)) for own in image_of]
    for repeat in range(REPEATS):
        fold = np.random.default_rng(repeat).permutation(images) % min(FOLDS, images)
        for left in np.unique(fold):
            held = [fold[own] == left for own in image_of]
            kept = [one[:, ~out] for one, out in zip(ranks, held, strict=True)]
            row = choose_ratio(kept)
            for found, one, out in zip(hits, ranks, held, strict=True):
                found[out] += (one[row, out] < k) / REPEATS
    return hits


def paired_interval(
    new: np.ndarray, old: np.ndarray, image_of: np.ndarray
) -> tuple[float, float, float]:
    """Mean of `new` − `old` over queries, in points of per cent, and the ends of its 95 % interval:
    both float [q], the share of hits of each query; image_of int64 [q]."""
    images, rows = np.unique(image_of, return_inverse=True)
    difference = np.bincount(rows, new - old, len(images))
    count = np.bincount(rows, minlength=len(images))
    drawn = np.random.default_rng(0).multinomial(
        len(images), np.full(len(images), 1 / len(images)), RESAMPLES
    )  # how often each image is drawn: [RESAMPLES, images]
    means = (drawn @ difference) / (drawn @ count)
    low, high = np.quantile(means, (0.025, 0.975))
    return tuple(round(100 * float(v), 2) for v in ((new - old).mean(), low, high))


def gain_report(scored: Scored, depth: int, match: dict | None = None) -> dict:
    """Recall in both directions by similarity alone (ITC), and with `depth` candidates reranked by
    the logit alone (ALBEF), by the plain sum of logit and cosine (BLIP), and by the match rule.

    Args:
        match: a rule that was fitted on other images. Without one, each query is ranked by a rule
            that was fitted without its image.
    Returns:
        For each direction the recall of each ranking, and under `gain` what the match rule adds to
        ITC for each k: points, and the ends of its 95 % interval.
    """
    ways = {"text_to_image": scored.text_to_image, "image_to_text": scored.image_to_text}
    image_of = [scored.encoded.image_of, np.arange(scored.encoded.positive.shape[1])]
    firsts = [way.first(depth) for way in ways.values()]
    if match is None:
        ranks = [ranks_by_ratio(way) for way in firsts]
        fitted = {k: cross_validated_hits(ranks, image_of, k) for k in KS}
    else:
        ranks = [ranks_of_rule(way, match) for way in firsts]
        fitted = {k: [(one < k).astype(float) for one in ranks] for k in KS}
    report: dict = {
        "depth": min(depth, firsts[0].candidates.shape[1]),
        "rule": "cross-validated" if match is None else "fitted on other images",
    }
    for i, (name, way) in enumerate(zip(ways, firsts, strict=True)):
        itc = ranks_of_first_positive(way.all_similarity, way.positive)
        rankings = {"itc": itc, "logit": ranks_of(way, 0.0), "sum": ranks_of(way, 1.0)}
        report[name] = {
            label: {f"r{k}": _per_cent(ranks < k) for k in KS} for label, ranks in rankings.items()
        }
        report[name]["fitted"] = {f"r{k}": _per_cent(fitted[k][i]) for k in KS}
        report[name]["gain"] = {}
        for k in KS:
            mean, low, high = paired_interval(fitted[k][i], itc < k, image_of[i])
            report[name]["gain"][f"r{k}"] = {"points": mean, "low": low, "high": high}
    return report


def ranks_of_rule(way: Direction, match: dict) -> np.ndarray:
    """The rank of each query's first right item with candidates ordered by a match rule: [q]."""
    scores = match["logit"] * way.logits.astype(np.float64)
    scores = scores + match["similarity"] * way.similarity.astype(np.float64)
    return candidate_ranks(way.all_similarity, way.positive, way.candidates, scores)


def list_loss(
    similarity: np.ndarray, positive: np.ndarray, size: int = 16, scale: float = 40.0
) -> float:
    """Mean cross-entropy, in nats, of each query's nearest right item among itself and the size - 1
    nearest others, by `scale` · similarity: float [q, m], bool [q, m].

    On images that the encoders were trained on it is near zero; what a fusion encoder can learn
    there says little of a search. It is what the fusion encoder's own loss has to stay below."""
    own = np.where(positive, similarity, -np.inf).max(1, keepdims=True)
    others = np.where(positive, -np.inf, similarity)
    count = min(size - 1, others.shape[1] - 1)
    nearest = -np.partition(-others, count - 1, axis=1)[:, :count]
    logits = scale * np.concatenate([own, nearest], axis=1).astype(np.float64)
    top = logits.max(1, keepdims=True)
    return float((top[:, 0] + np.log(np.exp(logits - top).sum(1)) - logits[:, 0]).mean())


def _per_cent(found: np.ndarray) -> float:
    return round(100 * float(np.mean(found)), 2)
