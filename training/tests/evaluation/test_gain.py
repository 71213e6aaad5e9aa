"""What rerank gains: rankings, cross-validation over images, intervals."""

from types import SimpleNamespace

import numpy as np
import pytest

from tandem_training.evaluation.gain import (
    RATIOS,
    choose_ratio,
    cross_validated_hits,
    gain_report,
    list_loss,
    paired_interval,
    ranks_by_ratio,
    ranks_of_rule,
)
from tandem_training.evaluation.recall import (
    candidate_ranks,
    ranks_of_first_positive,
    recall_at_k,
    reranked,
    top_candidates,
)
from tandem_training.evaluation.retrieval import Direction

IMAGES, CAPTIONS = 120, 3


def scored(knows: float, images: int = IMAGES, depth: int = 16, seed: int = 0) -> SimpleNamespace:
    """A data set whose logit is right by `knows` standard deviations; the similarity by two."""
    rng = np.random.default_rng(seed)
    image_of = np.repeat(np.arange(images), CAPTIONS)
    positive = image_of[:, None] == np.arange(images)
    similarity = (0.05 * (rng.normal(size=positive.shape) + 2 * positive)).astype(np.float32)
    logits = (rng.normal(size=positive.shape) + knows * positive).astype(np.float32)

    def way(similarity: np.ndarray, positive: np.ndarray, logits: np.ndarray) -> Direction:
        candidates = top_candidates(similarity, depth)
        return Direction(
            similarity, positive, candidates, np.take_along_axis(logits, candidates, 1)
        )

    return SimpleNamespace(
        text_to_image=way(similarity, positive, logits),
        image_to_text=way(similarity.T, positive.T, logits.T),
        encoded=SimpleNamespace(image_of=image_of, positive=positive),
    )


def test_ranks_of_candidates_equal_those_of_the_whole_ranking():
    way = scored(1.0, depth=5).text_to_image
    scores = way.logits + 3.0 * way.similarity
    whole = ranks_of_first_positive(
        reranked(way.all_similarity, way.candidates, scores), way.positive
    )
    ours = candidate_ranks(way.all_similarity, way.positive, way.candidates, scores)
    np.testing.assert_array_equal(ours, whole)
    assert (whole >= 5).any()  # some right images are no candidates


def test_the_chosen_ratio_has_the_finds_most_over_the_queries_of_both_directions():
    data = scored(1.0)
    ways = [data.text_to_image, data.image_to_text]
    row = choose_ratio([ranks_by_ratio(way) for way in ways])
    found = []
    for ratio in RATIOS:
        rule = {"logit": 1.0, "similarity": ratio}
        ranks = [ranks_of_first_positive(way.scores(rule), way.positive) for way in ways]
        found.append(sum(int((one < 1).sum()) for one in ranks))
    assert found[row] == max(found)


def test_a_rule_that_helps_only_the_photos_it_was_chosen_on_shows_no_gain():
    gains = {"chosen": [], "validated": []}
    for seed in range(6):
        data = scored(0.0, images=40, seed=seed)  # the logit is noise
        ways = [data.text_to_image, data.image_to_text]
        image_of = [data.encoded.image_of, np.arange(40)]
        ranks = [ranks_by_ratio(way) for way in ways]
        itc = ranks_of_first_positive(ways[0].all_similarity, ways[0].positive) < 1
        row = choose_ratio(ranks)
        gains["chosen"].append((ranks[0][row] < 1).mean() - itc.mean())
        validated = cross_validated_hits(ranks, image_of, 1)[0]
        gains["validated"].append(validated.mean() - itc.mean())
    assert np.mean(gains["validated"]) < np.mean(gains["chosen"])
    assert np.mean(gains["validated"]) < 0.005


def test_a_logit_that_knows_more_gains_and_its_interval_is_above_zero():
    report = gain_report(scored(3.0), 16)
    way = report["text_to_image"]
    assert way["fitted"]["r1"] > way["itc"]["r1"] and way["logit"]["r1"] > way["itc"]["r1"]
    gain = way["gain"]["r1"]
    assert 0 < gain["low"] < gain["points"] < gain["high"]
    assert gain["points"] == pytest.approx(way["fitted"]["r1"] - way["itc"]["r1"], abs=0.011)
    assert report["rule"] == "cross-validated"


def test_a_given_rule_is_reported_as_it_is():
    data, match = scored(2.0), {"logit": 2.0, "similarity": 30.0, "bias": 0.0}
    report = gain_report(data, 16, match)
    assert report["rule"] == "fitted on other images"
    for name in ("text_to_image", "image_to_text"):
        way = getattr(data, name)
        assert report[name]["fitted"] == recall_at_k(way.scores(match), way.positive)
        np.testing.assert_array_equal(
            ranks_of_rule(way, match), ranks_of_first_positive(way.scores(match), way.positive)
        )


def test_the_interval_draws_whole_images():
    rng = np.random.default_rng(0)
    image_of = np.repeat(np.arange(200), 5)
    alike = np.repeat(rng.random(200) < 0.3, 5).astype(float)  # captions of an image agree
    apart = (rng.random(1000) < 0.3).astype(float)
    widths = [
        high - low
        for _, low, high in (paired_interval(h, np.zeros(1000), image_of) for h in (alike, apart))
    ]
    assert widths[0] > 1.7 * widths[1]  # √5 with independent captions
    mean, low, high = paired_interval(alike, np.zeros(1000), image_of)
    assert low < mean < high and mean == pytest.approx(100 * alike.mean(), abs=0.01)
    expected = 2 * 1.96 * 100 * alike.std() / np.sqrt(200)
    assert widths[0] == pytest.approx(expected, rel=0.1)


def test_the_loss_of_the_similarity_alone_is_that_of_its_lists():
    similarity = np.array([[0.5, 0.4, 0.1], [0.3, 0.2, 0.6]])
    positive = np.array([[True, False, False], [True, False, False]])
    expected = [
        np.log(1 + np.exp(10 * (0.4 - 0.5))), np.log(1 + np.exp(10 * (0.6 - 0.3))),
    ]  # fmt: skip
    assert list_loss(similarity, positive, size=2, scale=10) == pytest.approx(np.mean(expected))
    assert list_loss(similarity, positive, size=99, scale=0) == pytest.approx(np.log(3))
