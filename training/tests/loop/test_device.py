"""Training on a GPU. Where there is none, tensors with a shape and a device alone show that nothing
lies elsewhere."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from torch._subclasses.fake_tensor import FakeTensorDeviceMismatchError, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from support.models import recipe_of, tiny, trainer
from tandem_training.objectives import objective as step
from tandem_training.objectives.features import Batch, encode
from tandem_training.objectives.objective import Objectives, Step

GPU = torch.device("cuda", 0)


@pytest.fixture
def shapes_alone(monkeypatch: pytest.MonkeyPatch):
    """No numbers: what depends on them draws the first negatives."""

    def first_columns(similarity, scale, rows, columns, count, generator=None):
        assert similarity.device == rows.device == columns.device == GPU
        return torch.zeros(len(rows), count, dtype=torch.int64, device=GPU)

    monkeypatch.setattr(step, "sample_hard_negatives", first_columns)
    with FakeTensorMode(shape_env=ShapeEnv()):
        yield


def pairs(model) -> Batch:
    """Six pairs, as a data loader gives them: on the CPU."""
    ids = torch.ones(6, 7, dtype=torch.int64)
    with torch.device("cpu"):
        activations = torch.zeros(
            6, *model.vision.trunk(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)).shape[1:]
        )
    spoken = torch.zeros(6, 24)
    return Batch((activations, ids, ids), ids, ids, torch.arange(6), spoken, spoken)


@pytest.mark.parametrize(
    ("fusion", "text", "queue", "weights"),
    [
        ("none", "clip", 0, {"itc": 1.0}),
        ("none", "bert", 8, {"itc": 1.0}),
        ("none", "bert", 0, {"siglip": 1.0}),
        ("aligned", "bert", 0, {"itc": 1.0, "token_itc": 1.0, "itm": 1.0}),
        ("aligned", "clip", 0, {"lm": 1.0}),
        ("merged-attention", "bert", 0, {"itm": 1.0}),
        ("co-attention", "bert", 0, {"itm": 1.0}),
        ("inserted-attention", "bert", 0, {"itm": 1.0, "lm": 1.0}),
        ("patches", "bert", 0, {"itm": 1.0, "lm": 1.0}),
    ],
)
def test_every_objective_stays_on_the_gpu(
    fusion: str, text: str, queue: int, weights: dict, shapes_alone, tokenizer: Tokenizer
):
    batch = pairs(tiny(fusion, text=text))
    with GPU:
        model = tiny(fusion, text=text).train()
        objectives = Objectives(recipe_of(fusion, text, queue, **weights), model, tokenizer)
    moved = batch.to(GPU)
    towers = encode(model, *moved.inputs)
    losses = objectives(Step(model, model, moved, towers, torch.Generator()))
    assert {loss.device for loss in losses.values()} == {GPU}
    if fusion == "aligned":
        step.centre_logits(model, towers)
    with pytest.raises(FakeTensorDeviceMismatchError):  # or this test would show nothing
        encode(model, *batch.inputs)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_step_on_the_gpu_has_the_losses_of_the_cpu(
    shard: Path, tmp_path: Path, tokenizer: Tokenizer, monkeypatch
):
    settings = {"soft_mix": 0.0, "warmup": 0.0}
    there = trainer(shard, tmp_path / "gpu", tokenizer, **settings)
    assert {p.device for p in there.model.parameters()} == {GPU}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    here = trainer(shard, tmp_path / "cpu", tokenizer, **settings)
    for run in (there, here):
        run.model.eval()
    assert there.evaluate("en", (4,))["photos"] == 8
    assert there.train_step()["itc"] == pytest.approx(here.train_step()["itc"], rel=0.05)
