"""Recall@k by the standard retrieval protocol, and the match rule: pure functions of matrices."""

import numpy as np

KS = (1, 5, 10)


def ranks_of_first_positive(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """scores [q, m], positive bool [q, m] → the rank of each query's best positive item: int64 [q].

    Rank 0 is first. A negative item with an equal score counts as ranked before the positive."""
    best = np.where(positive, scores, -np.inf).max(1, keepdims=True)
    return ((scores >= best) & ~positive).sum(1)


def recall_at_k(scores: np.ndarray, positive: np.ndarray) -> dict[str, float]:
    """Share of queries, in per cent, with a positive item among the k best, for k of 1, 5, 10."""
    ranks = ranks_of_first_positive(scores, positive)
    return {f"r{k}": round(100 * float((ranks < k).mean()), 2) for k in KS}


def top_candidates(similarity: np.ndarray, k: int) -> np.ndarray:
    """The k columns of highest similarity for each row, best first: int64 [q, k]."""
    k = min(k, similarity.shape[1])
    best = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(similarity, best, 1), axis=1, kind="stable")
    return np.take_along_axis(best, order, 1)


def reranked(similarity: np.ndarray, candidates: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Scores of a ranking in which the candidates [q, k] come first, ordered by `scores` [q, k].

    All other items follow, ordered by similarity: float64 [q, m]."""
    result = similarity.astype(np.float64) - 1e6
    np.put_along_axis(result, candidates, scores.astype(np.float64), axis=1)
    return result


def candidate_ranks(
    similarity: np.ndarray, positive: np.ndarray, candidates: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """`ranks_of_first_positive` of the ranking that `reranked` makes, without its matrix.

    similarity and positive [q, m], candidates and their scores [q, k] → int64 [q]."""
    right = np.take_along_axis(positive, candidates, 1)
    best = np.where(right, scores, -np.inf).max(1, keepdims=True)
    ranks = ((scores >= best) & ~right).sum(1)
    missed = ~right.any(1)
    # All candidates stand before the first right item, and are more similar than it.
    ranks[missed] = ranks_of_first_positive(similarity[missed], positive[missed])
    return ranks


def match_score(match: dict, logits: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """What hits are ordered by: the argument of the match probability, without its bias."""
    return match["logit"] * logits + match["similarity"] * similarity


def probability(match: dict, logits: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """The calibrated match of each pair in [0, 1], by a manifest's rule."""
    argument = match_score(match, logits, similarity) + match["bias"]
    if "knots" in match:
        return np.interp(argument, *zip(*match["knots"], strict=True))
    return 1 / (1 + np.exp(-np.clip(argument, -500, 500)))
