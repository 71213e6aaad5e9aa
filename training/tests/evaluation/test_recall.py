from types import SimpleNamespace

import numpy as np
import pytest

from tandem_training.evaluation.calibration import calibration_error, fit_match, logistic_regression
from tandem_training.evaluation.recall import recall_at_k, reranked, top_candidates
from tandem_training.evaluation.retrieval import Direction


def slow_recall(scores, positive, k):
    hits = 0
    for row, truth in zip(scores, positive, strict=True):
        # A tie counts against the query: non-matching items stand first among equals.
        order = sorted(range(len(row)), key=lambda j: (-row[j], truth[j]))
        hits += any(truth[j] for j in order[:k])
    return round(100 * hits / len(scores), 2)


def test_recall_equals_the_slow_reference_in_both_directions():
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(size=(60, 12)), 1)  # rounded, so that ties happen
    positive = np.repeat(np.arange(12), 5)[:, None] == np.arange(12)[None, :]
    for s, p in ((scores, positive), (scores.T, positive.T)):
        assert recall_at_k(s, p) == {f"r{k}": slow_recall(s, p, k) for k in (1, 5, 10)}


def test_equal_scores_never_count_as_found():
    assert recall_at_k(np.zeros((4, 20)), np.eye(4, 20, dtype=bool)) == {
        "r1": 0.0,
        "r5": 0.0,
        "r10": 0.0,
    }


def test_candidates_are_the_most_similar_items_in_order():
    similarity = np.random.default_rng(1).normal(size=(7, 30))
    np.testing.assert_array_equal(top_candidates(similarity, 5), np.argsort(-similarity, 1)[:, :5])
    assert top_candidates(similarity, 100).shape == (7, 30)


def test_reranking_orders_candidates_and_leaves_the_rest_behind_them():
    similarity = np.array([[0.9, 0.8, 0.7, 0.6]])
    scores = reranked(similarity, np.array([[0, 1]]), np.array([[-50.0, 3.0]]))
    assert np.argsort(-scores[0]).tolist() == [1, 0, 2, 3]


def test_logistic_regression_recovers_its_own_parameters():
    rng = np.random.default_rng(2)
    x = rng.normal(3, 5, 200_000)
    y = rng.random(len(x)) < 1 / (1 + np.exp(-(0.7 * x - 2.5)))
    scale, bias = logistic_regression(x, y)
    assert abs(scale - 0.7) < 0.02 and abs(bias + 2.5) < 0.06
    assert calibration_error(1 / (1 + np.exp(-(scale * x + bias))), y) < 0.01
    assert calibration_error(np.full(len(x), 0.95), y) > 0.3


def scored(similarity: np.ndarray) -> SimpleNamespace:
    """A data set of one caption an image, as `Scored` holds it, by a model without fusion."""
    count = len(similarity)
    positive, zeros = np.eye(count, dtype=bool), np.zeros((count, count))
    ways = [
        Direction(matrix, positive, top_candidates(matrix, count), zeros)
        for matrix in (similarity, similarity.T)
    ]
    encoded = SimpleNamespace(image_of=np.arange(count))
    return SimpleNamespace(encoded=encoded, text_to_image=ways[0], image_to_text=ways[1])


def test_a_dual_encoder_alone_is_calibrated_on_its_similarity():
    noise = np.random.default_rng(3).normal(0, 0.1, (40, 40))
    rule, _ = fit_match(scored(noise + 0.3 * np.eye(40)))
    assert rule["similarity"] > 1
    with pytest.raises(ValueError, match="ranks no better than chance"):
        fit_match(scored(noise - 0.3 * np.eye(40)))


def test_the_match_rule_is_fitted_for_both_directions():
    similarity = np.random.default_rng(3).normal(0, 0.1, (40, 40)) + 0.15 * np.eye(40)
    data_set = scored(similarity)
    way = data_set.image_to_text
    # Only from image to caption does the fusion encoder know more than the similarity.
    way.logits = 20.0 * (way.candidates == np.arange(40)[:, None])
    rule, _ = fit_match(data_set)
    assert recall_at_k(way.scores(rule), way.positive)["r1"] == 100
    assert recall_at_k(similarity, np.eye(40, dtype=bool))["r1"] < 100 and rule["similarity"] > 0
