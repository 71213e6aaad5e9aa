"""Masked regions, alignment by transport, concepts, tags and second captions."""

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment

from support.models import options
from support.regions import prepared_step, region_model
from tandem_training.models.vision import region_tokens
from tandem_training.models.vision.regions import windows
from tandem_training.objectives.alignment import transport, transport_distance
from tandem_training.objectives.concepts import asymmetric_loss, frequent_words
from tandem_training.objectives.regions import mask_regions
from tandem_training.objectives.registry import OBJECTIVES, losses

CLOSE = {"atol": 1e-5, "rtol": 1e-4}
ALL = {"share": 1.0, "beside": 1.0}


def boxes(images: int = 200) -> torch.Tensor:
    return windows().expand(images, -1, -1)


def test_a_hidden_region_hides_those_that_overlap_it_and_a_tenth_stays_visible():
    chosen, hidden = mask_regions(boxes(), 0.15, 0.1, 0.4, 1.0, torch.Generator().manual_seed(0))
    assert chosen.float().mean() == pytest.approx(0.15, abs=0.01)
    assert hidden[chosen].float().mean() == pytest.approx(0.9, abs=0.02)
    near = region_tokens.overlap(windows()) > 0.4
    for image in range(20):
        beside = near[hidden[image] & chosen[image]].any(0)
        assert torch.equal(hidden[image] & ~chosen[image], beside & ~chosen[image])


def test_no_region_larger_than_the_recipe_says_is_predicted():
    chosen, _ = mask_regions(boxes(), 0.5, 0.0, 0.4, 0.3, torch.Generator().manual_seed(0))
    area = (windows()[:, 2:] - windows()[:, :2]).prod(-1)
    assert not chosen[:, area > 0.3].any() and chosen[:, area <= 0.3].float().mean() > 0.4


def seen_by(step, name: str) -> list:
    """What the objective gives the fusion: text tokens, mask, image tokens."""
    seen, fusion = [], step.model.fusion
    fusion.image_in.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    step.model.objectives[name].loss(step)
    return seen


def test_regions_or_words_are_hidden_and_never_both():
    model = region_model(geometry="7")
    step = prepared_step(model, mlm={"share": 1.0}, mrfr={"share": 0.5})
    tokens, words = step.features["image.tokens"], step.features["text.tokens"]
    (with_words_hidden,) = seen_by(step, "mlm")
    torch.testing.assert_close(with_words_hidden, tokens)
    read = []
    original = model.fusion.hidden
    model.fusion.hidden = lambda *given: read.append(given) or original(*given)
    model.objectives["mrfr"].loss(step)
    text, mask, seen, _ = read[0]
    torch.testing.assert_close(text, words)
    assert torch.equal(mask, step.batch.whole["text.mask"])
    features = region_tokens.features_of(seen)
    zero = (features == 0).all(-1)
    assert 0.3 < zero.float().mean() < 0.95
    torch.testing.assert_close(features[~zero], region_tokens.features_of(tokens)[~zero])
    torch.testing.assert_close(region_tokens.boxes_of(seen), region_tokens.boxes_of(tokens))


def test_mrfr_is_the_squared_distance_to_the_features():
    model = region_model()
    step = prepared_step(model, mrfr=ALL)
    objective = model.objectives["mrfr"]
    states, chosen = objective.hidden_states(step)
    assert chosen.all()
    target = region_tokens.features_of(step.features["image.tokens"])[chosen] * 26**0.5
    expected = F.mse_loss(objective.regress(states), target)
    torch.testing.assert_close(objective.loss(step)["mrfr"], expected)


def test_mrc_takes_the_top_label_and_mrc_kl_the_distribution_of_the_head_out_of_fold():
    model = region_model()
    step = prepared_step(model, mrc=ALL, mrc_kl=ALL, concepts=1.0)
    ids, features = step.batch.whole["image.ids"], step.features["image.tokens"]
    labels = model.pooler.concepts(region_tokens.features_of(features), ids).flatten(0, 1)
    values = losses(step)
    for name, target in (("mrc", labels.argmax(-1)), ("mrc_kl", labels.softmax(-1))):
        objective = model.objectives[name]
        states, _ = objective.hidden_states(step)
        logits = objective.classify(states)
        expected = F.cross_entropy(logits, target)
        if name == "mrc_kl":
            expected = expected + (target * target.log()).sum(-1).mean()  # KL = CE − entropy
        torch.testing.assert_close(values[name], expected, **CLOSE)


def test_objectives_of_the_same_mask_share_one_reading():
    model = region_model()
    step = prepared_step(model, mrfr=1.0, mrc=1.0, mrc_kl={"share": 0.3})
    readings = []
    model.fusion.image_in.register_forward_hook(lambda *_: readings.append(1))
    losses(step)
    assert len(readings) == 2


def test_pixels_hide_the_cells_under_a_region_before_its_feature_is_made():
    model = region_model()
    step = prepared_step(model, mrc={"share": 1.0, "largest": 0.1, "pixels": True, "beside": 1.0})
    read, encode = [], model.encode_activations
    model.encode_activations = lambda *given: read.append(given) or encode(*given)
    model.objectives["mrc"].loss(step)
    ((cells, _),) = read
    small = step.batch.inputs["image.activations"]
    assert (cells == 0).all() and not (small == 0).all()  # the small tiles cover the image
    step.shared.clear()
    model.objectives["mrc"].options = options(mrc={"share": 0.0, "pixels": True})["mrc"]
    model.objectives["mrc"].loss(step)
    torch.testing.assert_close(read[1][0], small)


def test_the_plan_has_the_marginals_of_evenly_spread_words_and_regions():
    random = torch.Generator().manual_seed(0)
    cost = torch.rand(3, 7, 36, generator=random)
    mask = torch.ones(3, 7, dtype=torch.int64)
    mask[0, 4:] = 0
    plan = transport(cost, mask)
    torch.testing.assert_close(plan.sum((1, 2)), torch.ones(3), **CLOSE)
    torch.testing.assert_close(plan.sum(1), torch.full((3, 36), 1 / 36), **CLOSE)
    rows = plan.sum(2)
    torch.testing.assert_close(rows[0, :4], torch.full((4,), 0.25), atol=0.01, rtol=0)
    assert not rows[0, 4:].any()
    torch.testing.assert_close(rows[1], torch.full((7,), 1 / 7), atol=0.01, rtol=0)


def test_the_plan_is_as_good_as_the_best_assignment():
    cost = torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(1))
    plan = transport(cost, torch.ones(1, 6, dtype=torch.int64), rounds=2000)
    rows, columns = linear_sum_assignment(cost[0].numpy())
    best = float(cost[0][rows, columns].mean())
    assert float((plan * cost).sum()) == pytest.approx(best, abs=0.01)


def test_the_gradient_of_the_distance_leaves_the_plan_alone():
    torch.manual_seed(0)
    words, image = torch.randn(2, 3, 8, requires_grad=True), torch.randn(2, 5, 8)
    mask = torch.ones(2, 3, dtype=torch.int64)
    transport_distance(words, image, mask).sum().backward()
    cost = 1 - F.normalize(words, dim=-1) @ F.normalize(image, dim=-1).mT
    plan = transport(cost.detach(), mask)
    (expected,) = torch.autograd.grad((plan * cost).sum(), words)
    torch.testing.assert_close(words.grad, expected)


def test_wra_is_the_distance_of_matches_minus_that_of_others():
    model = region_model()
    step = prepared_step(model, wra=1.0)
    value = model.objectives["wra"].loss(step)["wra"]
    words, mask = step.features["text.tokens"], step.batch.whole["text.mask"]
    row, means = torch.arange(6), []
    for image in (row, row.roll(1)):
        states = model.fusion.hidden(
            words, mask, step.features["image.tokens"], torch.stack([row, image], 1)
        )
        means.append(transport_distance(*states, mask).mean())
    torch.testing.assert_close(value, means[0] - means[1])


def test_concepts_are_the_frequent_words_that_name_something():
    pieces = ("[PAD]", "a", "dog", "##s", "runs", "with", ".", "ball")
    captions = [[[1, 2, 3, 6], [2, 4]], [[1, 2, 5, 7]], [[5, 4, 7, 7, 3]], [[2, 6]]]
    assert frequent_words(captions, pieces, 2, (0,)) in ([2, 4], [2, 7])
    assert set(frequent_words(captions, pieces, 9, (0,))) == {2, 4, 7}


def test_the_asymmetric_loss_ignores_labels_that_surely_do_not_hold():
    logits = torch.tensor([[-4.0, 2.0, 1.0]], requires_grad=True)
    target = torch.tensor([[False, True, False]])
    p = torch.sigmoid(torch.tensor([-4.0, 2.0, 1.0]))
    expected = -p[1].log() - (p[2] - 0.05) ** 4 * (1.05 - p[2]).log()
    loss = asymmetric_loss(logits, target)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert logits.grad[0, 0] == 0


def test_the_concepts_learn_from_all_captions_of_an_image_and_move_only_their_head():
    model = region_model()
    step = prepared_step(model, concepts=1.0)
    objective = model.objectives["concepts"]
    words = model.pooler.concepts.words.tolist()
    assert words[-1] == objective.vocabulary.mask and len(set(words[:6])) == 6
    captions = [[[2, words[0], 3], [2, words[2], 3]]] * 46
    objective.prepare(model, captions)
    assert objective.table[40].tolist() == [True, True, False, False, False, False]
    losses(step)["loss"].backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None}
    assert reached == {"pooler.concepts.heads.weight", "pooler.concepts.heads.bias"}


@pytest.mark.parametrize("ways", [2, 3])
def test_polluted_tags_are_anothers_and_a_polluted_caption_too(ways: int):
    model = region_model(tags=3)
    step = prepared_step(model, pollute={"ways": ways}, concepts=1.0)
    objective, kinds = model.objectives["pollute"], []
    tags = region_tokens.tags_of(step.features["image.tokens"], 5)
    for _ in range(60):
        text, tokens, kind = objective.polluted(step)
        kinds.append(kind)
        for row in range(6):
            own = tags[row - 1] if kind[row] == 1 else tags[row]
            assert torch.equal(region_tokens.tags_of(tokens, 5)[row], own)
            assert int(text[row]) == ((row - 1) % 6 if kind[row] == 2 else row)
    shares = torch.stack(kinds).flatten().bincount(minlength=3) / 360
    expected = [0.5, 0.5, 0.0] if ways == 2 else [0.5, 0.25, 0.25]
    torch.testing.assert_close(shares, torch.tensor(expected), atol=0.08, rtol=0)


def test_masked_tags_are_predicted_from_mask_tokens():
    model = region_model(tags=3)
    step = prepared_step(model, tag_mlm={"share": 1.0}, concepts=1.0)
    mask = model.pooler.concepts.words[-1]
    embedded, embed = [], model.text.embed
    model.text.embed = lambda ids: embedded.append(ids) or embed(ids)
    value = model.objectives["tag_mlm"].loss(step)["tag_mlm"]
    assert (embedded[0] == mask).all() and embedded[0].shape == (6, 3) and value > 0


def test_the_second_caption_is_anothers_half_the_time():
    model = region_model()
    step = prepared_step(model, second_caption=1.0)
    ids = step.batch.whole["text.ids"]
    whole = step.batch.whole
    whole["further.ids"] = ids[:, None].clone()
    whole["further.ids"][:, :, 1] = torch.arange(6)[:, None] + 20
    whole["further.mask"] = whole["text.mask"][:, None]
    objective, fitting = model.objectives["second_caption"], []
    for _ in range(60):
        tokens, mask, fits = objective.captions(step)
        fitting.append(fits)
        assert tokens.shape[1] == mask.shape[1] == 13
        for row in range(6):
            second = 20 + (row if fits[row] else (row - 1) % 6)
            own = torch.cat([ids[row], torch.tensor([second]), ids[row, 2:]])[None]
            assert own.shape == (1, 13) or row == 0
            expected = model.fusion.second(model.text.embed(own))[0, 7]
            torch.testing.assert_close(tokens[row, 7], expected)
    assert torch.stack(fitting).float().mean() == pytest.approx(0.5, abs=0.08)
    assert objective.loss(step)["second_caption"] > 0


def test_a_count_of_ways_that_no_paper_has_is_refused():
    with pytest.raises(ValueError, match="ways = 4; expected one of 2, 3"):
        OBJECTIVES["pollute"].Options(ways=4)


def test_mlm_alone_reads_no_image():
    model = region_model(whole=True)
    step = prepared_step(model, mlm_alone=1.0)
    (seen,) = seen_by(step, "mlm_alone")
    assert seen.shape == (6, 0, 32)
    values = []
    for _ in range(2):
        step.generator.manual_seed(0)
        values.append(model.objectives["mlm_alone"].loss(step)["mlm_alone"])
        step.features["image.tokens"] = torch.randn(6, 36, 32)
    torch.testing.assert_close(*values)
