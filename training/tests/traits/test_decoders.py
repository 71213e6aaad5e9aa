"""What defines the recipes that write, beyond their parts in models/test_writers.py."""

from pathlib import Path

import pytest
import torch

from support.models import FILES, moved
from support.regions import own_pairs, recipe_step
from tandem_training.models.layers import causal_bias
from tandem_training.recipe import read_recipe


def test_flamingo_moves_neither_its_language_model_nor_its_vision_encoder(run):
    """Flamingo (arXiv:2204.14198), section 2."""
    names = moved(run("flamingo"))
    assert "fusion.gates" in names
    still = ("vision.", "text.layers.", "text.words.", "text.norm.", "fusion.word_head.")
    assert not any(name.startswith(still) for name in names)


def test_the_language_model_of_flamingo_learns_from_texts_alone(run):
    names = moved(trainer := run("flamingo-lm"))
    assert any(n.startswith("text.layers.") for n in names)
    assert any(n.startswith("fusion.word_head.") for n in names)
    assert all(n.startswith(("text.", "fusion.word_head.")) for n in names)
    assert not trainer.model.fusion.gates.any()
    flamingo = read_recipe(FILES["flamingo"])
    assert flamingo.train.start == "runs/flamingo-lm"
    assert flamingo.model == read_recipe(FILES["flamingo-lm"]).model


def test_coca_weighs_captioning_twice_and_embeds_what_its_queries_read(run):
    """CoCa (arXiv:2205.01917), section 3.2 and equation 4."""
    coca = run("coca")
    weights = {n: o.options.weight for n, o in coca.model.objectives.items()}
    assert weights == {"itc": 1.0, "lm": 2.0} and not coca.recipe.model.companion
    values = coca._losses(0, batch := coca.batch(0), coca._encode(batch.inputs))
    torch.testing.assert_close(values["loss"], values["itc"] + 2 * values["lm"])
    pooler = coca.model.pooler.eval()
    assert coca.model.cells == 64
    with torch.no_grad():
        grid = torch.randn(2, 4, coca.model.vision.width)
        embedding, tokens = pooler(grid)
        assert tokens.shape == (2, 64, 16)
        torch.testing.assert_close(embedding, pooler.pool(pooler.cascade(grid)))
        pooler.cascade.norm.weight.zero_()  # what the queries read is all that the embedding knows
        assert torch.equal(*pooler(grid)[0])


@pytest.mark.parametrize(("name", "losses"), [("simvlm", {"prefix_lm"}), ("git", {"lm"})])
def test_the_likelihood_is_the_only_loss_beside_the_companions(name: str, losses: set):
    """SimVLM (arXiv:2108.10904), section 3.1; GIT (arXiv:2205.14100), section 3.2."""
    recipe = read_recipe(FILES[name])
    assert set(recipe.objectives) == losses | {"itc"} and recipe.model.companion


def test_the_vision_encoder_of_git_starts_from_a_contrast_of_our_own():
    git = read_recipe(FILES["git"])
    first = read_recipe(FILES[Path(git.train.start).name])
    assert first.system.serve == "E" and first.model.vision == git.model.vision


def test_simvlm_reads_some_texts_without_their_image():
    """Section 3.3: the same model learns from texts alone."""
    assert 0 < read_recipe(FILES["simvlm"]).objectives["prefix_lm"].blank < 1


def test_davinci_writes_and_paints_with_the_same_decoder_and_head(run):
    """DaVinci (arXiv:2206.07699), section 3."""
    davinci = run("davinci")
    assert set(davinci.recipe.objectives) == {"itc", "prefix_lm", "paint"}
    batch, reached = davinci.batch(0), []
    for name in ("prefix_lm", "paint"):
        davinci.model.zero_grad()
        step_values = davinci._losses(0, batch, davinci._encode(batch.inputs))
        step_values[name].backward()
        named = davinci.model.named_parameters()
        reached.append({n for n, p in named if p.grad is not None and p.grad.any()})
    for part in ("fusion.layers.", "fusion.encoder.", "fusion.word_head.", "text.words."):
        own = [{n for n in names if n.startswith(part)} for names in reached]
        assert own[0] == own[1] != set(), part


@pytest.mark.parametrize(
    ("name", "tasks"),
    [("vl-t5", {"infill", "word_match"}), ("ofa", {"infill", "word_match", "caption", "paint"})],
)
def test_all_tasks_of_a_system_with_one_vocabulary_move_the_same_layers(name: str, tasks, run):
    """VL-T5 (arXiv:2102.02779), section 3.2; OFA (arXiv:2202.03052), section 3.2. No task has a
    head of its own."""
    system = run(name)
    assert set(system.recipe.objectives) == tasks | {"itc"}
    assert not [n for n, _ in system.model.named_parameters() if n.startswith("objectives.")]
    batch = system.batch(1)
    for task in tasks:
        system.model.zero_grad()
        system._losses(1, batch, system._encode(batch.inputs))[task].backward()
        named = system.model.named_parameters()
        reached = {n for n, p in named if p.grad is not None and p.grad.any()}
        for part in ("fusion.layers.", "fusion.encoder.", "fusion.word_head."):
            assert any(n.startswith(part) for n in reached), (task, part)
    assert system.model.fusion.region_ids == (name == "vl-t5")


def test_flamingo_reads_pairs_one_after_another_and_of_images_the_last_alone():
    """Flamingo (arXiv:2204.14198), section 2.3."""
    recipe, step = recipe_step("flamingo")
    assert recipe.objectives["lm"].together == 2
    torch.manual_seed(0)
    fusion, text = step.model.fusion, step.model.text
    torch.nn.init.normal_(fusion.gates)
    words, mask, cells, pairs = own_pairs(step)
    objective, written = step.model.objectives["lm"], []
    original = fusion.write_together
    fusion.write_together = lambda *given: written.append(original(*given)) or written[-1]
    objective.loss(step)
    (states,) = written
    images = fusion.resampler(fusion.image_in(cells))
    for first in (0, 2, 4):  # a slow reference: word by word
        x = torch.cat([words[first], words[first + 1]])[None, :, : text.width]
        seen = torch.cat([mask[first], mask[first + 1]])[None]
        for layer, between, gates in zip(text.layers, fusion.between, fusion.gates, strict=True):
            open_by = gates.tanh()
            x = torch.cat([
                between(x[:, [at]], images[[first + at // words.shape[1]]], *open_by)
                for at in range(x.shape[1])
            ], 1)  # fmt: skip
            x = layer(x, causal_bias(seen))
        expected = text.norm(x)[0].unflatten(0, (2, -1))
        torch.testing.assert_close(states[first : first + 2], expected, atol=1e-5, rtol=1e-4)
    alone = fusion.write(words, mask, cells, pairs)
    torch.testing.assert_close(states[::2], alone[::2])
    assert not torch.allclose(states[1::2], alone[1::2])
    with pytest.raises(ValueError, match="6 pairs are no texts of 4, one after another"):
        original(words, mask, cells, pairs, 4)
