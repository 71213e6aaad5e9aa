"""The defining traits of OSCAR and VinVL, which read names of regions as tags, on their recipes as
shipped with sizes cut."""

import pytest
import torch

from support.regions import CLOSE, own_pairs, read_in, recipe_step, seen_by_fusion
from tandem_training.models.vision import region_tokens


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
