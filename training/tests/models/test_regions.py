"""Regions: windows over the grid, tokens with tag and box, and the merged attention over them."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from support.models import tiny
from support.regions import prepared_step, region_config, region_model
from tandem_training.models.fusion.image_input import ImageInput, Places, geometry
from tandem_training.models.vision import region_tokens
from tandem_training.models.vision.concepts import Concepts
from tandem_training.models.vision.regions import POINTS, roi_weights, windows
from tandem_training.models.vision.vision import dequantise_tokens, quantise_tokens

CLOSE = {"atol": 2e-5, "rtol": 1e-4}


def test_the_36_windows_are_the_tiles_rows_and_columns_of_the_image():
    boxes = windows()
    assert boxes.shape == (36, 4) and boxes[0].tolist() == [0, 0, 1, 1]
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    sizes = [1] + [1 / 4] * 4 + [1 / 9] * 9 + [1 / 16] * 16 + [1 / 3] * 6
    torch.testing.assert_close(area, torch.tensor(sizes))
    assert len({tuple(box) for box in boxes.tolist()}) == 36


def test_the_constant_matrix_equals_roi_align_with_samples_read_one_by_one():
    grid = torch.randn(1, 5, 9, 9, generator=torch.Generator().manual_seed(0))
    found = roi_weights(windows(), 9) @ grid.flatten(2)[0].T  # [36, 5]
    place = (torch.arange(POINTS) + 0.5) / POINTS
    for box, feature in zip(windows(), found, strict=True):
        x, y = (box[k] + (box[k + 2] - box[k]) * place for k in (0, 1))
        at = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None] * 2 - 1
        read = F.grid_sample(grid, at, padding_mode="border", align_corners=False)
        torch.testing.assert_close(feature, read[0].mean((1, 2)), **CLOSE)


def test_a_region_has_the_features_of_its_own_window_alone():
    weights = roi_weights(windows(), 8).unflatten(-1, (8, 8))
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(36))
    first = weights[1]  # the upper left of the 2×2 tiles
    assert first[:4, :4].sum() > 0.9 and first[5:].sum() == 0 and first[:, 5:].sum() == 0


def test_box_and_tags_survive_the_bytes_of_the_store():
    random = torch.Generator().manual_seed(0)
    features = F.normalize(torch.rand(2, 36, 378, generator=random) - 0.5, dim=-1)
    boxes = windows().expand(2, -1, -1)
    tags = torch.tensor([[0, 399, 126, 127, 253], [5, 4, 3, 2, 1]])
    tokens = region_tokens.pack(features, boxes, tags)
    for kept in (tokens, dequantise_tokens(quantise_tokens(tokens))):
        assert torch.equal(region_tokens.tags_of(kept, 5), tags)
        torch.testing.assert_close(region_tokens.boxes_of(kept), boxes, atol=0.005, rtol=0)
        torch.testing.assert_close(region_tokens.features_of(kept), features, atol=0.001, rtol=0)
    fewer = region_tokens.with_tags(tokens, tags[:, :2])
    assert region_tokens.tags_of(fewer, 3)[:, 2].tolist() == [-1, -1]


def test_overlap_is_intersection_over_union():
    boxes = torch.tensor([[0, 0, 1, 1], [0, 0, 0.5, 1], [0.5, 0, 1, 1], [0.25, 0, 0.75, 1]])
    expected = [[1, 0.5, 0.5, 0.5], [0.5, 1, 0, 1 / 3], [0.5, 0, 1, 1 / 3], [0.5, 1 / 3, 1 / 3, 1]]
    torch.testing.assert_close(region_tokens.overlap(boxes), torch.tensor(expected))


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("4", [0.1, 0.2, 0.5, 0.4]),
        ("5", [0.1, 0.2, 0.5, 0.4, 0.08]),
        ("6", [0.1, 0.2, 0.5, 0.4, 0.4, 0.2]),
        ("7", [0.1, 0.2, 0.5, 0.4, 0.4, 0.2, 0.08]),
    ],
)
def test_the_geometry_of_a_box_has_the_numbers_of_the_paper(kind: str, numbers: list[float]):
    box = torch.tensor([0.1, 0.2, 0.5, 0.4])
    torch.testing.assert_close(geometry(box, kind), torch.tensor(numbers))


@pytest.mark.parametrize("kind", Places.CHOICES["geometry"])
@pytest.mark.parametrize("join", ["norms", "mean", "sum"])
def test_feature_and_place_are_joined_as_the_recipe_says(kind: str, join: str):
    pooler = SimpleNamespace(places=True, feature_width=26, cells=36)
    image = ImageInput(Places(kind, join), pooler, 8)
    features = F.normalize(torch.randn(2, 36, 26), dim=-1)
    tokens = region_tokens.pack(features, windows().expand(2, -1, -1), torch.zeros(2, 0).long())
    x = image.features(features * 26**0.5)
    if kind == "none":
        torch.testing.assert_close(image(tokens), image.norm(x))
        return
    y = image.box(geometry(windows(), kind)).expand_as(x)
    both = image.norm(x) + image.box_norm(y)
    expected = {"norms": both, "mean": both / 2, "sum": image.norm(x + y)}
    torch.testing.assert_close(image(tokens), expected[join], atol=1e-4, rtol=1e-3)


def test_cells_have_the_boxes_of_their_grid():
    image = tiny("merged").pooler
    boxes = ImageInput(Places(geometry="4"), image, 8).cells
    assert boxes.tolist() == [
        [0, 0, 0.5, 0.5],
        [0.5, 0, 1, 0.5],
        [0, 0.5, 0.5, 1],
        [0.5, 0.5, 1, 1],
    ]


def test_each_head_names_the_photos_that_the_other_learns_from():
    torch.manual_seed(0)
    concepts, features = Concepts(8, 3), torch.randn(4, 5, 8)
    ids = torch.tensor([0, 1, 2, 3])
    learnt, named = concepts.learning(features, ids), concepts(features, ids)
    torch.testing.assert_close(named, concepts.learning(features, ids + 1))
    torch.testing.assert_close(concepts(features), (learnt + named) / 2)
    learnt[:1].sum().backward()  # of photo 0
    assert concepts.heads.weight.grad[:3].any() and not concepts.heads.weight.grad[3:].any()


def test_an_images_tags_come_from_the_head_that_has_not_learnt_from_it():
    model = region_model(tags=3)
    step = prepared_step(model, concepts=1.0)
    tokens = step.features["image.tokens"]
    features = region_tokens.features_of(tokens)
    ids = step.batch.whole["image.ids"]
    expected = model.pooler.concepts.tags(features, ids, 5)
    assert torch.equal(region_tokens.tags_of(tokens, 5), expected)
    assert not torch.equal(expected, model.pooler.concepts.tags(features, ids + 1, 5))


def test_the_layers_start_as_the_text_encoders_and_are_copies():
    model = region_model()
    model.fusion.load_published()
    pairs = zip(model.fusion.layers.parameters(), model.text.layers.parameters(), strict=True)
    assert all(torch.equal(own, text) and own is not text for own, text in pairs)


def test_without_images_a_text_is_read_by_the_layers_alone():
    model = region_model(geometry="7", tags=2, whole=True)
    step = prepared_step(model, itm=1.0)
    words, mask = step.features["text.tokens"], step.batch.whole["text.mask"]
    row = torch.arange(6)
    pairs = torch.stack([row, row], 1)
    none = step.features["image.tokens"][:, :0]
    alone, image = model.fusion.hidden(words, mask, none, pairs)
    x = words + model.fusion.segments[0]
    for layer in model.fusion.layers:
        x = layer(x, (1.0 - mask[:, None, None].float()) * -1e4)
    torch.testing.assert_close(alone, x, **CLOSE)
    assert image.shape[1] == 0


def test_tags_are_read_as_a_second_text_between_image_and_words():
    model = region_model(tags=2)
    step = prepared_step(model, concepts=1.0)
    tokens, mask = step.features["image.tokens"], step.batch.whole["text.mask"]
    pairs = torch.tensor([[0, 0], [1, 1]])
    words, tags, image = model.fusion.read(
        step.features["text.tokens"], mask, tokens, pairs, causal=False
    )
    assert words.shape[1] == 7 and tags.shape[1] == 2 and image.shape[1] == 36
    other = region_tokens.with_tags(tokens, region_tokens.tags_of(tokens, 5).flip(1))
    changed = model.fusion.read(step.features["text.tokens"], mask, other, pairs, False)[0]
    assert not torch.allclose(words, changed, **CLOSE)
    names = model.pooler.concepts.words[region_tokens.tags_of(tokens, 2)]
    assert torch.equal(model.fusion.tag_ids(tokens), names)


def test_every_word_carries_the_feature_of_the_whole_image_where_the_recipe_says_so():
    model = region_model(whole=True)
    for layer in (model.fusion.whole, model.fusion.image_in.features):
        torch.nn.init.ones_(layer.weight)
    step = prepared_step(model, itm=1.0)
    tokens, seen = step.features["image.tokens"], []
    model.fusion.layers[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    row = torch.arange(6)
    model.fusion.hidden(step.features["text.tokens"], step.batch.whole["text.mask"], tokens,
                        torch.stack([row, row], 1))  # fmt: skip
    whole = model.fusion.whole(
        region_tokens.features_of(tokens)[:, 0] * model.pooler.feature_width**0.5
    )
    expected = step.features["text.tokens"] + model.fusion.segments[0] + whole[:, None]
    torch.testing.assert_close(seen[0][:, 36:], expected, **CLOSE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"geometry": "8"}, "geometry = '8'; expected one of none, 4, 5, 6, 7, sines"),
        ({"join": "product"}, "join = 'product'; expected one of norms, mean, sum"),
    ],
)
def test_an_unknown_geometry_is_refused_in_a_sentence(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        region_config(**changes)


def test_tags_need_a_head_that_names_them():
    config = region_config(tags=2)
    with pytest.raises(ValueError, match="needs 'image.labels', which no part gives"):
        replace(config, vision=replace(config.vision, concepts=0)).gives()
