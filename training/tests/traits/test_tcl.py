"""Defining traits of TCL."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from support.models import FILES, scale_convolutions, small, step_of
from tandem_training.models.model import Tandem
from tandem_training.objectives.intra import local_loss, within_loss
from tandem_training.recipe import read_recipe


def prepared():
    torch.manual_seed(0)
    model = scale_convolutions(Tandem(small("tcl", FILES["tcl"]).model)).eval()
    step = step_of(model, intra=1.0, local=1.0)
    pixels = torch.randint(0, 256, (6, 64, 64, 3), dtype=torch.uint8)
    step.batch.inputs["image.other"] = model.vision.trunk(pixels)
    return model, step


def test_the_six_terms_weigh_alike():
    weights = {n: o.weight for n, o in read_recipe(FILES["tcl"]).objectives.items()}
    assert weights["itc"] == weights["intra"] == weights["local"] == pytest.approx(1 / 3, abs=1e-3)


def test_the_momentum_encoder_sees_another_view():
    model, step = prepared()
    other = model.encode_activations(step.batch.inputs["image.other"])[0]
    torch.testing.assert_close(step.momentum()["image.embedding"], other)
    assert not torch.allclose(step.features["image.embedding"], other, atol=1e-5)


def test_the_loss_within_a_modality_and_the_local_one_equal_the_slow_references():
    torch.manual_seed(1)
    own, momentum = F.normalize(torch.randn(3, 4), dim=1), F.normalize(torch.randn(5, 4), dim=1)
    positive = torch.eye(5, dtype=torch.bool)[:3]
    scores = (7.0 * own @ momentum.T).tolist()
    total = sum(math.log(sum(map(math.exp, row))) - row[i] for i, row in enumerate(scores)) / 3
    assert float(within_loss(own, momentum, torch.tensor(7.0), positive)) == pytest.approx(total)

    local, real = torch.randn(3, 2, 4), torch.tensor([[True, True], [True, False], [True, True]])
    terms = []
    for i in range(3):
        others = [
            math.exp(7.0 * float(own[i] @ local[j, k]))
            for j in range(3) for k in range(2) if j != i and real[j, k]
        ]  # fmt: skip
        for k in range(2):
            if real[i, k]:
                match = math.exp(7.0 * float(own[i] @ local[i, k]))
                terms.append(math.log((match + sum(others)) / match))
    found = float(local_loss(own, local, torch.tensor(7.0), real))
    assert found == pytest.approx(sum(terms) / len(terms), rel=1e-4)


def test_local_parts_leave_out_the_first_word_and_give_the_teacher_no_gradient():
    model, step = prepared()
    _, average = prepared()
    step = replace(step, average=average.model)
    cells, words = model.objectives["local"].parts(step)
    assert words.shape[1] == step.batch.whole["text.ids"].shape[1] - 1
    assert not cells.requires_grad and not words.requires_grad
    changed = dict(step.momentum())
    changed["text.tokens"] = changed["text.tokens"].clone()
    changed["text.tokens"][:, 0] = 0
    step.shared["momentum"] = changed
    torch.testing.assert_close(model.objectives["local"].parts(step)[1], words)
    sum(o.loss(step)[name] for name, o in model.objectives.items()).backward()
    assert all(p.grad is None for p in average.model.parameters())
    assert model.text.project.weight.grad.any() and model.pooler.mean.weight.grad.any()
