"""The defining traits of the systems over regions, on their recipes as shipped with sizes cut. The
mechanisms are held to slow references in `models/test_regions.py`, `models/test_dual_stream.py` and
`objectives/test_regions.py`; here each recipe is held to use those of its paper."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from support.regions import own_pairs, recipe_step
from tandem_training.models.vision import region_tokens
from tandem_training.models.vision.regions import windows
from tandem_training.objectives import alignment
from tandem_training.objectives.matching import negatives_of
from tandem_training.objectives.regions import mask_regions
from tandem_training.objectives.registry import losses

CLOSE = {"atol": 1e-4, "rtol": 1e-3}


def read_in(step) -> tuple[Tensor, Tensor, Tensor]:
    """What the fusion makes of image tokens, and W f and W' g of numbers that the test computes."""
    image, tokens = step.model.fusion.image_in, step.features["image.tokens"]
    feature = region_tokens.features_of(tokens) * step.model.pooler.feature_width**0.5
    x1, y1, x2, y2 = windows().unbind(1)
    w, h = x2 - x1, y2 - y1
    numbers = torch.stack([x1, y1, x2, y2, w, h, w * h], 1)
    return image(tokens), image.features(feature), numbers


def seen_by_fusion(step, objective: str) -> list[tuple]:
    """Arguments of the fusion's readings by an objective."""
    seen, fusion = [], step.model.fusion
    inner = "read" if hasattr(fusion, "read") else "hidden"
    original = getattr(fusion, inner)
    setattr(fusion, inner, lambda *given: seen.append(given) or original(*given))
    step.model.objectives[objective].loss(step)
    setattr(fusion, inner, original)
    return seen


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


# OSCAR and VinVL


@pytest.mark.parametrize("name", ["oscar", "vinvl"])
def test_oscar_and_vinvl_read_words_tags_and_regions(name: str):
    _, step = recipe_step(name)
    seen, fusion, tokens = [], step.model.fusion, step.features["image.tokens"]
    fusion.layers[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    words, tags, image = fusion.read(*own_pairs(step), False)
    assert (words.shape[1], tags.shape[1], image.shape[1]) == (7, 5, 36)
    names = step.model.text.embed(fusion.tag_ids(tokens)) + fusion.segments[1]
    torch.testing.assert_close(seen[0][:, 36:41], names, **CLOSE)
    torch.testing.assert_close(seen[0][:, :36], fusion.image_in(tokens) + fusion.segments[2])
    read, feature, numbers = read_in(step)
    own = step.model.fusion.image_in
    torch.testing.assert_close(read, own.norm(feature + own.box(numbers[:, :6])), **CLOSE)


@pytest.mark.parametrize("name", ["oscar", "vinvl"])
def test_oscar_and_vinvl_mask_words_and_tags(name: str):
    _, step = recipe_step(name)
    step.model.objectives["mlm"].options = type(step.model.objectives["mlm"].options)(share=1.0)
    own, tokens = step.features["text.tokens"], step.features["image.tokens"]
    ((text, _, with_hidden_words, *_),) = seen_by_fusion(step, "mlm")
    assert not torch.allclose(text, own) and torch.allclose(with_hidden_words, tokens)
    hidden = region_tokens.with_tags(tokens, torch.full((6, 5), 400))
    names = step.model.fusion.tag_ids(hidden)
    assert (names == step.model.objectives["mlm"].vocabulary.mask).all()
    masked = 0
    for number in range(10):
        step.generator.manual_seed(number)
        ((text, _, given, *_),) = seen_by_fusion(step, "tag_mlm")
        assert torch.equal(text, own)
        masked += int((region_tokens.tags_of(given, 5) == 400).sum())
    assert masked / 300 == pytest.approx(0.15, abs=0.06)


@pytest.mark.parametrize(("name", "shares"), [("oscar", [0.5, 0.5]), ("vinvl", [0.5, 0.25, 0.25])])
def test_oscar_pollutes_tags_and_vinvl_tags_or_caption(name: str, shares: list[float]):
    _, step = recipe_step(name)
    objective, tokens = step.model.objectives["pollute"], step.features["image.tokens"]
    tags, kinds = region_tokens.tags_of(tokens, 5), []
    for _ in range(60):
        text, polluted, kind = objective.polluted(step)
        kinds.append(kind)
        own = torch.where((kind == 1)[:, None], tags.roll(1, 0), tags)
        assert torch.equal(region_tokens.tags_of(polluted, 5), own)
        assert torch.equal(text, torch.where(kind == 2, torch.arange(6).roll(1), torch.arange(6)))
    found = torch.stack(kinds).flatten().bincount(minlength=len(shares)) / 360
    torch.testing.assert_close(found, torch.tensor(shares), atol=0.08, rtol=0)
    assert objective.head.out_features == len(shares)


# ViLBERT and LXMERT


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


# LightningDOT


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
