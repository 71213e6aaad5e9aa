from pathlib import Path

import pytest
import torch

from support.models import masking_tokenizer, options, step_of, tiny, tiny_tokenizer
from tandem_training.loop.trainer import vocabulary_of
from tandem_training.objectives.language import Mlm
from tandem_training.objectives.queue import Queue
from tandem_training.objectives.registry import losses
from tandem_training.recipe import read_recipe


@pytest.mark.parametrize(
    ("fusion", "text", "weights", "learns"),
    [
        ("none", "causal", {"itc": 1.0}, "vision.embed"),
        ("none", "bert", {"siglip": 1.0}, "vision.embed"),
        ("aligned", "bert", {"token_itc": 1.0}, "fusion.query"),
        ("aligned", "causal", {"lm": 1.0}, "fusion.layers"),
        ("single_stream", "bert", {"itm": 1.0, "rank": 0.5, "mlm": 1.0}, "fusion.layers"),
        ("single_stream", "causal", {"lm": 1.0}, "fusion.layers"),
        ("dual_stream", "bert", {"mlm": 1.0}, "fusion.text_layers"),
        ("inserted_attention", "bert", {"lm": 1.0}, "fusion.decoder"),
        ("inserted_attention", "bert", {"itm": 1.0}, "text.layers"),
        ("patch_stream", "bert", {"mlm": 1.0, "lm": 1.0}, "fusion.patches"),
    ],
)
def test_each_objective_teaches_its_part_of_the_model(
    fusion: str, text: str, weights: dict, learns: str
):
    model = tiny(fusion, text=text).train()
    values = losses(step_of(model, **weights))
    assert set(values) == {*weights, "loss"}
    assert float(values["loss"]) == pytest.approx(
        sum(w * float(values[name]) for name, w in weights.items())
    )
    values["loss"].backward()
    moved = [
        name
        for name, p in model.named_parameters()
        if p.grad is not None and float(p.grad.abs().sum()) > 0
    ]
    assert any(name.startswith(learns) for name in moved)
    assert all(p.grad is not None for p in model.objectives.parameters())


def test_the_momentum_encoder_fills_the_queue_and_the_queue_joins_the_negatives():
    model = tiny("none")
    step = step_of(model, itc={"queue": 8})
    first, second = (float(losses(step)["loss"]) for _ in range(2))
    assert model.objectives["itc"].queue.ids.tolist() == [40, 41, 42, 43, 44, 45, 40, 41]
    assert second != first  # the same batch, now with a queue behind it
    again = tiny("none")
    other = step_of(again, itc={"queue": 8})
    again.load_state_dict(model.state_dict())
    assert float(losses(other)["loss"]) == float(losses(step)["loss"])


def test_the_queue_keeps_the_newest_and_skips_what_is_empty():
    queue, rows = Queue(4, 2), torch.arange(6.0).view(3, 2)
    assert [len(part) for part in queue.behind(rows, rows, torch.arange(3))] == [3, 3, 3]
    queue.push(rows, rows + 10, torch.tensor([1, 2, 3]))
    queue.push(rows[:2], rows[:2] + 20, torch.tensor([4, 5]))
    text, image, ids = queue.behind(rows[:1], rows[:1], torch.tensor([9]))
    assert ids.tolist() == [9, 4, 5, 1, 2]
    assert image[1:, 0].tolist() == [20, 22, 10, 12] and text[3:].tolist() == rows[:2].tolist()


def test_only_words_are_maskable_and_a_tokenizer_without_mask_is_refused():
    ids, mask = torch.tensor([[2, 4, 1, 9, 3, 0]]), torch.tensor([[1, 1, 1, 1, 1, 0]])
    (own,) = options(mlm=1.0).values()
    mlm = Mlm(own, tiny("aligned"), vocabulary_of(masking_tokenizer()))
    assert mlm.maskable(ids, mask).tolist() == [[False, True, False, True, False, False]]
    with pytest.raises(ValueError, match=r"needs a tokenizer with the token \[MASK\]"):
        Mlm(own, tiny("aligned"), vocabulary_of(tiny_tokenizer()))


def test_a_share_of_the_words_is_hidden_by_its_option():
    model = tiny("aligned")
    step = step_of(model, mlm={"share": 0.0})
    assert float(losses(step)["mlm"]) == 0.0


def test_mlm_runs_no_text_encoder_for_a_fusion_that_reads_bare_words(monkeypatch):
    model = tiny("patch_stream")
    step = step_of(model, mlm=1.0)
    monkeypatch.delattr(type(model.text), "states")
    assert float(losses(step)["mlm"]) > 0


def test_one_objective_a_batch_is_drawn_in_proportion_to_its_weight():
    model = tiny("aligned")
    step = step_of(model, itc={"weight": 3.0, "soft_mix": 0.0}, itm=1.0)
    drawn = [tuple(losses(step, one_of=True)) for _ in range(40)]
    assert set(drawn) == {("itc", "loss"), ("itm", "loss")}
    assert 20 <= drawn.count(("itc", "loss")) <= 38


LM = "[data]\nword_dropout = 0.0\n[objectives]\nlm = 1.0\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[objectives]\nitcc = 1.0", "unknown key 'itcc'; did you mean 'itc'"),
        ("[objectives]\nitc = { weigth = 1.0 }", "unknown key 'weigth'; did you mean 'weight'"),
        ("[objectives]\nitc = -1.0", r"\[objectives\] itc: weight = -1.0; expected at least 0"),
        (
            "[fusion]\nkind = 'none'\n[objectives]\nitm = 1.0",
            "objective itm needs 'match.logit', which no part gives; "
            "\\[fusion\\] kind = 'aligned' or .* would",
        ),
        (
            "[fusion]\nkind = 'dual_stream'\n[objectives]\ntoken_itc = 1.0",
            r"token_itc needs 'token.similarity', .* kind = 'aligned' or .* kind = 'late' would",
        ),
        (
            "[objectives]\nmlm = 1.0",
            r"mlm needs 'text.words', .*: \[data\] word_dropout = 0 would",
        ),
        (
            LM,
            r"lm needs 'fusion.causal', which no part gives; \[text\] kind = 'causal' or "
            r"\[fusion\] kind = 'inserted_attention' or \[fusion\] kind = 'merged' or .* would",
        ),
        (
            LM + "[fusion]\nkind = 'dual_stream'",
            r"\[fusion\] kind = 'inserted_attention' or \[fusion\] kind = 'merged' or .* would",
        ),
        (
            "[train]\nfreeze = ['vision.*', 'text.*']\n[objectives]\nitc = 1.0",
            r"objective itc trains text and vision, which \[train\] freeze has",
        ),
        (
            "[text]\nkind = 'causal'\n[objectives]\nitc = 1.0",
            r"needs 'text.sentences', which no part gives; soft_mix = 0 does without a teacher",
        ),
        ("[objectives]\nsecond_itc = 1.0", r"needs 'second.embedding', .* \[second_text\] would"),
        ("[train]\nepochs = 3", "nothing to train: give"),
        ("[objectives]\nitc = 0", "nothing to train: give"),
        (
            "[fusion]\nkind = 'alined'",
            r"\[fusion\] kind = 'alined'; did you mean 'aligned'\? Known: none, aligned",
        ),
        ("[model]\ndim = 'wide'\n[objectives]\nitc = 1", r"\[model\]: dim = 'wide'; expected int"),
        ("[fusoin]\nkind = 'none'", "unknown key 'fusoin'; did you mean 'fusion'"),
        ("[optimiser]\ntext = { kind = 'adam' }", "'adam'; expected one of adamw, sgd"),
    ],
)
def test_a_recipe_that_does_not_fit_together_is_refused_in_a_sentence(
    tmp_path: Path, text: str, message: str
):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"recipe.toml.*{message}"):
        read_recipe(path)
