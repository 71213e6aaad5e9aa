"""Regions that a head proposes: anchors, suppression of overlaps, and what the head learns from."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torchvision.ops import box_iou, nms

from support.drawings import write_drawings
from support.models import VIT, cut, masking_tokenizer, recipe_trainer, shrunk
from support.regions import SIZES
from tandem_training.bundle.encoders import BundleEncoders, TorchEncoders
from tandem_training.bundle.graphs import Graphs
from tandem_training.bundle.write import export_bundle
from tandem_training.loop.checkpoint import save
from tandem_training.models.model import Tandem
from tandem_training.models.registry import PARTS
from tandem_training.models.vision import region_tokens
from tandem_training.models.vision.proposals import LIMIT, anchors, best_apart
from tandem_training.models.vision.regions import roi_weights
from tandem_training.objectives.registry import OBJECTIVES
from tandem_training.recipe import Recipe


def recipe_over(shard: Path) -> Recipe:
    vision = replace(shrunk(PARTS["vision"]["proposals"].Config()), **SIZES)
    fusion = shrunk(PARTS["fusion"]["merged"].Config(geometry="7"))
    recipe = Recipe()
    recipe.model = replace(VIT, vision=vision, fusion=fusion, companion=True)
    recipe.objectives = {
        "itc": OBJECTIVES["itc"].Options(soft_mix=0.0),
        "itm": OBJECTIVES["itm"].Options(negatives=1),
        "proposals": OBJECTIVES["proposals"].Options(),
    }
    recipe = cut(recipe, shard)
    recipe.train = replace(recipe.train, precision="float32")
    recipe.check()
    return recipe


def test_proposals_are_those_of_greedy_suppression():
    boxes = anchors()
    overlaps = region_tokens.overlap(boxes)
    torch.testing.assert_close(overlaps, box_iou(boxes, boxes))
    scores = torch.randn(3, len(boxes), generator=torch.Generator().manual_seed(0))
    found = best_apart(scores, overlaps, 12)
    for row in range(3):
        expected = nms(boxes, scores[row], LIMIT)[:12]
        assert torch.equal(found[row], expected)


def test_each_image_has_boxes_of_its_own_and_the_whole_image_first():
    torch.manual_seed(0)
    recipe = recipe_over(Path("drawings.tar"))
    model = Tandem(recipe.model).eval()
    cells = torch.randn(2, model.vision.cells, 4, 4)
    boxes = model.vision.boxes(cells)
    assert boxes.shape == (2, 36, 4) and boxes[:, 0].tolist() == [[0, 0, 1, 1]] * 2
    assert not torch.equal(boxes[0], boxes[1])
    tokens = model.encode_activations(cells)[1]
    torch.testing.assert_close(region_tokens.boxes_of(tokens), boxes, atol=1e-5, rtol=0)
    grid = PARTS["vision"]["efficientnet"].tail(model.vision, cells)
    torch.testing.assert_close(
        model.vision.tail(cells), roi_weights(boxes, model.vision.side) @ grid
    )


def test_the_head_finds_where_the_named_thing_is(tmp_path: Path):
    """A word goes with cells of one kind, whose place differs from image to image."""
    torch.manual_seed(0)
    run = recipe_trainer(
        recipe_over(write_drawings(tmp_path / "drawings-0000.tar")), tmp_path / "run",
        masking_tokenizer(),
    )  # fmt: skip
    vision, objective = run.model.vision, run.model.objectives["proposals"]
    objective.table = torch.zeros(64, run.model.pooler.concepts.count, dtype=torch.bool)
    objective.table[:32, 0], objective.table[32:, 1] = True, True
    kind = torch.nn.functional.normalize(torch.randn(3, vision.cells), dim=-1) * 5
    cells = kind[2][None, :, None, None] + torch.randn(64, vision.cells, 8, 8)
    at = torch.randint(0, 7, (64, 2))
    for image, (y, x) in enumerate(at.tolist()):
        thing = kind[0 if image < 32 else 1][:, None, None]
        cells[image, :, y : y + 2, x : x + 2] = thing + torch.randn(vision.cells, 2, 2)

    def on_the_thing() -> float:
        """Mean overlap of the best of the first three proposals with it."""
        low = at.flip(1) / 8
        things = torch.cat([low, low + 0.25], 1)
        found = vision.boxes(cells)[:, 1:4]
        pairs = zip(found, things, strict=True)
        return float(np.mean([float(box_iou(own, it[None]).max()) for own, it in pairs]))

    before = on_the_thing()
    step = type("Step", (), {})()
    step.model = run.model
    step.batch = type("Batch", (), {})()
    step.batch.inputs = {"image.activations": cells}
    step.batch.whole = {"image.ids": torch.arange(64)}
    parameters = [*vision.objectness.parameters(), *objective.classify.parameters()]
    optimiser = torch.optim.Adam(parameters, 3e-2)
    for _ in range(60):
        optimiser.zero_grad()
        objective.loss(step)["proposals"].backward()
        optimiser.step()
    assert on_the_thing() > max(0.5, before + 0.2)


def test_a_bundle_proposes_the_regions_of_pytorch(tmp_path: Path):
    recipe = recipe_over(write_drawings(tmp_path / "drawings-0000.tar"))
    tokenizer = masking_tokenizer()
    run = recipe_trainer(recipe, tmp_path / "run", tokenizer)
    before = run.model.vision.objectness.weight.clone()
    run.train_step()
    assert not torch.equal(run.model.vision.objectness.weight, before)
    save(tmp_path / "model.pt", run.average.checkpoint())
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    files = (tmp_path / name for name in ("model.pt", "tiny", "tokenizer.json"))
    export_bundle(*files, "", "1.0.0")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    sides = (BundleEncoders(tmp_path / "tiny"),
             TorchEncoders(Graphs.of(run.average), tokenizer, bfloat16=False))  # fmt: skip
    (served, tokens), (trained, own) = (side.images(pixels) for side in sides)
    np.testing.assert_allclose(served, trained, atol=0.02)
    assert np.abs(tokens.astype(int) - own.astype(int)).max() <= 1
    assert "saw no box" in (tmp_path / "tiny" / "README.md").read_text()
    assert asdict(recipe.model.vision)["split"] > 0
