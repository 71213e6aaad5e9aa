"""Hidden cells and words."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from support.drawings import write_drawings
from support.models import options, step_of, tiny
from tandem_training.data.samples import read_shards
from tandem_training.loop import visual_tokens
from tandem_training.loop.visual_tokens import VisualTokens
from tandem_training.objectives.masked import hide_blocks
from tandem_training.recipe import Recipe


def test_blocks_hide_the_wanted_share_in_rectangles_and_leave_a_cell():
    """BEiT (arXiv:2106.08254), algorithm 1."""
    hidden = hide_blocks(200, 14, 0.4, torch.Generator().manual_seed(0))
    shares = hidden.float().mean(1)
    assert shares.min() >= 0.4 and shares.mean() < 0.5
    together = hidden.view(200, 14, 14)
    pairs = (together[:, 1:] & together[:, :-1]).float().mean()
    assert pairs > 0.3  # by chance 0.4², about 0.18, would be neighbours
    least = hide_blocks(50, 2, 0.99, torch.Generator().manual_seed(0))
    assert least.any(1).all() and not least.all(1).any()
    again = hide_blocks(200, 14, 0.4, torch.Generator().manual_seed(0))
    assert torch.equal(hidden, again)


def mim_step(name: str):
    model = tiny("shared").eval()
    step = step_of(model, **{name: {"codes": 5, "share": 0.5}})
    step.batch.whole["visual.ids"] = torch.randint(0, 5, (6, model.cells))
    return model, step


@pytest.mark.parametrize("name", ["image_mim", "mim"])
def test_mim_never_sees_the_cells_that_it_predicts(name: str):
    """With every hidden cell's content changed, the loss is the same to the bit."""
    model, step = mim_step(name)
    hidden = hide_blocks(6, 2, 0.5, torch.Generator().manual_seed(0))
    before = model.objectives[name].loss(step)[name]
    tokens = step.features["image.tokens"].clone()
    tokens[hidden] = F.normalize(torch.randn(int(hidden.sum()), tokens.shape[-1]), dim=-1)
    step.features["image.tokens"] = tokens
    step.generator.manual_seed(0)
    assert model.objectives[name].loss(step)[name] == before
    tokens[~hidden] = tokens[~hidden].flip(0)
    step.generator.manual_seed(0)
    assert model.objectives[name].loss(step)[name] != before


def test_mim_is_the_cross_entropy_of_the_hidden_cells_codes_and_reads_the_caption():
    model, step = mim_step("mim")
    objective = model.objectives["mim"]
    hidden = hide_blocks(6, 2, 0.5, torch.Generator().manual_seed(0))
    cells, codes = step.features["image.tokens"], step.batch.whole["visual.ids"]
    slow = []
    for i in range(6):
        shown = cells[i].clone()
        shown[hidden[i]] = objective.hidden
        words, mask = step.features["text.tokens"][i : i + 1], step.batch.whole["text.mask"]
        pair = torch.zeros(1, 2, dtype=torch.int64)
        states = model.fusion.hidden(words, mask[i : i + 1], shown[None], pair)[1][0]
        for n in range(model.cells):
            if hidden[i, n]:
                slow.append(-objective.head(states[n]).log_softmax(0)[codes[i, n]])
    loss = objective.loss(step)["mim"]
    torch.testing.assert_close(loss, torch.stack(slow).mean())
    step.features["text.tokens"] = step.features["text.tokens"].flip(0)
    step.generator.manual_seed(0)
    assert objective.loss(step)["mim"] != loss


def test_text_mlm_reads_no_image_and_moves_no_fusion():
    model = tiny("shared").eval()
    step = step_of(model, text_mlm={"share": 0.5})
    loss = model.objectives["text_mlm"].loss(step)["text_mlm"]
    loss.backward()
    moved = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert any("stack" in n for n in moved) and any(n.startswith("text.words") for n in moved)
    assert not any(n.startswith(("fusion.", "pooler.", "vision.patches")) for n in moved)
    del step.features["image.tokens"]
    step.generator.manual_seed(0)
    assert model.objectives["text_mlm"].loss(step)["text_mlm"] == loss


def test_visual_tokens_are_those_of_the_view_and_alike_where_cells_are(tmp_path, monkeypatch):
    trunk = tiny("aligned").vision
    monkeypatch.setattr(visual_tokens, "published_trunk", lambda size: trunk)
    samples = read_shards(str(write_drawings(tmp_path / "drawings-0000.tar")))
    tokens = VisualTokens(samples, 64, 2, 2, 6, tmp_path / "cache", bfloat16=False)
    assert tokens.codes.shape == (2, 8, 4)
    assert 2 <= len(tokens.codes.unique()) <= 6
    drawn = tokens.batch(np.array([1, 0]), np.array([3, 5]))
    assert torch.equal(drawn, torch.stack([tokens.codes[1, 3], tokens.codes[0, 5]]))
    doubled = VisualTokens([samples[0]] * 4, 64, 1, 2, 3, tmp_path / "other", bfloat16=False)
    assert (doubled.codes == doubled.codes[:, :1]).all()
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, :32, 0] = halves[:, 32:, 1] = 200
    out = io.BytesIO()
    Image.fromarray(halves).save(out, "PNG")
    two = [replace(samples[0], jpeg=out.getvalue())]
    (first, second) = VisualTokens(two, 64, 2, 2, 2, tmp_path / "two", bfloat16=False).codes[:, 0]
    assert first[0] == first[2] != first[1] == first[3]
    assert torch.equal(second, first[[1, 0, 3, 2]])  # of the mirror image


def test_objectives_that_disagree_about_the_number_of_codes_are_refused():
    mim = options(mim={"codes": 7})["mim"]
    assert Recipe(objectives={"mim": mim}).codes() == 7 and Recipe().codes() == 0
    with pytest.raises(ValueError, match=r"codes = \[7, 8\]; expected the same"):
        Recipe(objectives={"mim": mim, "other": options(mim={"codes": 8})["mim"]}).codes()
