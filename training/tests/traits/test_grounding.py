"""Defining traits of MDETR, GLIP, E2E-VLP and X-VLM."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.models import small, tiny_model
from support.regions import prepared_step
from tandem_training.data.phrases import Phrase, phrase_tensors
from tandem_training.models.model import Tandem
from tandem_training.objectives.boxes import corners
from tandem_training.objectives.objective import Step
from tandem_training.objectives.phrases import Targets

pytestmark = pytest.mark.usefixtures("one_thread")
CLOSE = {"atol": 1e-5, "rtol": 1e-4}
LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.25, 1.0, 1.0)


def step_of(name: str) -> Step:
    """A step of the recipe over six pairs. The first two texts have two phrases with boxes, the
    third one, the others none that anybody knows."""
    recipe = small(name, Path("drawings.tar"))
    model = tiny_model(recipe.model).eval()
    objectives = {
        name: {k: 6 if k == "pairs" else v for k, v in vars(own).items()}
        for name, own in recipe.objectives.items()
    }
    step = prepared_step(model, **objectives)
    two, one = [Phrase(1, 3, LEFT), Phrase(4, 5, RIGHT)], [Phrase(2, 4, RIGHT)]
    rows = [two, two, one, [], [], []]
    step.batch.whole |= phrase_tensors(rows, torch.zeros(6, dtype=torch.bool).numpy(), 7)
    return step


def permute_queries(decoder, order: Tensor) -> None:
    with torch.no_grad():
        decoder.queries.copy_(decoder.queries[order])


@pytest.mark.parametrize(("name", "objective"), [("mdetr", "soft_tokens"), ("e2e-vlp", "detect")])
def test_the_loss_of_a_set_does_not_depend_on_the_order_of_queries_or_targets(name, objective):
    step = step_of(name)
    own = step.model.objectives[objective]
    step.shared[("phrases", 6)] = boxed_phrases(step)
    before = own.loss(step)[objective]
    fusion = step.model.fusion
    decoder = fusion.decoder if objective == "soft_tokens" else own.decoder
    queries = decoder.queries.shape[0]
    permute_queries(decoder, torch.randperm(queries))
    torch.testing.assert_close(own.loss(step)[objective], before, **CLOSE)
    targets = own.targets(step)
    swap = torch.tensor([1, 0, 3, 2, 4])[: len(targets.rows)]
    step.shared[("phrases", 6)] = Targets(*(part[swap] for part in vars(targets).values()))
    torch.testing.assert_close(own.loss(step)[objective], before, **CLOSE)
    permute_queries(decoder, torch.randperm(queries))
    moved = replace(own.targets(step), boxes=own.targets(step).boxes.roll(1, 0))
    step.shared[("phrases", 6)] = moved
    assert not torch.allclose(own.loss(step)[objective], before, **CLOSE)


def boxed_phrases(step: Step) -> Targets:
    """The five phrases with boxes, each with a name."""
    words, boxes = step.batch.whole["phrase.words"], step.batch.whole["phrase.boxes"]
    row, phrase = (boxes[..., 0] >= 0).nonzero(as_tuple=True)
    return Targets(row, words[row, phrase], boxes[row, phrase], torch.arange(len(row)) % 3)


def test_the_target_of_a_query_is_spread_evenly_over_the_words_of_its_phrase():
    step = step_of("mdetr")
    own = step.model.objectives["soft_tokens"]
    targets = own.targets(step)
    wanted = own.classes(targets)
    assert wanted.shape == (5, own.options.places + 1)
    torch.testing.assert_close(wanted.sum(1), torch.ones(5))
    assert wanted[0].nonzero().flatten().tolist() == [1, 2] and float(wanted[0, 1]) == 0.5
    assert wanted[1].nonzero().flatten().tolist() == [4]


def test_queries_read_cells_and_words_through_one_encoder_and_the_best_one_scores_each_word():
    step = step_of("mdetr")
    fusion, features = step.model.fusion, step.features
    mask, row = step.batch.whole["text.mask"], torch.arange(6)
    pairs = torch.stack([row, row.roll(1)], 1)
    given = (features["text.tokens"], mask, features["image.tokens"], pairs)
    text, image = fusion.hidden(*given)
    other = features["text.tokens"].clone()
    other[:, 3] += 1
    assert not torch.allclose(fusion.hidden(other, *given[1:])[1], image, **CLOSE)
    found = fusion.found(text, image, mask)
    scores = fusion.scores(found, text).detach()  # [6, n, 7]
    for i, logit in enumerate(fusion(*given).detach()):
        words = range(1, int(mask[i].sum()) - 1)
        best = [float(scores[i, :, w].max()) for w in words]
        assert float(logit) == pytest.approx(sum(best) / len(best), rel=1e-4)
    cosine = F.normalize(fusion.scores.objects(found), dim=-1) @ F.normalize(
        fusion.scores.words(text), dim=-1
    ).transpose(1, 2)
    torch.testing.assert_close(scores, cosine / 0.07, **CLOSE)


def test_glip_reads_both_sides_by_one_matrix_of_scores():
    model = tiny_model(small("glip", Path("drawings.tar")).model).eval()
    meet = model.fusion.meet[0]
    x, y = torch.randn(1, 5, 16), torch.randn(1, 4, 16)
    bias = torch.zeros(1, 1, 1, 5)
    bias[..., 4] = -1e4
    given, both = [], meet(x, y, bias)
    words, regions = meet.norms[0](x), meet.norms[1](y)
    key, told = meet.text(words).chunk(2, -1)
    query, seen = meet.image(regions).chunk(2, -1)
    for head in range(meet.heads):
        part = slice(head * 16 // meet.heads, (head + 1) * 16 // meet.heads)
        scores = query[0, :, part] @ key[0, :, part].T / (16 // meet.heads) ** 0.5  # [4, 5]
        to_regions = (scores + bias[0, 0]).softmax(1) @ told[0, :, part]
        to_words = scores.T.softmax(1) @ seen[0, :, part]
        given.append((to_words, to_regions))
    expected = x[0] + meet.text_out(torch.cat([words for words, _ in given], 1))
    torch.testing.assert_close(both[0][0], expected, **CLOSE)
    expected = y[0] + meet.image_out(torch.cat([regions for _, regions in given], 1))
    torch.testing.assert_close(both[1][0], expected, **CLOSE)


def test_a_region_that_covers_a_phrase_fits_its_words_and_no_others():
    step = step_of("glip")
    own = step.model.objectives["ground"]
    targets = own.targets(step)
    windows = step.model.vision.windows  # as of every image
    covers = own.covered(windows.expand(len(targets.rows), -1, -1), targets.boxes)
    for covered, phrase in zip(covers, targets.boxes.tolist(), strict=True):
        over = [slow_overlap(window, phrase) for window in windows.tolist()]
        close = {i for i, share in enumerate(over) if share > 0.5 - 1e-6 or share == max(over)}
        assert set(covered.nonzero().flatten().tolist()) == close
    scores = nn.Parameter(torch.zeros(6, 36, 7))
    step.model.fusion.scores.forward = lambda image, text: scores
    own.loss(step)["ground"].backward()
    up = scores.grad < 0  # what the loss wants to rise
    expected = torch.zeros_like(up)
    for row, words, covered in zip(targets.rows, targets.words, covers, strict=True):
        expected[row] |= covered[:, None] & words
    assert torch.equal(up, expected)
    assert not any("concept" in name for name, _ in own.named_parameters())  # no classes


def slow_overlap(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def test_the_decoder_of_captions_reads_cells_that_have_not_seen_the_caption():
    step = step_of("e2e-vlp")
    own = step.model.objectives["decode"]
    before = own.loss(step)["decode"]
    step.features["text.tokens"] = step.features["text.tokens"].flip(0)
    torch.testing.assert_close(own.loss(step)["decode"], before, **CLOSE)
    step.features["image.tokens"] = step.features["image.tokens"].flip(0)
    assert not torch.allclose(own.loss(step)["decode"], before, atol=1e-7, rtol=0)


def test_both_decoders_of_e2e_vlp_stand_above_the_one_encoder_and_are_no_part_of_the_service():
    step = step_of("e2e-vlp")
    for name in ("decode", "detect"):
        own = step.model.objectives[name]
        step.model.zero_grad()
        step.shared.clear()
        own.loss(step)[name].backward(retain_graph=True)
        layer = step.model.fusion.layers[0].qkv.weight
        assert layer.grad is not None and layer.grad.any()
        assert any("layers" in parameter for parameter, _ in own.named_parameters())
    served = Tandem.from_checkpoint(step.model.checkpoint())
    assert not any("objectives" in name for name in served.state_dict())


def test_a_part_of_an_image_sees_itself_alone_in_the_top_layers():
    config = small("x-vlm", Path("drawings.tar")).model
    vision = tiny_model(replace(config, vision=replace(config.vision, layers=3))).vision.eval()
    pixels = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    patches = vision.trunk(pixels)  # 2 × 2 cells
    inside = torch.tensor([[True, True, False, False]])
    changed = patches.clone()
    changed[..., 1, :] += 1  # the lower two cells
    same = vision.local(patches, torch.ones_like(inside), 3)
    torch.testing.assert_close(same, vision.tail(patches), **CLOSE)
    alone = [vision.local(x, inside, 3)[:, :3] for x in (patches, changed)]
    torch.testing.assert_close(*alone, **CLOSE)  # class token and both cells
    below = [vision.local(x, inside, 2)[:, :3] for x in (patches, changed)]
    assert not torch.allclose(*below, **CLOSE)  # the layer below sees the whole image


def test_phrases_and_parts_go_through_the_objectives_of_captions_and_images():
    step = step_of("x-vlm")
    own = step.model.objectives["region_text"]
    part = own.step_of_parts(step)
    ids = step.batch.whole["text.ids"]
    parts = own.parts(step)
    assert parts.known.tolist() == [True, True, True, False, False, False]
    drawn = {
        tuple(row[:length].tolist())
        for row, length in zip(parts.ids, parts.mask.sum(1), strict=True)
    }
    assert (2, int(ids[2, 2]), int(ids[2, 3]), 3) in drawn  # the phrase as a text of its own
    assert torch.equal(parts.ids[3], ids[3])  # no phrase: the caption and the whole image
    outside = part.features["image.tokens"].abs().sum(-1) == 0
    assert outside[2].tolist() == [True, False, True, False] and not outside[3:].any()
    weights = step.model.objectives
    state = step.generator.get_state()
    expected = sum(
        weights[name].options.weight * sum(weights[name].loss(part).values())
        for name in ("itc", "itm", "mlm")
    )
    step.generator.set_state(state)
    torch.testing.assert_close(own.loss(step)["region_text"], expected, **CLOSE)


def test_words_read_the_cells_of_the_part_alone():
    step = step_of("x-vlm")
    fusion, features = step.model.fusion, step.features
    mask, row = step.batch.whole["text.mask"], torch.arange(6)
    tokens = features["image.tokens"].clone()
    tokens[:, 2:] = 0
    pairs = torch.stack([row, row], 1)
    part = fusion.hidden(features["text.tokens"], mask, tokens, pairs)[0]
    alone = fusion.hidden(features["text.tokens"], mask, tokens[:, :2], pairs)[0]
    torch.testing.assert_close(part, alone, **CLOSE)


def test_the_box_of_a_phrase_is_read_from_its_first_state_before_the_whole_image():
    step = step_of("x-vlm")
    own, calls = step.model.objectives["text_box"], []
    fusion, hidden = step.model.fusion, step.model.fusion.hidden
    fusion.hidden = lambda *given: calls.append(given) or hidden(*given)
    loss = own.loss(step)["text_box"]
    words, _, image, pairs = calls[0]
    assert torch.equal(image, step.features["image.tokens"])  # whole
    states = hidden(words, own.parts(step).mask, image, pairs)[0][:, 0]
    found = corners(own.box(states).sigmoid())[:3]
    boxes = own.parts(step).boxes[:3]
    expected = (
        sum(
            (a - b).abs().sum() for a, b in zip(centre_size(found), centre_size(boxes), strict=True)
        )
        / 3
        + (1 - torch.stack([slow_giou(a, b) for a, b in zip(found, boxes, strict=True)])).mean()
    )
    torch.testing.assert_close(loss, expected, **CLOSE)


def centre_size(boxes: Tensor) -> Tensor:
    return torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)


def slow_giou(one: Tensor, other: Tensor) -> Tensor:
    def area(box) -> Tensor:
        return (box[2] - box[0]).clamp(min=0) * (box[3] - box[1]).clamp(min=0)

    shared = area([*map(max, one[:2], other[:2]), *map(min, one[2:], other[2:])])
    hull = area([*map(min, one[:2], other[:2]), *map(max, one[2:], other[2:])])
    both = area(one) + area(other) - shared
    return shared / both - (hull - both) / hull


def test_a_phrase_without_a_box_gets_one_from_the_names_that_captions_teach():
    step = step_of("mdetr")
    whole, concepts = step.batch.whole, step.average.pooler.concepts
    ids = whole["text.ids"]
    rows = [[Phrase(1, 3)], [Phrase(1, 3)], [], [], [], []]
    whole |= phrase_tensors(rows, torch.zeros(6, dtype=torch.bool).numpy(), 7)
    with torch.no_grad():
        concepts.words[:-1] = 0
        concepts.words[3] = ids[0, 2]  # the last word is the noun
    step.shared.clear()
    targets = step.model.objectives["soft_tokens"].targets(step)
    named = [row for row in (0, 1) if ids[row, 2] == ids[0, 2]]
    assert targets.rows.tolist() == named and set(targets.names.tolist()) == {3}
    assert (targets.boxes[:, 2:] > targets.boxes[:, :2]).all()
