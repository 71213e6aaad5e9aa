"""Defining traits of ViTCAP (arXiv:2112.05230; code of jacobswan1/ViTCAP)."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from support.models import FILES, small, step_of
from tandem_training.models.model import Tandem
from tandem_training.objectives.concept_tokens import focal_loss
from tandem_training.objectives.registry import losses
from tandem_training.recipe import read_recipe

CLOSE = {"atol": 2e-5, "rtol": 1e-4}
MASK = 14  # [MASK] of the tests' tokenizer


@pytest.fixture
def model() -> Tandem:
    torch.manual_seed(0)
    model = Tandem(small("vitcap", FILES["vitcap"]).model).eval()
    concepts = model.fusion.concepts
    concepts.words[:-1], concepts.words[-1] = torch.arange(900, 900 + concepts.count), MASK
    return model


def test_concepts_are_words_of_captions_and_no_detectors(run):
    trainer = run("vitcap")
    concepts, table = (
        trainer.model.fusion.concepts,
        trainer.model.objectives["concept_tokens"].table,
    )
    names = {i: concepts.words[i].item() for i in range(concepts.count) if concepts.words[i]}
    assert names and concepts.words[-1] == trainer.tokenizer.token_to_id("[MASK]")
    for image, captions in enumerate(trainer.batches.captions):
        words = set().union(*captions)
        assert {i for i, word in names.items() if word in words} == set(
            table[image].nonzero()[:, 0].tolist()
        )
    recipe = read_recipe(FILES["vitcap"])
    assert recipe.model.vision.kind == "vit" and not recipe.model.vision.concepts


def test_the_focal_loss_is_that_of_its_code():
    torch.manual_seed(0)
    logits, holds, guide = torch.randn(3, 5), torch.rand(3, 5) > 0.6, torch.rand(3, 5)
    expected = 0.0
    for z, y, g in zip(logits.flatten(), holds.flatten(), guide.flatten(), strict=True):
        p = z.sigmoid()
        entropy = -(g * p.log() + (1 - g) * (1 - p).log())
        expected += float(0.5 * ((1 - p) if y else p) * entropy) / 3
    assert float(focal_loss(logits, holds, guide)) == pytest.approx(expected, rel=1e-5)


def test_the_most_probable_concepts_stand_as_rows_of_the_word_matrix_behind_the_cells(
    model: Tandem,
):
    fusion, cells = model.fusion, step_of(model).features["image.tokens"]
    before, n = fusion.before(cells), cells.shape[1]
    assert before.shape[1] == n + 10
    torch.testing.assert_close(before[:, :n], fusion.image_in(cells))
    for image, logits in enumerate(fusion.concept_logits(cells)):
        best = logits.sort(descending=True).indices[:10]
        words = model.text.words.weight[fusion.concepts.words[best]]
        expected = fusion.norm_in(fusion.text_in(words)) + fusion.segment
        torch.testing.assert_close(before[image, n:], expected, **CLOSE)


def test_words_are_written_after_the_concepts(model: Tandem):
    step = step_of(model)
    words, cells = step.features["text.tokens"], step.features["image.tokens"]
    row = torch.arange(6)
    arguments = (words, step.batch.whole["text.mask"], cells, torch.stack([row, row], 1))
    with torch.no_grad():
        states = model.fusion.hidden(*arguments, causal=True)[0], model.fusion.write(*arguments)
        model.fusion.concepts.words[:-1] += 400
        others = model.fusion.hidden(*arguments, causal=True)[0], model.fusion.write(*arguments)
    for state, other in zip(states, others, strict=True):
        assert not torch.isclose(state, other, **CLOSE).all(-1).any()


def test_the_likelihood_reads_what_seq_mlm_trains_a_mask_in_the_words_place(model: Tandem):
    step = step_of(model)
    ids, mask = step.batch.whole["text.ids"], step.batch.whole["text.mask"]
    cells, row = step.features["image.tokens"], torch.arange(6)
    pairs = torch.stack([row, row], 1)
    with torch.no_grad():
        written = model.fusion.write(step.features["text.tokens"], mask, cells, pairs)
        for place in range(1, 7):
            hidden = ids.clone()
            hidden[:, place] = MASK
            words = model.read_words(hidden, mask)
            states = model.fusion.hidden(words, mask, cells, pairs, causal=True)[0][:, place]
            real = mask[:, place] > 0
            torch.testing.assert_close(written[real, place - 1], states[real], **CLOSE)


def test_seq_mlm_is_the_only_loss_of_the_captioner_and_sees_no_later_word(model: Tandem):
    recipe = read_recipe(FILES["vitcap"])
    assert set(recipe.objectives) == {"itc", "mlm", "concept_tokens"} and recipe.model.companion
    assert recipe.objectives["mlm"].causal
    step = step_of(model)
    words, mask = step.features["text.tokens"][..., :-2], step.batch.whole["text.mask"]
    cells, row = step.features["image.tokens"], torch.arange(6)
    pairs = torch.stack([row, row], 1)
    with torch.no_grad():
        before = model.fusion.hidden(words, mask, cells, pairs, causal=True)[0]
        other = words.clone()
        other[:, 4] += 1.0
        after = model.fusion.hidden(other, mask, cells, pairs, causal=True)[0]
    torch.testing.assert_close(after[:, :4], before[:, :4])
    assert not torch.isclose(after[1:, 4:], before[1:, 4:], **CLOSE).all(-1).any()


def test_concepts_teach_the_image_encoder_and_captions_do_not_move_their_choice(model: Tandem):
    step = step_of(model, mlm={"causal": True, "share": 0.5}, concept_tokens=1.0)
    objective = model.objectives["concept_tokens"]
    objective.table = torch.rand(46, model.fusion.concepts.count) > 0.9
    for name, reached in (("concept_tokens", True), ("mlm", False)):
        model.zero_grad()
        losses(replace(step, features=model(step.batch.inputs)))[name].backward()
        assert model.vision.embed.weight.grad.any()
        gradient = model.fusion.concepts.name.weight.grad
        assert (gradient is not None and bool(gradient.any())) == reached, name


def test_a_teachers_probabilities_are_part_of_the_concepts_target(model: Tandem):
    torch.manual_seed(1)
    average = Tandem(small("vitcap", FILES["vitcap"]).model).eval()
    options = {"soft_mix": 0.4, "soft_rise": 4}
    step = step_of(model, concept_tokens=options)
    step_of(average, concept_tokens=options)
    objective = model.objectives["concept_tokens"]
    objective.table = torch.rand(46, model.fusion.concepts.count) > 0.9
    step = replace(step, average=average)
    logits = model.fusion.concept_logits(step.features["image.tokens"])
    holds, shares = objective.table[40:46], {0: 0.0, 2: 0.2, 9: 0.4}
    cells = average(step.batch.inputs)["image.tokens"]
    guide = average.fusion.concept_logits(cells).sigmoid()
    for number, share in shares.items():
        target = torch.lerp(holds.float(), guide, share)
        distance = (logits.sigmoid() - holds.float()).abs()
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        loss = objective.loss(replace(step, number=number))["concept_tokens"]
        torch.testing.assert_close(loss, (0.5 * distance * entropy).sum(1).mean(), **CLOSE)
    loss.backward()
    assert all(p.grad is None for p in average.parameters())
    assert read_recipe(FILES["vitcap"]).objectives["concept_tokens"].soft_mix > 0
