"""A detector of the user's own: its regions are cached for training, and its graph is part of the
bundle's image graph."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.drawings import write_drawings
from support.models import VIT, cut, masking_tokenizer, recipe_trainer, shrunk
from tandem_training.bundle.bundle import read_manifest
from tandem_training.bundle.encoders import BundleEncoders, TorchEncoders
from tandem_training.bundle.graphs import Graphs
from tandem_training.bundle.write import export_bundle
from tandem_training.loop.checkpoint import save
from tandem_training.models.model import Tandem
from tandem_training.models.registry import PARTS
from tandem_training.models.vision import region_tokens
from tandem_training.objectives.registry import OBJECTIVES
from tandem_training.recipe import Recipe

SIZE, REGIONS, WIDTH = 64, 4, 10


class Quarters(nn.Module):
    """A detector that finds the quarters of an image, the brightest first."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, WIDTH)
        self.register_buffer("tiles", torch.tensor(
            [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]]))  # fmt: skip

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        mean = F.avg_pool2d(pixels.permute(0, 3, 1, 2).float() / 255, SIZE // 2)
        mean = mean.flatten(2).transpose(1, 2)  # [b, 4, 3]
        order = mean.sum(-1).topk(REGIONS, 1).indices
        rows = order[..., None].expand(-1, -1, 3)
        return self.tiles[order], self.layer(mean.gather(1, rows)).relu()


def write_detector(path: Path, opset: int = 17) -> Path:
    torch.manual_seed(0)
    torch.onnx.export(
        Quarters().eval(), (torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8),), path,
        input_names=["pixels"], output_names=["boxes", "features"], opset_version=opset,
        dynamic_axes={name: {0: "b"} for name in ("pixels", "boxes", "features")}, dynamo=False,
    )  # fmt: skip
    model = onnx.load(path)
    for value, width in zip(model.graph.output, (4, WIDTH), strict=True):
        for dim, size in zip(value.type.tensor_type.shape.dim[1:], (REGIONS, width), strict=True):
            dim.dim_value = size
    onnx.save(model, path)
    return path


def recipe_over(detector: Path, shard: Path) -> Recipe:
    vision = PARTS["vision"]["detector"].Config(
        file=str(detector), title="Quarters", license="CC0-1.0", image_size=SIZE, token_width=24,
        concepts=4, pool_dropout=0.0,
    )  # fmt: skip
    fusion = shrunk(PARTS["fusion"]["merged"].Config(geometry="7", tags=2))
    recipe = Recipe()
    recipe.model = replace(VIT, vision=vision, fusion=fusion, companion=True)
    recipe.objectives = {
        name: OBJECTIVES[name].Options(**given)
        for name, given in {"itc": {"soft_mix": 0.0}, "itm": {"negatives": 1}, "mrfr": {},
                            "concepts": {}}.items()
    }  # fmt: skip
    recipe = cut(recipe, shard)
    recipe.train = replace(recipe.train, freeze=["vision.*", "pooler.tokens.*"])
    recipe.check()
    return recipe


@pytest.mark.parametrize("opset", [13, 17])
def test_a_bundle_has_the_detector_inside_its_image_graph(opset: int, tmp_path: Path):
    detector = write_detector(tmp_path / "quarters.onnx", opset)
    shard = write_drawings(tmp_path / "drawings-0000.tar")
    tokenizer, recipe = masking_tokenizer(), recipe_over(detector, shard)
    run = recipe_trainer(recipe, tmp_path / "run", tokenizer)
    before = run.model.fusion.image_in.features.weight.clone()
    run.train_step()
    assert not torch.equal(run.model.fusion.image_in.features.weight, before)

    save(tmp_path / "model.pt", run.average.checkpoint())
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    export_bundle(
        tmp_path / "model.pt", tmp_path / "tiny", tmp_path / "tokenizer.json", "", "1.0.0"
    )
    bundle = BundleEncoders(tmp_path / "tiny")
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    texts, pairs = ["a red square", "one bar"], np.array([[0, 0], [1, 2], [0, 1]])
    outputs = []
    for side in (bundle, TorchEncoders(Graphs.of(run.average), tokenizer, bfloat16=False)):
        embedding, tokens = side.images(pixels)
        text, words = side.texts(texts)
        outputs.append((embedding, text, side.logits(words, tokens, pairs)))
    for served, trained in zip(*outputs, strict=True):
        np.testing.assert_allclose(served, trained, atol=0.02)
    tokens = run.average.eval().encode_images(torch.from_numpy(pixels))[1]
    boxes = Quarters()(torch.from_numpy(pixels))[0]
    torch.testing.assert_close(region_tokens.boxes_of(tokens), boxes, atol=1e-5, rtol=0)

    about = read_manifest(tmp_path / "tiny")["detector"]
    assert about == {"name": "Quarters", "license": "CC0-1.0", "sha256": run.model.vision.sha256}
    card = (tmp_path / "tiny" / "README.md").read_text()
    assert all(value in card for value in about.values()) and "36 fixed windows" not in card


def test_a_checkpoint_is_not_joined_with_another_detector(tmp_path: Path):
    detector = write_detector(tmp_path / "quarters.onnx")
    recipe = recipe_over(detector, write_drawings(tmp_path / "drawings-0000.tar"))
    checkpoint = Tandem(recipe.model).checkpoint()
    model = onnx.load(detector)
    model.producer_name = "another"
    onnx.save(model, detector)
    with pytest.raises(ValueError, match="the checkpoint was trained on the regions of a detector"):
        Tandem.from_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": "none.onnx"}, r"file = 'none.onnx'; expected the ONNX file of a detector"),
        ({"license": ""}, "title and license of the detector are missing"),
        ({"image_size": 96}, "image_size is 96; expected an input 'pixels'"),
    ],
)
def test_a_detector_that_does_not_fit_is_refused_in_a_sentence(
    changes: dict, message: str, tmp_path: Path
):
    detector = write_detector(tmp_path / "quarters.onnx")
    config = recipe_over(detector, write_drawings(tmp_path / "d.tar")).model.vision
    keys = {k: v for k, v in asdict(config).items() if k != "kind"} | changes
    with pytest.raises(ValueError, match=message):
        PARTS["vision"]["detector"](type(config)(**keys))


def test_a_file_that_is_no_graph_is_refused_in_a_sentence(tmp_path: Path):
    file = tmp_path / "broken.onnx"
    file.write_text(json.dumps({"not": "a graph"}))
    config = PARTS["vision"]["detector"].Config(file=str(file), title="X", license="Y")
    with pytest.raises(ValueError, match="broken.onnx"):
        PARTS["vision"]["detector"](config)
