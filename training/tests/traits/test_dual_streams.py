"""The defining traits of ViLBERT and LXMERT, which have a stream for each modality, on their
recipes as shipped with sizes cut. `models/test_dual_stream.py` holds the mechanism to a slow
reference."""

import pytest
import torch

from support.regions import CLOSE, own_pairs, read_in, recipe_step, seen_by_fusion
from tandem_training.models.vision import region_tokens
from tandem_training.models.vision.regions import windows


def test_vilbert_runs_a_co_attention_block_and_then_a_transformer_block():
    recipe, step = recipe_step("vilbert")
    for layers in (step.model.fusion.text_layers, step.model.fusion.image_layers):
        assert all(layer.order == ["cross", "feed", "self", "feed"] for layer in layers)
        assert all(layer.second_up.out_features == 4 * 16 for layer in layers)
    step.model.fusion(*own_pairs(step)).sum().backward()
    for layers in (step.model.fusion.text_layers, step.model.fusion.image_layers):
        for layer in layers:  # each block has a feed-forward of its own
            assert layer.up.weight.grad.any() and layer.second_up.weight.grad.any()


def test_vilberts_text_is_deeper_than_its_image():
    recipe, step = recipe_step("vilbert")
    fusion = step.model.fusion
    assert not fusion.image_alone and not fusion.bare_words and len(step.model.text.layers) == 1
    states = step.model.text.states(step.model.text.embed(step.batch.whole["text.ids"]),
                                    step.batch.whole["text.mask"])  # fmt: skip
    torch.testing.assert_close(step.features["text.tokens"], states)


def test_vilbert_matches_by_the_product_of_both_firsts():
    _, step = recipe_step("vilbert")
    fusion, given = step.model.fusion, own_pairs(step)
    text, image = fusion.hidden(*given)
    joint = fusion.pools["text"](text[:, 0]).tanh() * fusion.pools["image"](image[:, 0]).tanh()
    torch.testing.assert_close(fusion(*given), fusion.head(joint)[:, 0])


def test_vilbert_learns_the_distribution_of_regions_of_which_a_tenth_stays_visible():
    _, step = recipe_step("vilbert")
    objective, shown = step.model.objectives["mrc_kl"], []
    own = region_tokens.features_of(step.features["image.tokens"])
    for number in range(30):
        step.generator.manual_seed(number)
        step.shared.clear()
        ((_, _, tokens, *_),) = seen_by_fusion(step, "mrc_kl")
        _, chosen = objective.hidden_states(step)
        zero = (region_tokens.features_of(tokens) == 0).all(-1)
        shown.append((~zero[chosen]).float())
        near = region_tokens.overlap(windows()) > 0.4
        assert zero[(near & (zero & chosen)[:, None, :]).any(-1) & ~chosen].all()
    assert own.shape[1] == 36
    assert torch.cat(shown).mean() == pytest.approx(0.1, abs=0.04)
    states, chosen = objective.hidden_states(step)
    labels = step.model.pooler.concepts(own, step.batch.whole["image.ids"])[chosen].softmax(-1)
    found = objective.classify(states).softmax(-1)
    expected = (labels * (labels.log() - found.log())).sum(1).mean()
    torch.testing.assert_close(objective.loss(step)["mrc_kl"], expected)


def test_lxmert_attends_to_the_other_modality_first_by_one_shared_attention():
    _, step = recipe_step("lxmert")
    fusion = step.model.fusion
    assert len(fusion.image_alone) == 2
    for text, image in zip(fusion.text_layers, fusion.image_layers, strict=True):
        assert text.order == image.order == ["cross", "self", "feed"]
        for name in ("cross_q", "cross_kv", "cross_out"):
            assert getattr(text, name).weight is getattr(image, name).weight
        assert text.self_qkv.weight is not image.self_qkv.weight


def test_lxmert_takes_the_mean_of_feature_and_four_numbers_both_normed():
    _, step = recipe_step("lxmert")
    read, feature, numbers = read_in(step)
    image = step.model.fusion.image_in
    expected = (image.norm(feature) + image.box_norm(image.box(numbers[:, :4]))) / 2
    torch.testing.assert_close(read, expected, **CLOSE)


def test_lxmert_matches_by_the_pooled_first_word():
    _, step = recipe_step("lxmert")
    fusion, given = step.model.fusion, own_pairs(step)
    first = fusion.pools["text"](fusion.hidden(*given)[0][:, 0]).tanh()
    torch.testing.assert_close(fusion(*given), fusion.head(first)[:, 0])


def test_lxmert_regresses_and_classifies_the_same_masked_objects():
    _, step = recipe_step("lxmert")
    readings = []
    step.model.fusion.image_in.register_forward_hook(lambda *_: readings.append(1))
    values = [step.model.objectives[n].loss(step)[n] for n in ("mrfr", "mrc")]
    assert len(readings) == 1 and all(value > 0 for value in values)
