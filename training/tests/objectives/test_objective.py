from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models

from support.models import recipe_of, step_of, tiny
from tandem_training.objectives.heads import Maskable
from tandem_training.objectives.momentum import Queue
from tandem_training.objectives.objective import Objectives
from tandem_training.recipe import ObjectivesConfig, Recipe, TrainConfig, read_recipe


@pytest.fixture
def masking(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens(["[MASK]"])
    return tokenizer


@pytest.mark.parametrize(
    ("fusion", "text", "weights", "learns"),
    [
        ("none", "clip", {"itc": 1.0}, "vision.embed"),
        ("none", "bert", {"siglip": 1.0}, "vision.embed"),
        ("aligned", "bert", {"token_itc": 1.0}, "fusion.query"),
        ("aligned", "clip", {"lm": 1.0}, "fusion.layers"),
        ("merged-attention", "bert", {"itm": 1.0, "mlm": 1.0}, "fusion.layers"),
        ("merged-attention", "clip", {"lm": 1.0}, "fusion.layers"),
        ("co-attention", "bert", {"mlm": 1.0}, "fusion.text_layers"),
        ("inserted-attention", "bert", {"lm": 1.0}, "fusion.decoder"),
        ("inserted-attention", "bert", {"itm": 1.0}, "text.layers"),
        ("patches", "bert", {"mlm": 1.0, "lm": 1.0}, "patches"),
    ],
)
def test_each_objective_teaches_its_part_of_the_model(
    fusion: str, text: str, weights: dict, learns: str, masking
):
    model = tiny(fusion, text=text).train()
    objectives = Objectives(recipe_of(fusion, text, **weights), model, masking)
    losses = objectives(step_of(model))
    assert set(losses) == {*weights, "loss"}
    assert float(losses["loss"]) == pytest.approx(
        sum(w * float(losses[name]) for name, w in weights.items())
    )
    losses["loss"].backward()
    moved = [
        name
        for name, p in model.named_parameters()
        if p.grad is not None and float(p.grad.abs().sum()) > 0
    ]
    assert any(name.startswith(learns) for name in moved)
    assert all(p.grad is not None for p in objectives.parameters())


def test_the_momentum_encoder_fills_the_queue_and_the_queue_joins_the_negatives():
    model = tiny("none")
    objectives = Objectives(recipe_of("none", queue=8, itc=1.0), model, None)
    step = step_of(model)
    first, second = (float(objectives(step)["loss"]) for _ in range(2))
    assert objectives.queue.ids.tolist() == [40, 41, 42, 43, 44, 45, 40, 41]
    assert second != first  # the same batch, now with a queue behind it
    again = Objectives(recipe_of("none", queue=8, itc=1.0), model, None)
    again.load_state_dict(objectives.state_dict())
    assert float(again(step)["loss"]) == float(objectives(step)["loss"])


def test_the_queue_keeps_the_newest_and_skips_what_is_empty():
    queue, rows = Queue(4, 2), torch.arange(6.0).view(3, 2)
    assert [len(part) for part in queue.behind(rows, rows, torch.arange(3))] == [3, 3, 3]
    queue.push(rows, rows + 10, torch.tensor([1, 2, 3]))
    queue.push(rows[:2], rows[:2] + 20, torch.tensor([4, 5]))
    text, image, ids = queue.behind(rows[:1], rows[:1], torch.tensor([9]))
    assert ids.tolist() == [9, 4, 5, 1, 2]
    assert image[1:, 0].tolist() == [20, 22, 10, 12] and text[3:].tolist() == rows[:2].tolist()


def test_only_words_are_maskable_and_a_tokenizer_without_mask_is_refused(masking):
    ids, mask = torch.tensor([[2, 4, 1, 9, 3, 0]]), torch.tensor([[1, 1, 1, 1, 1, 0]])
    assert Maskable(masking)(ids, mask).tolist() == [[False, True, False, True, False, False]]
    with pytest.raises(ValueError, match=r"needs a tokenizer with the token \[MASK\]"):
        Maskable(Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[objectives]\nitcc = 1.0", "unknown key 'itcc'; did you mean 'itc'"),
        ("[objectives]\nitc = -1.0", "objective itc has the weight -1.0"),
        (
            "[model]\nfusion = 'none'\n[objectives]\nitm = 1.0",
            "objective itm reads text and image together",
        ),
        ("[model]\nfusion = 'co-attention'\n[objectives]\ntoken_itc = 1.0", "not 'co-attention'"),
        (
            "[objectives]\nmlm = 1.0",
            "objective mlm learns the words: set word_dropout = 0, not 0.1",
        ),
        (
            "[train]\nword_dropout = 0.0\n[objectives]\nlm = 1.0",
            "objective lm: the text tokens of text = 'bert'",
        ),
        (
            "[model]\nfusion = 'co-attention'\n[train]\nword_dropout = 0.0\n[objectives]\nlm = 1.0",
            "sees the words",
        ),
        (
            "[train]\ntrain_towers = false\n[objectives]\nitc = 1.0",
            "objective itc trains the encoders",
        ),
        ("[model]\ntext = 'clip'\n[objectives]\nitc = 1.0", "set soft_mix = 0, or queue above 0"),
        ("[train]\nqueue = 64\n[objectives]\nsiglip = 1.0", "queue = 64 serves objective itc"),
        ("[train]\ntrain_towers = false\nitm_weight = 0.0", "nothing to train"),
        (
            "[train]\nitm_weight = 0.2\n[objectives]\nitc = 1.0",
            "in .objectives. or in .train., not in both: itm_weight",
        ),
        ("[model]\nfusion = 'alined'", r"\[model\]: fusion = 'alined'; did you mean 'aligned'"),
    ],
)
def test_objectives_that_do_not_fit_are_an_error_that_helps(
    tmp_path: Path, text: str, message: str
):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"recipe.toml.*{message}"):
        read_recipe(path)


def test_a_recipe_without_the_table_trains_what_it_always_has():
    assert Recipe().weights() == {"itc": 1.0, "token_itc": 1.0, "itm": 0.5}
    assert Recipe(train=TrainConfig(train_towers=False)).weights() == {"itm": 0.5}
    assert Recipe(objectives=ObjectivesConfig(itm=2.0)).weights() == {"itm": 2.0}
