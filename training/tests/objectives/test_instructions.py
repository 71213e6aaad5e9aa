"""Tasks of an encoder and a decoder with one vocabulary."""

import pytest
import torch
from torch import nn

from support.models import step_of, tiny
from tandem_training.models.reserved import CODES, END, REGIONS, SENTINELS, START, TASKS
from tandem_training.objectives.instructions import Paint, hide_spans

CLOSE = {"atol": 2e-5, "rtol": 1e-4}


def test_runs_of_hidden_words_become_sentinels_and_are_written_after_them():
    """T5 (arXiv:1910.10683), section 3.1.4, figure 2: "Thank you <X> me to your party <Y> week"."""
    row = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]
    hide = [i in (2, 3, 8) for i in range(10)]
    x, y = SENTINELS, SENTINELS + 1
    left, written = hide_spans(row, hide)
    assert left == [10, 11, x, 14, 15, 16, 17, y, 19]
    assert written == [x, 12, 13, y, 18, END]
    assert hide_spans(row, [False] * 10) == (row, [END])


def test_infill_writes_the_hidden_spans_from_image_task_and_what_is_left():
    model = tiny("instructed")
    step = step_of(model, infill={"share": 0.5})
    objective, fusion, text = model.objectives["infill"], model.fusion, model.text
    ids, mask = step.batch.whole["text.ids"], step.batch.whole["text.mask"]
    draws = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0))
    slow = []
    for i in range(6):
        length = int(mask[i].sum())
        hide = [bool(draws[i, j] < 0.5 and ids[i, j] > 3) for j in range(length)]
        left, written = hide_spans(ids[i, :length].tolist(), hide)
        source = text.embed(torch.tensor([[TASKS["infill"]]]))
        source = torch.cat([source, text.embed(torch.tensor([left]))], 1)
        cells = fusion.cells(step.features["image.tokens"][i : i + 1])
        seen = torch.ones(1, cells.shape[1] + source.shape[1], dtype=torch.int64)
        before = text.embed(torch.tensor([[START, *written[:-1]]]))
        logits = fusion.word_head(fusion.answer(cells, source, seen, before)[0], text.words)
        slow += [-row.log_softmax(0)[word] for row, word in zip(logits, written, strict=True)]
    torch.testing.assert_close(objective.loss(step)["infill"], torch.stack(slow).mean(), **CLOSE)


def test_the_match_is_the_log_odds_of_two_words_and_no_other_word_counts():
    """VL-T5 (arXiv:2102.02779), section 4.1; OFA's trie leaves two answers (arXiv:2202.03052,
    section 3.4)."""
    model = tiny("instructed")
    nn.init.ones_(model.fusion.head.weight)
    step = step_of(model)
    tokens, mask = step.features["text.tokens"], step.batch.whole["text.mask"]
    pairs, cells = torch.tensor([[0, 0], [3, 1]]), step.features["image.tokens"]
    with torch.no_grad():
        state = model.fusion.answered(tokens, mask, cells, pairs)
        words = model.fusion.word_head(state, model.text.words).softmax(-1)
        logit = model.fusion(tokens, mask, cells, pairs)
        odds = words[:, 2995].log() - words[:, 6270].log()
        torch.testing.assert_close(logit, odds, **CLOSE)
        model.fusion.word_head.bias[7] += 5.0
        torch.testing.assert_close(model.fusion(tokens, mask, cells, pairs), logit, **CLOSE)


def test_word_match_draws_half_of_the_texts_from_other_images():
    model = tiny("instructed")
    step = step_of(model, word_match=1.0)
    seen = {}

    def answered(tokens, mask, cells, pairs):
        seen["pairs"] = pairs
        return torch.zeros(len(pairs), model.fusion.width)

    model.fusion.answered = answered
    others = []
    for seed in range(40):
        step.generator.manual_seed(seed)
        model.objectives["word_match"].loss(step)
        text, image = seen["pairs"].unbind(1)
        assert image.tolist() == list(range(6))
        others.append((text != image).float().mean())
    assert 0.4 < torch.stack(others).mean() < 0.6


def test_regions_are_numbered_by_words_of_the_vocabulary():
    """VL-T5, section 3.1: region ids are embedded as words."""
    model = tiny("instructed")
    tokens = step_of(model).features["image.tokens"]
    with torch.no_grad():
        without = model.fusion.cells(tokens)
        model.fusion.region_ids = True
        numbered = model.fusion.cells(tokens) - without
        words = model.text.words.weight[REGIONS : REGIONS + model.cells]
        expected = model.fusion.text_in(words).expand_as(numbered)
        torch.testing.assert_close(numbered, expected, **CLOSE)


def test_paint_never_sees_the_cells_that_it_writes_and_codes_are_words():
    """DaVinci (arXiv:2206.07699), section 3.2: the codes of the image's later part, by the decoder
    that writes words, from the text and the image's first part."""
    model = tiny("encoder_decoder")
    step = step_of(model, paint={"codes": 5})
    codes = torch.randint(0, 5, (6, 4))
    step.batch.whole["visual.ids"] = codes
    objective = model.objectives["paint"]
    assert not list(objective.parameters())
    first = 1 + (torch.rand(6, generator=torch.Generator().manual_seed(0)) * 3).long()
    loss = objective.loss(step)["paint"]
    later = torch.arange(4) >= first[:, None]
    changed = step.features["image.tokens"].clone()
    changed[later] = changed[later].flip(0) + 0.1
    step.features["image.tokens"] = changed
    step.generator.manual_seed(0)
    torch.testing.assert_close(objective.loss(step)["paint"], loss)
    step.features["text.tokens"] = step.features["text.tokens"].flip(0)
    step.generator.manual_seed(0)
    assert abs(objective.loss(step)["paint"] - loss) > 1e-6
    slow = []
    for i in range(6):
        words = step.features["text.tokens"][i : i + 1, :, : model.text.width]
        seen = torch.cat([(~later[i]).long(), step.batch.whole["text.mask"][i]])[None]
        cells = model.fusion.cells(changed[i : i + 1])
        before = model.text.embed(torch.tensor([[START, *(codes[i, :-1] + CODES).tolist()]]))
        states = model.fusion.answer(cells, words, seen, before)[0]
        logits = model.fusion.word_head(states, model.text.words).log_softmax(-1)
        slow += [-logits[n, codes[i, n] + CODES] for n in range(4) if later[i, n]]
    step.generator.manual_seed(0)
    torch.testing.assert_close(objective.loss(step)["paint"], torch.stack(slow).mean(), **CLOSE)


def test_ofa_paints_the_middle_of_the_image():
    """OFA (arXiv:2202.03052), section 3.2: image infilling of the middle part."""
    paint = Paint(Paint.Options(middle=True), tiny("instructed"), None)
    hidden = paint._hidden(2, 81, torch.Generator()).view(2, 9, 9)
    assert hidden[:, 2:7, 2:7].all() and int(hidden[0].sum()) == 25


def test_more_codes_than_the_vocabulary_has_room_for_are_refused():
    with pytest.raises(ValueError, match="codes = 1024; the vocabulary has room for 795"):
        Paint.Options(codes=1024)


def test_caption_reads_no_word():
    """OFA, section 3.2: from the image and the instruction."""
    model = tiny("instructed")
    step = step_of(model, caption=1.0)
    objective = model.objectives["caption"]
    loss = objective.loss(step)["caption"]
    step.features["text.tokens"] = None
    assert objective.loss(step)["caption"] == loss
    step.features["image.tokens"] = step.features["image.tokens"].flip(0)
    assert objective.loss(step)["caption"] != loss
