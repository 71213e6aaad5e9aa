"""The defining traits of the single-stream systems over regions, on their recipes as shipped with
sizes cut. The mechanisms are held to slow references in `models/test_regions.py` and
`objectives/test_regions.py`; here each recipe is held to use those of its paper."""

import pytest
import torch
import torch.nn.functional as F

from support.regions import CLOSE, own_pairs, read_in, recipe_step, seen_by_fusion
from tandem_training.models.vision import region_tokens
from tandem_training.models.vision.regions import windows
from tandem_training.objectives import alignment
from tandem_training.objectives.matching import negatives_of
from tandem_training.objectives.registry import losses

# UNITER


def test_uniter_adds_feature_and_seven_numbers_each_through_its_own_layer_and_norm():
    _, step = recipe_step("uniter")
    read, feature, numbers = read_in(step)
    image = step.model.fusion.image_in
    expected = image.norm(feature) + image.box_norm(image.box(numbers))
    torch.testing.assert_close(read, expected.expand_as(read), **CLOSE)


@pytest.mark.parametrize("objective", ["mrfr", "mrc", "mrc_kl"])
def test_uniter_masks_words_or_regions_and_never_both(objective: str):
    _, step = recipe_step("uniter")
    words, mask, tokens, _ = own_pairs(step)
    ((_, _, with_hidden_words, *_),) = seen_by_fusion(step, "mlm")
    torch.testing.assert_close(with_hidden_words, tokens)
    ((text, _, with_hidden_regions, *_),) = seen_by_fusion(step, objective)
    torch.testing.assert_close(text, words)
    assert (region_tokens.features_of(with_hidden_regions) == 0).all(-1).any()


def test_uniter_trains_one_task_a_batch_and_in_time_all():
    recipe, step = recipe_step("uniter")
    drawn = set()
    for number in range(80):
        step.generator.manual_seed(number)
        with torch.no_grad():
            (name,) = losses(step, recipe.train.one_of).keys() - {"loss"}
        step.shared.clear()
        drawn.add(name)
    assert drawn == {"itc", "itm", "mlm", "mrfr", "mrc", "mrc_kl", "wra", "concepts"}


def test_uniter_moves_all_words_to_all_regions(monkeypatch):
    _, step = recipe_step("uniter")
    plans, transport = [], alignment.transport
    monkeypatch.setattr(
        alignment, "transport", lambda *given: plans.append(transport(*given)) or plans[-1]
    )
    step.model.objectives["wra"].loss(step)
    (plan,) = plans
    torch.testing.assert_close(plan.sum((1, 2)), torch.ones(len(plan)))
    torch.testing.assert_close(plan.sum(1), torch.full((len(plan), 36), 1 / 36))
    assert step.model.objectives["wra"].options.weight == 0.1


# VisualBERT


def test_visualbert_does_not_know_where_a_region_is():
    _, step = recipe_step("visualbert")
    words, mask, tokens, pairs = own_pairs(step)
    moved = tokens.clone()
    moved[..., -4:] = moved[..., -4:].roll(1, 1)
    fusion = step.model.fusion
    torch.testing.assert_close(
        fusion(words, mask, moved, pairs), fusion(words, mask, tokens, pairs)
    )
    before = fusion(words, mask, tokens, pairs)
    torch.nn.init.normal_(fusion.segments[2])  # of regions
    assert not torch.allclose(fusion(words, mask, tokens, pairs), before)


def test_visualbert_asks_of_two_captions_whether_the_second_fits():
    recipe, step = recipe_step("visualbert")
    assert recipe.data.captions == 2 and recipe.objectives["second_caption"].weight == 1
    step.batch.whole["further.ids"][:, 0, 1] = torch.arange(6) + 4
    objective, shares = step.model.objectives["second_caption"], []
    model, length = step.model, step.batch.whole["text.ids"].shape[1]
    for _ in range(40):
        tokens, _, fits = objective.captions(step)
        shares.append(fits.float().mean())
        own = model.fusion.second(model.text.embed(
            torch.cat([step.batch.whole["text.ids"], step.batch.whole["further.ids"][:, 0, 1:]], 1)
        ))[:, length]  # fmt: skip
        same = (tokens[:, length] - own).abs().amax(1) < 1e-5
        assert torch.equal(same, fits)
    assert float(torch.stack(shares).mean()) == pytest.approx(0.5, abs=0.1)


# Unicoder-VL


def test_unicoder_vl_adds_five_numbers_before_one_norm():
    _, step = recipe_step("unicoder-vl")
    read, feature, numbers = read_in(step)
    image = step.model.fusion.image_in
    expected = image.norm(feature + image.box(numbers[:, [0, 1, 2, 3, 6]]))
    torch.testing.assert_close(read, expected, **CLOSE)


def test_unicoder_vl_classifies_a_masked_region_by_its_top_label():
    _, step = recipe_step("unicoder-vl")
    objective = step.model.objectives["mrc"]
    states, chosen = objective.hidden_states(step)
    tokens, ids = step.features["image.tokens"], step.batch.whole["image.ids"]
    top = step.model.pooler.concepts(region_tokens.features_of(tokens), ids)[chosen].argmax(-1)
    expected = F.cross_entropy(objective.classify(states), top)
    torch.testing.assert_close(objective.loss(step)["mrc"], expected)


def test_unicoder_vl_draws_negatives_at_random():
    _, step = recipe_step("unicoder-vl")
    objective, drawn = step.model.objectives["itm"], []
    alike = torch.full((6, 6), -1.0)
    alike[torch.arange(6), torch.arange(6).roll(1)] = 1.0  # one hard negative each
    step.similarity = lambda: alike
    for number in range(40):
        step.generator.manual_seed(number)
        step.shared.clear()
        drawn.append(negatives_of(step, objective.options)[0][:, 0])
    hard = torch.stack(drawn) == torch.arange(6).roll(1)
    assert float(hard.float().mean()) == pytest.approx(0.2, abs=0.08)


# VL-BERT


def test_vl_bert_gives_every_word_the_feature_of_the_whole_image():
    _, step = recipe_step("vl-bert")
    words, mask, tokens, pairs = own_pairs(step)
    fusion, seen = step.model.fusion, []
    fusion.layers[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    fusion.hidden(words, mask, tokens, pairs)
    feature = region_tokens.features_of(tokens)[:, 0] * step.model.pooler.feature_width**0.5
    expected = words + fusion.segments[0] + fusion.whole(feature)[:, None]
    torch.testing.assert_close(seen[0][:, -words.shape[1] :], expected, **CLOSE)


def test_vl_bert_blanks_a_masked_region_before_its_feature_is_made():
    _, step = recipe_step("vl-bert")
    encoded, encode = [], step.model.encode_activations
    step.model.encode_activations = lambda *given: encoded.append(given[0]) or encode(*given)
    step.model.objectives["mrc"].loss(step)
    whole = step.batch.inputs["image.activations"]
    (blanked,) = encoded
    gone = (blanked == 0).all(1) & ~(whole == 0).all(1)
    assert gone.any() and torch.equal(blanked[:, :, ~gone[0]][0], whole[:, :, ~gone[0]][0])
    for number in range(20):  # most of the image is never blanked
        step.generator.manual_seed(number)
        step.shared.clear()
        _, chosen = step.model.objectives["mrc"].hidden_states(step)
        sizes = (windows()[:, 2:] - windows()[:, :2]).prod(1).expand(6, 36)
        assert float(sizes[chosen].max()) <= 0.34


def test_vl_bert_adds_sines_and_cosines_of_the_box_before_one_norm():
    _, step = recipe_step("vl-bert")
    read, feature, numbers = read_in(step)
    rates = torch.tensor([100 / 1000 ** (k / 8) for k in range(8)])
    angles = torch.cat([numbers[:, [side]] * rates for side in range(4)], 1)
    image = step.model.fusion.image_in
    expected = image.norm(feature + image.box(torch.cat([angles.sin(), angles.cos()], 1)))
    torch.testing.assert_close(read, expected, **CLOSE)


def test_vl_bert_reads_texts_without_an_image_too():
    _, step = recipe_step("vl-bert")
    ((_, _, tokens, *_),) = seen_by_fusion(step, "mlm_alone")
    assert tokens.shape[1] == 0


def test_vl_bert_has_matching_as_a_small_share_alone():
    recipe, _ = recipe_step("vl-bert")
    weights = {n: o.weight for n, o in recipe.objectives.items()}
    assert weights["itm"] == min(weights.values()) and "rank" not in weights
