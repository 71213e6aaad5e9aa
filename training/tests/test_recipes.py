"""The conformance suite: every recipe, its choices kept and its sizes cut, over eight drawings."""

import fnmatch
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from support.drawings import write_drawings
from support.models import BUNDLED, FILES, NAMES, masking_tokenizer, recipe_trainer, small
from support.processes import losses, losses_of_two, still
from tandem_training.bundle.encoders import BundleEncoders, TorchEncoders
from tandem_training.bundle.graphs import Graphs
from tandem_training.bundle.write import export_bundle
from tandem_training.data.samples import read_shards
from tandem_training.evaluation.retrieval import evaluate
from tandem_training.loop.backward import backward
from tandem_training.loop.checkpoint import save
from tandem_training.loop.trainer import Trainer
from tandem_training.models.model import Tandem
from tandem_training.objectives.registry import OBJECTIVES
from tandem_training.recipe import Recipe, read_recipe

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.parametrize("name", NAMES + BUNDLED),
]


@pytest.fixture
def recipe(name: str, tmp_path: Path) -> Recipe:
    shard = write_drawings(tmp_path / "drawings-0000.tar", languages=("zh", "de"))
    return small(name, shard)


def run_of(recipe: Recipe, out: Path) -> Trainer:
    return recipe_trainer(recipe, out, masking_tokenizer())


def test_a_recipe_builds_as_shipped_and_its_image_tokens_fit_the_store(name: str):
    model = read_recipe(FILES[name]).model
    with torch.device("meta"):
        cells = Tandem(model).cells
    assert cells * model.vision.token_width < 16 * 1024


def test_a_step_lowers_the_loss_on_eight_pairs(recipe: Recipe, tmp_path: Path):
    recipe = still(recipe)
    recipe.train = replace(recipe.train, warmup=0.0, one_of=False)
    run = run_of(recipe, tmp_path / "run")
    batch = run.batch(1)
    # What a companion learns from passes the encoders no gradient.
    objectives = run.model.objectives.items()
    beside = [name for name, o in objectives if o.aligns and recipe.model.companion]

    def loss() -> float:
        with torch.no_grad():
            values = run._losses(1, batch, run._encode(batch.inputs))
        return float(values["loss"]) - sum(float(values[name]) for name in beside)

    before = loss()
    codes = {name: value.clone() for name, value in run.model.fusion.named_buffers()}
    backward(run._encode, partial(run._losses, 1, batch), batch.inputs)
    for name, value in codes.items():  # and of the same codes
        run.model.fusion.get_buffer(name).copy_(value)
    queues = [o.queue for o in run.model.objectives.values() if getattr(o, "queue", None)]
    for queue in queues:  # the loss before and after is of the same negatives
        queue.ids.fill_(-1)
    for group in run.optimiser.groups():  # so few numbers turn far at the recipe's rate
        group["peak"] *= 0.02
    run.optimiser.step(0.0)
    assert loss() < before


def test_what_trains_gets_a_gradient_and_what_is_frozen_gets_none(recipe: Recipe, tmp_path: Path):
    recipe.train = replace(recipe.train, one_of=False)
    run = run_of(recipe, tmp_path / "run")
    run.model.train()
    for number in (1, 2, 3):  # a batch may hide none of so few words
        batch = run.batch(number)
        backward(run._encode, partial(run._losses, number, batch), batch.inputs)
    reached = {n for n, p in run.model.named_parameters() if p.grad is not None and p.grad.any()}
    frozen = recipe.train.freeze
    assert not {n for n in reached if any(fnmatch.fnmatch(n, pattern) for pattern in frozen)}
    trunk = {id(p) for p in run.model.vision.trunk_parameters()}
    assert all(p.grad is None for p in run.model.parameters() if id(p) in trunk)
    trains = {n.split(".")[0] for n, p in run.model.named_parameters() if p.requires_grad}
    taught = set().union(*(OBJECTIVES[o].teaches for o in recipe.objectives)) & trains
    heads = {f"objectives.{n}" for n, o in run.model.objectives.items() if list(o.parameters())}
    for part in taught | heads | {f"inputs.{n}" for n in recipe.inputs}:
        assert any(n.startswith(f"{part}.") for n in reached), part
    if {"itm", "rank", "mlm", "lm"} & recipe.objectives.keys():
        assert any(n.startswith(("fusion.", "vision.stack.")) for n in reached)


def test_a_resumed_run_has_the_losses_of_an_unbroken_one(recipe: Recipe, tmp_path: Path):
    whole = run_of(recipe, tmp_path / "whole")
    curve = [whole.train_step() for _ in range(4)]
    drawn = 1 if recipe.train.one_of else len(recipe.objectives)
    assert set(curve[0]) <= {*recipe.objectives, "loss"} and len(curve[0]) == drawn + 1
    broken = run_of(recipe, tmp_path / "broken")
    first = [broken.train_step() for _ in range(2)]
    broken.save_state()
    resumed = run_of(recipe, tmp_path / "broken")
    assert first + [resumed.train_step() for _ in range(2)] == curve


@pytest.fixture(scope="module")
def by_two(request, tmp_path_factory) -> dict[str, list[dict]]:
    """The losses of the chosen recipes by two processes, which are started once for all."""
    folder = tmp_path_factory.mktemp("two")
    shard = write_drawings(folder / "drawings-0000.tar", languages=("zh", "de"))
    chosen = [i for i in request.session.items if "by_two" in getattr(i, "fixturenames", ())]
    return losses_of_two([item.callspec.params["name"] for item in chosen], shard, folder)


@pytest.mark.xdist_group("the pair of processes")
def test_two_processes_train_as_one(name: str, by_two: dict, tmp_path: Path):
    shard = write_drawings(tmp_path / "drawings-0000.tar", languages=("zh", "de"))
    for one, two in zip(losses(name, shard, tmp_path), by_two[name], strict=True):
        assert two == pytest.approx(one, rel=1e-4)


def test_the_gradient_is_the_same_in_chunks(recipe: Recipe, tmp_path: Path):
    recipe.train = replace(recipe.train, precision="float32")
    gradients = []
    for chunk in (0, 3):
        run = run_of(recipe, tmp_path / "run")
        run.model.eval()
        batch = run.batch(0)
        backward(run._encode, partial(run._losses, 1, batch), batch.inputs, chunk)
        gradients.append(
            {name: p.grad for name, p in run.model.named_parameters() if p.grad is not None}
        )
    whole, chunked = gradients
    assert whole.keys() == chunked.keys()
    for key, gradient in whole.items():
        torch.testing.assert_close(chunked[key], gradient, rtol=1e-3, atol=1e-5)


def test_the_bundle_gives_the_numbers_of_pytorch_and_ranks(
    name: str, recipe: Recipe, tmp_path: Path
):
    run, tokenizer = run_of(recipe, tmp_path / "run"), masking_tokenizer()
    for _ in range(2):
        run.train_step()
    report = run.evaluate("en", 4)
    assert report["photos"] == 8 and report["captions"] == 16
    save(tmp_path / "model.pt", run.average.checkpoint())
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    manifest = export_bundle(
        tmp_path / "model.pt", tmp_path / name, tmp_path / "tokenizer.json", "", "1.0.0"
    )
    assert manifest["rerank"]["default"] == (recipe.model.fusion.kind != "none")
    card = (tmp_path / name / "README.md").read_text()
    kind = recipe.model.vision.kind
    assert ("EfficientNet-Lite2" in card) == (kind in ("efficientnet", "regions"))
    assert ("36 fixed windows" in card) == (kind == "regions")
    assert ("MiniLM" in card) == (recipe.model.text.kind == "bert")

    bundle = BundleEncoders(tmp_path / name)
    model = TorchEncoders(Graphs.of(run.average), tokenizer, bfloat16=False)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    texts, pairs = ["a red square", "one bar that is blue"], np.array([[0, 0], [1, 2], [0, 1]])
    (image, cells), (expected, expected_cells) = (e.images(pixels) for e in (bundle, model))
    np.testing.assert_allclose(image, expected, atol=1e-3)
    assert not cells.size or np.abs(cells.astype(int) - expected_cells).max() <= 1  # where rounded
    (text, words), (expected, _) = (encoders.texts(texts) for encoders in (bundle, model))
    np.testing.assert_allclose(text, expected, atol=1e-3)
    logits, expected = (encoders.logits(words, cells, pairs) for encoders in (bundle, model))
    np.testing.assert_allclose(logits, expected, atol=0.02)
    samples = read_shards(recipe.data.dev)
    assert evaluate(bundle, samples, manifest["match"], (4,))["captions"] == 16
