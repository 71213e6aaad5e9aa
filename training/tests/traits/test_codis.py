"""Defining traits of CODIS."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from support.models import FILES, small, step_of
from tandem_training.models.model import Tandem


def prepared(codes: int = 4):
    torch.manual_seed(0)
    model = Tandem(small("codis", FILES["codis"]).model).eval()
    step = step_of(model, codebook={"codes": codes})
    for side in ("image", "text"):
        step.features[f"{side}.embedding"] = F.normalize(torch.randn(6, 16), dim=-1)
    return model, step


def test_a_batch_is_carried_to_the_codes_evenly():
    model, _ = prepared()
    objective = model.objectives["codebook"]
    momentum, codes = F.normalize(torch.randn(6, 16), dim=-1), F.normalize(torch.randn(4, 16))
    plan = objective.plan(momentum, codes)
    torch.testing.assert_close(plan.sum(0), torch.full((4,), 1 / 4), atol=1e-4, rtol=0)
    torch.testing.assert_close(plan.sum(1), torch.full((6,), 1 / 6), atol=2e-2, rtol=0)
    nearest = momentum @ codes.T
    assert float((plan * nearest).sum()) > float(nearest.mean())


def test_the_teachers_code_of_a_modality_teaches_the_other_modalitys_student():
    model, step = prepared()
    _, average = prepared()
    step = replace(step, average=average.model)
    objective, guide = model.objectives["codebook"], step.momentum()
    guide = {side: F.normalize(torch.randn(6, 16), dim=-1) for side in ("image", "text")}
    step.shared["momentum"] = {f"{side}.embedding": x for side, x in guide.items()}
    codes, expected = F.normalize(objective.codes, dim=-1), 0.0
    for student, teacher in (("text", "image"), ("image", "text")):
        plan = objective.plan(guide[teacher], codes.detach())
        share = plan / plan.sum(1, keepdim=True)
        logits = 10.0 * step.features[f"{student}.embedding"] @ codes.T
        expected = expected - (share * logits.log_softmax(1)).sum(1).mean() / 2
    loss = objective.loss(step)["codebook"]
    torch.testing.assert_close(loss, expected)
    # One codebook serves both, and the teacher learns nothing.
    loss.backward()
    assert objective.codes.grad.any()
    assert [n for n, _ in objective.named_parameters()] == ["codes"]
    assert all(p.grad is None for p in average.model.parameters())
