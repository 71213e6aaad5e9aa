from types import SimpleNamespace

import numpy as np
import pytest

from tandem_training.bundle.rerank_margin import (
    UNCHANGED,
    fit_margin,
    narrowest,
    needed,
    within_margin,
)
from tandem_training.evaluation.retrieval import Direction

MATCH = {"logit": 0.1, "similarity": 10.0}


def first(argument: np.ndarray, k: int) -> list[int]:
    return np.argsort(-argument, kind="stable")[:k].tolist()


def first_within(margin: float, similarity: np.ndarray, argument: np.ndarray, k: int) -> list[int]:
    """The first k when those beyond the margin are not reranked, one candidate after another."""
    stays = [at for at, s in enumerate(similarity) if at < k or s >= similarity[k - 1] - margin]
    return [stays[at] for at in first(argument[stays], k)]


@pytest.fixture
def scored() -> SimpleNamespace:
    """500 captions of 100 images among 40 candidates, whose logits have a tail."""
    rng = np.random.default_rng(0)
    similarity = rng.uniform(0, 0.6, (500, 100))
    image_of = np.repeat(np.arange(100), 5)
    similarity[np.arange(500), image_of] += 0.3
    candidates = np.argsort(-similarity, 1)[:, :40]
    logits = np.clip(rng.standard_t(4, candidates.shape), -6, 6)
    positive = image_of[:, None] == np.arange(100)
    return SimpleNamespace(
        encoded=SimpleNamespace(image_of=image_of),
        text_to_image=Direction(similarity, positive, candidates, logits),
    )


@pytest.mark.parametrize("k", [1, 5, 10])
def test_the_needed_margin_is_the_narrowest_that_changes_nothing(scored, k: int):
    way = scored.text_to_image
    similarity = way.similarity[:50]
    argument = MATCH["logit"] * way.logits[:50] + MATCH["similarity"] * similarity
    found = needed(similarity, argument, k)
    for margin, s, a in zip(found, similarity, argument, strict=True):
        assert first_within(margin + 1e-12, s, a, k) == first(a, k)
        assert margin == 0 or first_within(margin - 1e-9, s, a, k) != first(a, k)
    assert found.any()


def test_the_first_hits_stay_within_the_fitted_margin_as_often_as_it_promises(scored):
    margin, report = fit_margin(scored, MATCH, 40)
    similarity = scored.text_to_image.similarity
    argument = MATCH["logit"] * scored.text_to_image.logits + MATCH["similarity"] * similarity
    for k in (1, 5, 10):
        kept = within_margin(similarity, k, margin)
        within = np.where(kept, argument, -np.inf)
        same = np.mean([first(a, k) == first(w, k) for a, w in zip(argument, within, strict=True)])
        said = report[f"k={k}"]
        assert same >= UNCHANGED and said["reranked"] == round(kept.sum(1).mean(), 1) < 40
        assert said["unchanged"] >= 99
        for name, value in said["all"].items():
            assert abs(said["contenders"][name] - value) <= 100 * (1 - UNCHANGED) + 1e-9
    assert report["candidates"] == 40


def test_the_fitted_margin_is_the_narrowest_that_keeps_the_share(scored):
    gaps = np.linspace(0, 1, 1001)
    assert narrowest([gaps, gaps / 2]) == 0.998 and narrowest([]) == 0
