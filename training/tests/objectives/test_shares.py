"""Objectives over words and tokens in a run of several processes: each reads its own rows alone."""

import pytest
import torch

from support.models import step_of, tiny
from tandem_training import distributed
from tandem_training.objectives import contrastive
from tandem_training.objectives.objective import Step

RANKS = 3


def as_rank(rank: int, monkeypatch) -> None:
    monkeypatch.setattr(distributed, "count", lambda: RANKS)
    monkeypatch.setattr(distributed, "rank", lambda: rank)


def step_with(fusion: str, objectives: dict) -> Step:
    """A step that is the same each time, but for its objectives' parameters."""
    torch.manual_seed(0)
    text = "causal" if fusion == "aligned" and "lm" in objectives else "bert"
    step = step_of(tiny(fusion, text=text), **objectives)
    cells = step.features["image.tokens"].shape[:2]
    step.batch.whole["visual.ids"] = torch.randint(0, 9, cells)
    step.features["image.tokens"].retain_grad()
    return step


@pytest.mark.parametrize(
    ("fusion", "name", "given"),
    [
        ("single_stream", "mlm", {"share": 0.5}),
        ("single_stream", "mlm", {"share": 0.5, "soft_mix": 0.4}),
        ("cross_attention", "mlm", {"share": 0.5, "pairs": 4}),
        ("inserted_attention", "lm", {}),
        ("aligned", "lm", {"smoothing": 0.1}),
        ("encoder_decoder", "prefix_lm", {}),
        ("merged", "decode", {}),
        ("instructed", "infill", {"share": 0.5}),
        ("instructed", "caption", {}),
        ("instructed", "paint", {}),
    ],
)
def test_every_process_reads_its_own_rows_and_their_mean_is_the_loss_of_all(
    fusion: str, name: str, given: dict, monkeypatch
):
    step = step_with(fusion, {name: given})
    rows = min(given.get("pairs", 6), 6) // RANKS * RANKS
    monkeypatch.setattr(type(step), "first", lambda *_: slice(0, rows))
    (whole,) = step.model.objectives[name].loss(step).values()
    (wanted,) = torch.autograd.grad(whole, step.features["image.tokens"], retain_graph=True)
    monkeypatch.undo()
    values, gradients = [], []
    for rank in range(RANKS):
        as_rank(rank, monkeypatch)
        step.generator.manual_seed(0)
        (value,) = step.model.objectives[name].loss(step).values()
        (gradient,) = torch.autograd.grad(value, step.features["image.tokens"], retain_graph=True)
        monkeypatch.undo()
        read = gradient.abs().sum((1, 2)).nonzero().flatten().tolist()
        share = rows // RANKS
        assert set(read) <= set(range(rank * share, (rank + 1) * share))
        values.append(value)
        gradients.append(gradient)
    torch.testing.assert_close(torch.stack(values).mean(), whole)
    torch.testing.assert_close(torch.stack(gradients).mean(0), wanted)


def test_every_process_compares_its_own_texts_with_all_images(monkeypatch):
    step = step_with("aligned", {"token_itc": {"soft_mix": 0.0}})
    objective, own = step.model.objectives["token_itc"], []
    monkeypatch.setattr(contrastive, "gather", lambda rows: own.append(rows) or rows)
    (whole,) = objective.loss(step).values()
    (every,) = own
    assert every.shape == (6, 6)
    monkeypatch.setattr(contrastive, "gather", lambda rows: own.append(rows) or every)
    for rank in range(RANKS):
        as_rank(rank, monkeypatch)
        torch.testing.assert_close(objective.loss(step)["token_itc"], whole)
        torch.testing.assert_close(own[-1], every[2 * rank : 2 * rank + 2])


def test_as_many_rows_as_can_be_shared_out_evenly_are_read(monkeypatch):
    step = step_with("none", {"itc": {}})
    assert step.first(4) == slice(0, 4) and step.first(100) == slice(0, 6)
    as_rank(0, monkeypatch)
    assert step.first(4) == slice(0, 3) and step.first(1) == slice(0, 3)
