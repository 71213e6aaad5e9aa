"""Defining traits of MaskVLM (arXiv:2208.02131)."""

import pytest
import torch
from torch import nn

from support.models import FILES, small, step_of
from tandem_training.models.layers import as_normed, attention_bias
from tandem_training.models.model import Tandem
from tandem_training.objectives.pixels import hide_patches
from tandem_training.objectives.registry import losses
from tandem_training.recipe import read_recipe

CLOSE = {"atol": 1e-5, "rtol": 1e-4}


@pytest.fixture
def model() -> Tandem:
    torch.manual_seed(0)
    return Tandem(small("maskvlm", FILES["maskvlm"]).model).eval()


def test_both_streams_attend_to_what_the_other_encoder_gave(model: Tandem):
    fusion = model.fusion
    step = step_of(model)
    words, cells = step.features["text.tokens"], step.features["image.tokens"]
    mask = step.batch.whole["text.mask"]
    text, bias = fusion.text_in(words), attention_bias(mask)
    image = fusion.image_in(as_normed(cells)) + fusion.positions
    x, y = text, image
    assert read_recipe(FILES["maskvlm"]).model.fusion.layers == 3
    extra = nn.ModuleList([fusion.text_layers[0]])  # a second layer, where state and encoder differ
    fusion.text_layers.extend(extra)
    fusion.image_layers.extend(nn.ModuleList([fusion.image_layers[0]]))
    for text_layer, image_layer in zip(fusion.text_layers, fusion.image_layers, strict=True):
        x, y = text_layer(x, bias, image), image_layer(y, None, text, bias)
    row = torch.arange(len(words))
    states = fusion.hidden(words, mask, cells, torch.stack([row, row], 1))
    torch.testing.assert_close(states, (fusion.text_norm(x), fusion.image_norm(y)), **CLOSE)


def test_so_many_patches_of_each_image_are_hidden_at_random():
    hidden = hide_patches(200, 49, 0.6, torch.Generator().manual_seed(0))
    assert (hidden.sum(1) == 29).all()
    assert hidden.float().mean(0).sub(0.6).abs().max() < 0.15
    assert read_recipe(FILES["maskvlm"]).objectives["pixel_mim"].share == 0.6


def test_the_loss_is_the_mean_l1_of_the_hidden_patches_pixels(model: Tandem):
    step = step_of(model, pixel_mim={"pairs": 4})
    objective, images = model.objectives["pixel_mim"], step.batch.inputs["image.activations"]
    step.generator.manual_seed(3)
    hidden = hide_patches(4, 4, 0.6, step.generator)
    expected, count, pixels = 0.0, 0, objective.pixels(step, images[:4], hidden)
    for row, column in hidden.nonzero().tolist():
        patch = images[row, :, column // 2, column % 2]
        expected += float((pixels[row, column] - patch).abs().sum().detach())
        count += len(patch)
    step.generator.manual_seed(3)
    assert float(losses(step)["pixel_mim"]) == pytest.approx(expected / count, rel=1e-4)


def test_hidden_patches_are_rebuilt_from_the_others_and_the_whole_text(model: Tandem):
    step = step_of(model, pixel_mim={"pairs": 6})
    objective, images = model.objectives["pixel_mim"], step.batch.inputs["image.activations"]
    hidden = torch.zeros(6, 4, dtype=torch.bool)
    hidden[:, 1] = True

    def pixels(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return objective.pixels(step, images, hidden)

    before, other = pixels(images), images.clone()
    other[:, :, 0, 1] += 1.0  # the hidden patch
    torch.testing.assert_close(pixels(other), before)
    other[:, :, 1, 0] += 1.0  # one that is seen
    assert not torch.isclose(pixels(other), before, **CLOSE).all(-1).any()
    for place in range(7):  # every word, in the fusion and in the decoder
        words = step.features["text.tokens"].clone()
        words[1, place] += 1.0
        step.features["text.tokens"], kept = words, step.features["text.tokens"]
        assert not torch.allclose(pixels(images)[1], before[1], **CLOSE), place
        step.features["text.tokens"] = kept
    step.features["text.tokens"] = step.features["text.tokens"].clone()
    step.features["text.tokens"][0, 5:] += 1.0  # padding
    torch.testing.assert_close(pixels(images), before)


def test_the_decoder_reads_the_text_and_the_head_gives_every_number_of_a_patch(model: Tandem):
    step = step_of(model, pixel_mim=1.0)
    objective = model.objectives["pixel_mim"]
    read = []
    objective.decoder.cross_kv.register_forward_hook(lambda _, inputs, __: read.append(inputs[0]))
    losses(step)["pixel_mim"].backward()
    assert torch.equal(read[0], step.features["text.tokens"])
    assert objective.head.out_features == 3 * 32 * 32
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    for part in ("vision.embed.", "text.layers.", "fusion.image_layers.", "objectives.pixel_mim."):
        assert any(name.startswith(part) for name in reached), part


def test_hidden_words_are_read_from_the_whole_image(model: Tandem):
    step = step_of(model, mlm={"share": 0.3}, pixel_mim=1.0)
    read = []
    forward = model.fusion.hidden
    model.fusion.hidden = lambda *inputs: read.append(inputs) or forward(*inputs)
    losses(step)
    (words, _, cells, *_), (whole_words, _, hidden_cells, *_) = read
    assert torch.equal(cells, step.features["image.tokens"])
    assert not torch.allclose(words, step.features["text.tokens"], **CLOSE)
    assert torch.equal(whole_words, step.features["text.tokens"])
    assert not torch.allclose(hidden_cells, step.features["image.tokens"], **CLOSE)
    assert read_recipe(FILES["maskvlm"]).objectives["mlm"].share == 0.3


def test_the_logit_reads_both_streams_and_negatives_are_hard(model: Tandem):
    width = model.fusion.width
    assert model.fusion.head.in_features == 2 * width
    recipe = read_recipe(FILES["maskvlm"])
    assert recipe.objectives["itm"].draw == "hard" and recipe.objectives["itm"].negatives == 1
    assert not recipe.model.companion and "itc" in recipe.objectives
