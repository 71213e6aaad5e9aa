from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from support.models import FUSION, STILL, TOWERS, model_gradients, tiny_model, trainer
from tandem_training.loop.backward import backward, recompute_layers


class Pair(nn.Module):
    """Two encoders so small that the gradient's exact equality is plain to see."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.text, self.image, self.scale = (
            nn.Linear(4, 3),
            nn.Linear(5, 3),
            nn.Parameter(torch.tensor(2.0)),
        )

    def encode(self, inputs):
        text, image = self.text(inputs["text"]), self.image(inputs["image"]).tanh()
        return {"text": text, "image": image, "tokens": image[:, None]}

    def objective(self, features):
        logits = features["text"] @ features["image"].T * self.scale
        target = torch.arange(len(logits))
        tokens = (features["tokens"].square().mean() - 1).square()
        return {"loss": nn.functional.cross_entropy(logits, target) + tokens, "tokens": tokens}

    def gradients(self, inputs, **settings):
        self.zero_grad()
        loss = backward(self.encode, self.objective, inputs, **settings)["loss"].item()
        return loss, {name: p.grad.clone() for name, p in self.named_parameters()}


@pytest.mark.parametrize("chunk", [1, 3, 4])
def test_cached_gradients_equal_those_of_the_one_big_batch(chunk: int):
    pair, inputs = (
        Pair().double(),
        {"image": torch.randn(10, 5).double(), "text": torch.randn(10, 4).double()},
    )
    loss, gradients = pair.gradients(inputs)
    cached_loss, cached = pair.gradients(inputs, chunk=chunk)
    assert cached_loss == pytest.approx(loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(cached[name], gradient)


def test_the_second_pass_repeats_the_dropout_of_the_first():
    pair, inputs = Pair(), {"image": torch.randn(6, 5), "text": torch.randn(6, 4)}
    seen = []

    def encode(inputs):
        dropped = {"image": nn.functional.dropout(inputs["image"], 0.5)}
        features = pair.encode(inputs | dropped)
        seen.append(features["image"].detach())
        return features

    backward(encode, pair.objective, inputs, chunk=2)
    assert len(seen) == 6
    assert all(torch.equal(first, second) for first, second in zip(seen[:3], seen[3:], strict=True))


@pytest.mark.parametrize(("towers", "captions"), [(True, 1), (False, 1), (True, 3)])
def test_the_whole_model_has_the_same_gradient_in_chunks(
    towers: bool, captions: int, shard, tmp_path: Path, tokenizer
):
    settings = {"model": STILL, "data": {"captions": captions}, "precision": "float32"}
    if not towers:
        settings |= {"freeze": TOWERS, "objectives": FUSION}
    whole = model_gradients(trainer(shard, tmp_path / "whole", tokenizer, **settings))
    run = trainer(shard, tmp_path / "chunked", tokenizer, **settings, chunk=3)
    encode, graphs = run._encode, []

    def watched(inputs):
        outputs = encode(inputs)
        graphs.append(outputs["image.tokens"].requires_grad)
        return outputs

    run._encode = watched
    chunked = model_gradients(run)
    assert graphs == [False] * 3 + [True] * 3 if towers else not any(graphs)
    assert whole.keys() == chunked.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(chunked[name], gradient, rtol=1e-4, atol=1e-5)


def test_recomputed_layers_give_the_same_gradient_with_dropout(
    shard: Path, tmp_path: Path, tokenizer
):
    once = model_gradients(trainer(shard, tmp_path / "once", tokenizer))
    run = trainer(shard, tmp_path / "twice", tokenizer, recompute_layers=True)
    calls = []
    layer = run.model.text.layers[0]
    layer.register_forward_pre_hook(lambda *_: calls.append("outer"))
    layer.qkv.register_forward_pre_hook(lambda *_: calls.append("inner"))
    twice = model_gradients(run)
    assert calls == ["outer", "inner", "inner"]
    assert all(torch.equal(twice[name], gradient) for name, gradient in once.items())


def test_layers_are_not_recomputed_where_no_gradient_is_asked():
    model = tiny_model()
    recompute_layers(model)
    with torch.no_grad():
        model.text(torch.ones(1, 3, dtype=torch.int64), torch.ones(1, 3, dtype=torch.int64))


def test_accumulated_batches_give_their_mean_gradient(shard: Path, tmp_path: Path, tokenizer):
    run = trainer(shard, tmp_path / "run", tokenizer, model=STILL, batch=4, accumulate=2)
    assert run.batches.shuffle.steps_per_epoch == 1
    drawn = [run.batches.shuffle.draw(number).images.tolist() for number in range(2)]
    assert sorted(sum(drawn, [])) == list(range(8))
    parts = []
    for number in range(2):
        run.model.train().zero_grad()
        batch = run.batch(number)
        backward(run._encode, partial(run._losses, number + 1, batch), batch.inputs)
        parts.append(
            {name: p.grad.clone() for name, p in run.model.named_parameters() if p.grad is not None}
        )
    run.model.zero_grad()
    for number in range(2):
        batch = run.batch(number)
        backward(run._encode, partial(run._losses, number + 1, batch), batch.inputs, share=0.5)
    for name, p in run.model.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(p.grad, (parts[0][name] + parts[1][name]) / 2)
