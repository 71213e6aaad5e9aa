"""The defining traits of the systems over a CNN's grid, and of visual parsing, on their recipes as
shipped with sizes cut."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from support.drawings import write_drawings
from support.models import FILES, masking_tokenizer, recipe_trainer, small, step_of, tiny_model
from support.regions import own_pairs, recipe_step
from tandem_training.models.fusion.dictionary import Dictionary
from tandem_training.objectives.codes import Mfr
from tandem_training.recipe import read_recipe

CLOSE = {"atol": 1e-5, "rtol": 1e-4}


def cells_read(step) -> int:
    """How many cells the first layer reads."""
    seen, words = [], step.features["text.tokens"].shape[1]
    hook = step.model.fusion.layers[0].register_forward_pre_hook(
        lambda _, given: seen.append(given[0].shape[1])
    )
    step.model.fusion(*own_pairs(step))
    hook.remove()
    return seen[0] - words


@pytest.mark.parametrize("name", ["pixelbert", "clip-vil"])
def test_half_of_the_cells_are_read_in_training_and_all_at_test(name: str):
    _, step = recipe_step(name)
    assert cells_read(step) == step.model.cells == 4
    step.model.train()
    assert cells_read(step) == 2
    given = own_pairs(step)
    step.model.fusion.dropout = 0.0
    step.model.fusion.layers.eval()  # so that nothing but the draw differs
    states = [step.model.fusion.hidden(*given)[1] for _ in range(4)]
    assert any(not torch.allclose(states[0], other) for other in states[1:])


@pytest.mark.parametrize("name", ["pixelbert", "clip-vil"])
def test_sgd_moves_the_cnn_and_adamw_all_else(name: str, tmp_path: Path):
    recipe = small(name, write_drawings(tmp_path / "drawings-0000.tar"))
    run = recipe_trainer(recipe, tmp_path / "run", masking_tokenizer())
    by_kind = {
        kind: {id(p) for group in optimiser.param_groups for p in group["params"]}
        for kind, optimiser in run.optimiser.kinds.items()
    }
    cnn = {id(p) for p in run.model.vision.parameters() if p.requires_grad}
    rest = {id(p) for p in run.model.parameters() if p.requires_grad} - cnn
    assert cnn and by_kind == {"sgd": cnn, "adamw": rest}


def test_pixelbert_adds_one_learnt_vector_to_every_cell_and_no_place():
    _, step = recipe_step("pixelbert")
    words, mask, tokens, pairs = own_pairs(step)
    fusion = step.model.fusion
    torch.nn.init.normal_(fusion.segments)
    turned = fusion(words, mask, tokens.flip(1), pairs)
    torch.testing.assert_close(turned, fusion(words, mask, tokens, pairs), **CLOSE)
    seen = []
    fusion.layers[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    fusion(words, mask, tokens, pairs)
    expected = fusion.image_in(tokens) + fusion.segments[2]
    torch.testing.assert_close(seen[0][:, : tokens.shape[1]], expected, **CLOSE)


def test_clip_vil_starts_from_a_contrastive_model_of_our_own():
    started = read_recipe(FILES["clip-vil"])
    assert started.train.start == "runs/align" and not started.train.freeze
    recipe, step = recipe_step("clip-vil")
    assert recipe.model.vision.kind == "efficientnet" and {"itm", "mlm"} <= recipe.objectives.keys()


# SOHO


def test_soho_replaces_a_cell_by_its_nearest_code_and_passes_the_gradient_straight_through():
    torch.manual_seed(0)
    dictionary, tokens = Dictionary(6, 5), torch.randn(2, 3, 6, requires_grad=True)
    codes = dictionary(tokens)
    for row in range(2):
        for cell in range(3):
            distance = (dictionary.codes - tokens[row, cell]).norm(dim=1)
            torch.testing.assert_close(codes[row, cell], dictionary.codes[distance.argmin()])
    weights = torch.randn(2, 3, 6)
    (codes * weights).sum().backward()
    torch.testing.assert_close(tokens.grad, weights)
    assert not list(dictionary.parameters())


def test_sohos_codes_are_moving_averages_of_their_cells():
    torch.manual_seed(0)
    dictionary = Dictionary(4, 3)
    counts, sums = torch.zeros(3), torch.zeros(3, 4)
    for step in range(1, 13):
        tokens = torch.randn(2, 5, 4)
        ids, decay = dictionary.nearest(tokens).flatten(), min(0.1 * step, 0.99)
        for code in range(3):
            own = tokens.flatten(0, 1)[ids == code]
            counts[code] = decay * counts[code] + (1 - decay) * len(own)
            sums[code] = decay * sums[code] + (1 - decay) * own.sum(0)
        dictionary.update(tokens)
        smoothed = (counts + 1e-5) / (counts.sum() + 3e-5) * counts.sum()
        torch.testing.assert_close(dictionary.codes, sums / smoothed[:, None], **CLOSE)


def test_soho_hides_all_cells_of_a_code_and_the_fusion_reads_codes():
    _, step = recipe_step("soho")
    objective, fusion = step.model.objectives["mvm"], step.model.fusion
    ids = torch.randint(5, (6, 9))
    shares = []
    for _ in range(60):
        hidden = objective.hidden(step, ids)
        shares.append(hidden.float().mean())
        for row in range(6):
            for code in range(5):
                assert len(set(hidden[row][ids[row] == code].tolist())) <= 1
    assert float(torch.stack(shares).mean()) == pytest.approx(0.15, abs=0.05)
    read = []
    fusion.image_in.register_forward_hook(lambda _, given, __: read.append(given[0]))
    words, mask, tokens, pairs = own_pairs(step)
    fusion(words, mask, tokens, pairs)
    torch.testing.assert_close(read[0], fusion.dictionary.codes[fusion.dictionary.nearest(tokens)])
    zero = tokens.clone()
    zero[0, 0] = 0
    fusion(words, mask, zero, pairs)
    assert not read[1][0, 0].any() and read[1][0, 1].any()


def test_soho_moves_its_codes_once_a_step_and_in_training_alone(tmp_path: Path):
    recipe = small("soho", write_drawings(tmp_path / "drawings-0000.tar"))
    recipe.train = replace(recipe.train, chunk=3)
    run = recipe_trainer(recipe, tmp_path / "run", masking_tokenizer())
    run.train_step()
    run.train_step()
    assert int(run.model.fusion.dictionary.updates) == 2
    for name, value in run.model.fusion.dictionary.named_buffers():
        assert torch.equal(value, run.average.fusion.dictionary.get_buffer(name)), name
    run.evaluate("en", 4)
    assert int(run.model.fusion.dictionary.updates) == 2
    _, step = recipe_step("soho")
    objective, dictionary = step.model.objectives["mvm"], step.model.fusion.dictionary
    objective.loss(step)  # while the model is evaluated
    step.model.train()
    with torch.no_grad():
        objective.loss(step)
    assert int(dictionary.updates) == 0
    objective.loss(step)
    assert int(dictionary.updates) == 1


# Visual parsing


def test_visual_parsing_masks_what_a_drawn_cell_attends_to_most():
    model = tiny_model(small("visual-parsing", Path("drawings.tar")).model).eval()
    step = step_of(model, mfr={"share": 0.5})
    vit, given = model.vision, step.batch.inputs["image.activations"]
    attention = vit.attention(given)
    torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:2]), **CLOSE)
    scores = torch.tensor([[[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1],
                            [0.6, 0.1, 0.2, 0.1], [0.3, 0.1, 0.5, 0.1]]])  # fmt: skip
    expected = {(0, 3), (0, 1), (0, 2), (2, 3)}
    objective: Mfr = model.objectives["mfr"]
    found = set()
    for number in range(30):
        hidden = objective.hidden(scores, torch.Generator().manual_seed(number))
        found.add(tuple(hidden[0].nonzero()[:, 0].tolist()))
    assert found == expected


def test_visual_parsings_attention_is_that_of_the_last_layer():
    recipe = small("visual-parsing", Path("drawings.tar"))
    recipe.model = replace(recipe.model, vision=replace(recipe.model.vision, layers=2))
    vit = tiny_model(recipe.model).eval().vision
    pixels = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    patches = vit.trunk(pixels)
    x = vit.blocks[0](vit.embed(patches.flatten(2).transpose(1, 2)) + vit.positions)
    last = vit.blocks[1]
    q, k, _ = last.qkv(last.norm1(x)).chunk(3, -1)
    size, heads = q.shape[-1] // last.heads, []
    for head in range(last.heads):
        own = slice(head * size, (head + 1) * size)
        heads.append((q[..., own] @ k[..., own].mT / size**0.5).softmax(-1))
    torch.testing.assert_close(vit.attention(patches), torch.stack(heads).mean(0), **CLOSE)


def test_visual_parsing_regresses_the_features_of_masked_cells():
    _, step = recipe_step("visual-parsing")
    objective, read = step.model.objectives["mfr"], []
    tokens = step.features["image.tokens"]
    step.model.fusion.image_in.register_forward_hook(lambda _, given, __: read.append(given[0]))
    states = []
    objective.head.register_forward_hook(lambda _, given, out: states.append(out))
    loss = objective.loss(step)["mfr"]
    hidden = (read[0] == 0).all(-1)
    assert hidden.any(1).all() and torch.equal(read[0][~hidden], tokens[~hidden])
    target = tokens[hidden] * tokens.shape[-1] ** 0.5
    torch.testing.assert_close(loss, (states[0] - target).square().mean())


def test_visual_parsing_embeds_cells_by_a_layer_and_a_norm():
    _, step = recipe_step("visual-parsing")
    image, tokens = step.model.fusion.image_in, step.features["image.tokens"]
    expected = image.norm(image.features(tokens * tokens.shape[-1] ** 0.5))
    torch.testing.assert_close(image(tokens), expected)
