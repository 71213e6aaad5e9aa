"""Training on a GPU. Where there is none, tensors with a shape and a device alone show that nothing
lies elsewhere."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from torch._subclasses.fake_tensor import FakeTensorDeviceMismatchError, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from support.models import FLOAT32, options, tiny, tiny_tokenizer, trainer
from tandem_training.loop.trainer import vocabulary_of
from tandem_training.objectives import matching
from tandem_training.objectives.features import Batch
from tandem_training.objectives.objective import Step
from tandem_training.objectives.registry import attach, losses

GPU = torch.device("cuda", 0)


@pytest.fixture
def shapes_alone(monkeypatch: pytest.MonkeyPatch):
    """No numbers: what depends on them draws the first negatives."""

    def first_columns(similarity, scale, other, count, generator=None):
        assert similarity.device == other.device == GPU
        return torch.zeros(len(other), count, dtype=torch.int64, device=GPU)

    monkeypatch.setattr(matching, "sample_negatives", first_columns)
    with FakeTensorMode(shape_env=ShapeEnv()):
        yield


def pairs(model) -> Batch:
    """Six pairs, as a data loader gives them: on the CPU."""
    ids = torch.ones(6, 7, dtype=torch.int64)
    with torch.device("cpu"):
        activations = torch.zeros(
            6, *model.vision.trunk(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)).shape[1:]
        )
    sentences = torch.zeros(6, 24)
    texts = {"text.ids": ids, "text.mask": ids}
    teacher = {"sentence.text": sentences, "sentence.image": sentences}
    whole = {"image.ids": torch.arange(6)} | texts | teacher
    return Batch({"image.activations": activations} | texts, whole)


@pytest.mark.parametrize(
    ("fusion", "text", "weights"),
    [
        ("none", "causal", {"itc": 1.0}),
        ("none", "bert", {"itc": {"queue": 8}}),
        ("none", "bert", {"siglip": 1.0}),
        ("aligned", "bert", {"itc": 1.0, "token_itc": 1.0, "itm": 1.0, "rank": 1.0}),
        ("aligned", "causal", {"lm": 1.0}),
        ("single_stream", "bert", {"itm": 1.0}),
        ("dual_stream", "bert", {"itm": 1.0}),
        ("inserted_attention", "bert", {"itm": 1.0, "lm": 1.0}),
        ("patch_stream", "bert", {"itm": 1.0, "lm": 1.0}),
    ],
)
def test_every_objective_stays_on_the_gpu(fusion: str, text: str, weights: dict, shapes_alone):
    batch = pairs(tiny(fusion, text=text))
    with GPU:
        model = tiny(fusion, text=text).train()
        attach(options(**weights), model, vocabulary_of(tiny_tokenizer()))
    moved = batch.to(GPU)
    features = model(moved.inputs)
    step = Step(0, model, model, moved, features, torch.Generator(), FLOAT32)
    assert {loss.device for loss in losses(step).values()} == {GPU}
    with pytest.raises(FakeTensorDeviceMismatchError):  # or this test would show nothing
        model(batch.inputs)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_step_on_the_gpu_has_the_losses_of_the_cpu(
    shard: Path, tmp_path: Path, tokenizer: Tokenizer, monkeypatch
):
    settings = {"warmup": 0.0, "precision": "bfloat16"}
    there = trainer(shard, tmp_path / "gpu", tokenizer, **settings)
    assert {p.device for p in there.model.parameters()} == {GPU}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    here = trainer(shard, tmp_path / "cpu", tokenizer, **settings)
    for run in (there, here):
        run.model.eval()
    assert there.evaluate("en", 4)["photos"] == 8
    assert there.train_step()["itc"] == pytest.approx(here.train_step()["itc"], rel=0.05)
