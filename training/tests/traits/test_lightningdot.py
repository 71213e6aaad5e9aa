"""The defining traits of LightningDOT, on its recipe as shipped with sizes cut."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from support.regions import recipe_step
from tandem_training.models.vision.regions import windows
from tandem_training.objectives.regions import mask_regions


def loss_of(step, name: str) -> Tensor:
    step.generator.manual_seed(0)
    return step.model.objectives[name].loss(step)[name]


@pytest.mark.parametrize(
    ("objective", "other", "tokens"),
    [
        ("fused_mlm", "image.embedding", "image.tokens"),
        ("fused_mrfr", "text.embedding", "text.tokens"),
    ],
)
def test_lightningdot_reads_the_other_side_through_its_embedding_alone(
    objective: str, other: str, tokens: str
):
    _, step = recipe_step("lightningdot")
    step.model.objectives[objective].options = type(step.model.objectives[objective].options)(
        share=0.6
    )
    before = loss_of(step, objective)
    step.features[tokens] = torch.randn_like(step.features[tokens])
    torch.testing.assert_close(loss_of(step, objective), before)
    step.features[other] = step.features[other].roll(1, 0)
    assert not torch.allclose(loss_of(step, objective), before)


def test_lightningdot_hides_the_regions_that_it_asks_for():
    _, step = recipe_step("lightningdot")
    vision, read = step.model.vision, []
    contextual = vision.contextual
    vision.contextual = lambda *given: read.append(given[0]) or contextual(*given)
    regressed = []
    step.model.objectives["fused_mrfr"].regress.register_forward_hook(
        lambda _, given, out: regressed.append(out)
    )
    loss = loss_of(step, "fused_mrfr")
    features = vision.region_features(step.batch.inputs["image.activations"])
    hidden = (read[0] == 0).all(-1) & (features != 0).any(-1)
    assert hidden.any() and torch.equal(read[0][~hidden], features[~hidden])
    step.generator.manual_seed(0)
    own = step.model.objectives["fused_mrfr"].options
    chosen, _ = mask_regions(
        windows().expand(6, -1, -1), own.share, 0.0, own.beside, 1.0, step.generator
    )
    assert hidden[chosen & (features != 0).any(-1)].all()
    target = F.layer_norm(features[chosen], features.shape[-1:])
    torch.testing.assert_close(loss, (regressed[0] - target).square().mean())


def test_lightningdot_searches_by_the_dot_product_and_a_merged_stream_reranks():
    recipe, step = recipe_step("lightningdot")
    assert not recipe.model.companion and recipe.model.fusion.kind == "merged"
    losses_of_itc = step.model.objectives["itc"].loss(step)["itc"]
    (gradient,) = torch.autograd.grad(losses_of_itc, step.model.vision.feature_in.weight)
    assert gradient.any()  # no companion: the encoders of the system learn from the contrast
    both = [step.features[f"{side}.embedding"] for side in ("text", "image")]
    step.features["text.tokens"] = torch.randn_like(step.features["text.tokens"])
    torch.testing.assert_close(step.similarity(), both[0] @ both[1].T)


def test_lightningdots_regions_attend_to_each_other():
    _, step = recipe_step("lightningdot")
    vision, cells = step.model.vision, step.batch.inputs["image.activations"]
    features, boxes = vision.region_features(cells), vision.boxes(cells)
    other = features.clone()
    other[:, 1:] = other[:, 1:].roll(1, 0)
    states = [vision.contextual(given, boxes)[:, 0] for given in (features, other)]
    assert not torch.allclose(*states)
