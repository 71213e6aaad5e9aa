"""Defining traits of the dual encoders."""

import math

import pytest
import torch
import torch.nn.functional as F

from support.models import FILES, small, step_of
from tandem_training.models.model import Tandem, limit_scales
from tandem_training.objectives.contrastive import itc_loss
from tandem_training.objectives.registry import attach
from tandem_training.objectives.siglip import siglip_loss
from tandem_training.recipe import read_recipe


def model_of(name: str) -> Tandem:
    torch.manual_seed(0)
    return Tandem(small(name, FILES[name]).model).eval()


def test_clip_reads_an_image_from_its_class_token_and_projects_without_bias():
    model = model_of("clip")
    grid = torch.randn(2, 1 + model.cells, model.vision.width)
    other = grid.clone()
    other[:, 1:] = 0
    embedding, tokens = model.pooler(grid)
    torch.testing.assert_close(model.pooler(other)[0], embedding)
    assert tokens.shape[1] == model.cells
    assert not torch.allclose(model.pooler(grid.flip(1))[0], embedding)
    assert model.pooler.mean.bias is None and model.text.project.bias is None
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    assert model.vision(pixels).shape[1] == 1 + model.cells


def test_clip_starts_at_its_temperature_and_with_smaller_weights_into_the_residual():
    recipe = read_recipe(FILES["clip"])
    model = Tandem(recipe.model)
    attach(recipe.objectives, model, None)
    assert float(model.logit_scale.exp()) == pytest.approx(1 / 0.07)
    width, layers = recipe.model.text.width, recipe.model.text.layers
    for stack in (model.text.layers, model.vision.blocks):
        assert float(stack[0].qkv.weight.std()) == pytest.approx(width**-0.5, rel=0.02)
        small_std = width**-0.5 * (2 * layers) ** -0.5
        assert float(stack[0].out.weight.std()) == pytest.approx(small_std, rel=0.02)


def test_siglip_starts_at_ten_and_minus_ten_and_its_scale_has_no_limit():
    model, recipe = model_of("siglip"), read_recipe(FILES["siglip"])
    attach(recipe.objectives, model, None)
    assert float(model.logit_scale.exp()) == pytest.approx(10)
    assert float(model.objectives["siglip"].bias) == -10
    with torch.no_grad():
        model.logit_scale.fill_(math.log(500.0))
    limit_scales(model)
    assert float(model.logit_scale.exp()) == pytest.approx(500)
    clip = model_of("clip")
    with torch.no_grad():
        clip.logit_scale.fill_(math.log(500.0))
    limit_scales(clip)
    assert float(clip.logit_scale.exp()) == pytest.approx(100)


def test_the_gradient_of_a_pair_of_siglip_depends_on_no_other_pair():
    torch.manual_seed(0)
    similarity, ids = torch.rand(4, 4), torch.arange(4)
    scale, bias = torch.tensor(math.log(10.0)), torch.tensor(-10.0)
    gradients = []
    for rest in (0.0, 0.9):
        changed = torch.full_like(similarity, rest)
        changed[1, 2] = similarity[1, 2]
        changed.requires_grad_()
        siglip_loss(changed, scale, bias, ids, ids)["loss"].backward()
        gradients.append(float(changed.grad[1, 2]))
    assert gradients[0] == pytest.approx(gradients[1])


def test_align_takes_the_mean_of_the_grid_and_the_first_token():
    model = model_of("align")
    grid = torch.randn(2, 4, model.vision.width)
    expected = F.normalize(model.pooler.mean(grid.mean(1)), dim=-1)
    torch.testing.assert_close(model.pooler(grid)[0], expected)
    tokens, mask = torch.randn(2, 5, model.text.width), torch.ones(2, 5, dtype=torch.int64)
    expected = F.normalize(model.text.project(tokens[:, 0]), dim=-1)
    torch.testing.assert_close(model.text.pool(tokens, mask), expected)
    assert read_recipe(FILES["align"]).objectives["itc"].smoothing == 0.1


def test_equal_texts_match_each_others_images_in_both_directions():
    """UniCL, which Florence contrasts by."""
    model = model_of("florence")
    step = step_of(model, itc={"soft_mix": 0.0, "equal_texts": True})
    for name in ("text.embedding", "image.embedding"):
        step.features[name] = F.normalize(torch.randn(6, 16), dim=-1)
    texts = step.batch.whole["text.ids"]
    texts[3] = texts[1]
    loss = model.objectives["itc"].loss(step)["itc"]
    ids = torch.tensor([0, 1, 2, 1, 4, 5])
    merged = itc_loss(step.similarity(), model.logit_scale, ids, ids)["loss"]
    torch.testing.assert_close(loss, merged)
    apart = itc_loss(step.similarity(), model.logit_scale, torch.arange(6), torch.arange(6))
    assert float(loss) != pytest.approx(float(apart["loss"]), rel=1e-4)
