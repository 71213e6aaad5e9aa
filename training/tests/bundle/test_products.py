"""Matrix products in int8 against those in float32."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tandem_training.bundle.products import WEIGHT_STEPS, products_to_int8

WIDTH, COLUMNS = 96, 40
RNG = np.random.default_rng(5)
WEIGHT = RNG.normal(size=(WIDTH, COLUMNS)).astype(np.float32)


def write(path: Path, dims: list) -> Path:
    """The graph x [*dims] → x · WEIGHT."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [*dims[:-1], COLUMNS])
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["y"], name="product")]
    graph = helper.make_graph(
        nodes, "tokens", [x], [y], [numpy_helper.from_array(WEIGHT, "weight")]
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


def tokens(*lead: int) -> np.ndarray:
    """Rows of which two channels are far wider than the others, as behind a layer normalisation."""
    x = RNG.normal(size=(*lead, WIDTH)).astype(np.float32)
    x[..., [3, 70]] *= 40
    return x


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = write(tmp_path / "text-encoder.onnx", ["texts", "length", WIDTH])
    products_to_int8(path, [{"x": tokens(1, 7)} for _ in range(20)])
    return path


def run(path: Path, x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(path).run(None, {"x": x})[0]


def loss(found: np.ndarray, x: np.ndarray) -> float:
    expected = x @ WEIGHT
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_int8_products_of_tokens_are_close_to_float32_for_every_shape(path: Path):
    for lead in ((1, 1), (3, 7), (8, 64)):
        x = tokens(*lead)
        found = run(path, x)
        assert found.shape == (*lead, COLUMNS)
        assert loss(found, x) < 0.03


def test_wide_channels_do_not_cost_the_others_precision(path: Path, tmp_path: Path):
    """Without a look at activations every channel counts as equally wide."""
    blind = write(tmp_path / "blind.onnx", ["texts", "length", WIDTH])
    products_to_int8(blind, [{"x": np.ones((1, 1, WIDTH), np.float32)}])
    x = tokens(4, 16)
    quiet = x.copy()
    quiet[..., [3, 70]] = 0  # what the wide channels do not hide
    wide = x - quiet
    exact = x @ WEIGHT
    assert np.abs(run(path, x) - exact).mean() < 0.6 * np.abs(run(blind, x) - exact).mean()
    assert loss(run(path, wide), wide) < 0.02


def test_a_row_does_not_depend_on_the_rest_of_its_batch(path: Path):
    x = tokens(4, 16)
    alone = run(path, x[:1])
    x[1:] *= 1000
    np.testing.assert_array_equal(run(path, x)[:1], alone)


def test_a_channel_that_is_zero_in_the_feeds_is_kept(tmp_path: Path):
    path = write(tmp_path / "text-encoder.onnx", ["texts", "length", WIDTH])
    silent = tokens(1, 7)
    silent[..., :20] = 0
    products_to_int8(path, [{"x": silent}])
    x = RNG.normal(size=(2, 7, WIDTH)).astype(np.float32)
    assert loss(run(path, x), x) < 0.1


def test_rows_of_zeros_give_zeros(path: Path):
    assert not run(path, np.zeros((2, 3, WIDTH), np.float32)).any()


def test_the_sum_of_two_products_fits_sixteen_bits(path: Path):
    """Processors without VNNI add them there, and cut what does not fit."""
    (weight,) = (t for t in onnx.load(path).graph.initializer if t.data_type == TensorProto.INT8)
    assert np.abs(numpy_helper.to_array(weight).astype(int)).max() == WEIGHT_STEPS
    assert 2 * 255 * WEIGHT_STEPS < 2**15


def test_products_of_pooled_texts_stay_exact(tmp_path: Path):
    path = write(tmp_path / "text-encoder.onnx", ["texts", WIDTH])
    before = path.read_bytes()
    products_to_int8(path, [])
    assert path.read_bytes() == before


@pytest.mark.parametrize("imported", [[], ["com.microsoft"]])
def test_a_graph_imports_each_used_operator_set_once_and_no_other(
    imported: list[str], tmp_path: Path
):
    path = write(tmp_path / "text-encoder.onnx", ["texts", "length", WIDTH])
    model = onnx.load(path)
    model.opset_import.extend(helper.make_opsetid(domain, 1) for domain in imported)
    onnx.save(model, path)
    products_to_int8(path, [{"x": tokens(1, 7)}])
    assert sorted(one.domain for one in onnx.load(path).opset_import) == ["", "com.microsoft"]
