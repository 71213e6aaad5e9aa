"""Padding folded into convolutions: nothing changes but the nodes."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from tandem_training.bundle.padding import fold_padding
from tandem_training.models.vision.efficientnet import Conv


def kinds(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def run(path, x):
    return onnxruntime.InferenceSession(path).run(None, {"x": x})[0]


def pads(path):
    found = [node for node in onnx.load(path).graph.node if node.op_type == "Conv"]
    return [
        list(helper.get_attribute_value(a))
        for node in found
        for a in node.attribute
        if a.name == "pads"
    ]


@pytest.mark.parametrize(
    ("kernel", "stride", "groups"), [(3, 1, 4), (3, 2, 4), (5, 2, 4), (5, 1, 1), (3, 2, 1)]
)
def test_the_pads_that_the_exporter_writes_for_our_convolutions_are_folded(
    tmp_path, kernel, stride, groups
):
    torch.manual_seed(0)
    path, x = tmp_path / "conv.onnx", torch.randn(2, 4, 12, 12)
    conv = Conv(4, 4, kernel, stride, groups, size=12).eval()
    axes = {"x": {0: "b"}, "y": {0: "b"}}
    torch.onnx.export(
        conv, (x,), path, input_names=["x"], output_names=["y"], dynamic_axes=axes, dynamo=False
    )
    assert "Pad" in kinds(path)
    before = run(path, x.numpy())
    fold_padding(path)
    assert kinds(path) == ["Conv"]
    top, left, bottom, right = pads(path)[0]
    assert (top, left, bottom, right) == (conv.pad[2], conv.pad[0], conv.pad[3], conv.pad[1])
    np.testing.assert_array_equal(run(path, x.numpy()), before)
    with torch.no_grad():
        np.testing.assert_allclose(before, conv(x).numpy(), atol=1e-5)


def graph(path, nodes, tensors, outputs=("y",)):
    """A graph of x [1, 2, 6, 6] with a kernel `w` [2, 2, 3, 3]."""
    read = {name for node in nodes for name in node.input}
    kernel = (
        {"w": np.random.default_rng(0).standard_normal((2, 2, 3, 3)).astype(np.float32)}
        if "w" in read
        else {}
    )
    tensors = {**kernel, **tensors}
    made = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 6, 6])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    onnx.save(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path
    )


X = np.random.default_rng(1).standard_normal((1, 2, 6, 6)).astype(np.float32)
AROUND = np.array([0, 0, 1, 0, 0, 0, 2, 1])


def test_folded_padding_adds_to_the_padding_of_the_convolution(tmp_path):
    path = tmp_path / "graph.onnx"
    nodes = [
        helper.make_node("Pad", ["x", "around"], ["p"]),
        helper.make_node("Conv", ["p", "w"], ["y"], pads=[1, 1, 0, 2]),
    ]
    graph(path, nodes, {"around": AROUND})
    before = run(path, X)
    fold_padding(path)
    assert kinds(path) == ["Conv"] and pads(path) == [[2, 1, 2, 3]]
    np.testing.assert_allclose(run(path, X), before, atol=1e-6)


def test_every_convolution_that_reads_a_pad_takes_over_the_padding(tmp_path):
    path = tmp_path / "graph.onnx"
    nodes = [
        helper.make_node("Pad", ["x", "around", "nothing"], ["p"]),
        helper.make_node("Conv", ["p", "w"], ["a"]),
        helper.make_node("Conv", ["p", "w"], ["b"], strides=[1, 1]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    graph(path, nodes, {"around": AROUND, "nothing": np.zeros((), np.float32)})
    before = run(path, X)
    fold_padding(path)
    assert kinds(path) == ["Conv", "Conv", "Add"]
    np.testing.assert_allclose(run(path, X), before, atol=1e-6)


CONV = helper.make_node("Conv", ["p", "w"], ["y"])
ONE = np.ones((), np.float32)
KEPT = {
    "another value": (
        [helper.make_node("Pad", ["x", "around", "one"], ["p"]), CONV],
        {"around": AROUND, "one": ONE},
    ),
    "a mirror": (
        [helper.make_node("Pad", ["x", "around"], ["p"], mode="reflect"), CONV],
        {"around": AROUND},
    ),
    "fewer elements": (
        [helper.make_node("Pad", ["x", "around"], ["p"]), CONV],
        {"around": np.array([0, 0, -1, 0, 0, 0, 1, 1])},
    ),
    "more channels": (
        [
            helper.make_node("Pad", ["x", "around"], ["p"]),
            helper.make_node("Conv", ["p", "v"], ["y"]),
        ],
        {"around": np.array([0, 1, 1, 1, 0, 0, 1, 1]), "v": np.ones((2, 3, 3, 3), np.float32)},
    ),
    "an automatic size": (
        [
            helper.make_node("Pad", ["x", "around"], ["p"]),
            helper.make_node("Conv", ["p", "w"], ["y"], auto_pad="SAME_UPPER"),
        ],
        {"around": AROUND},
    ),
    "another reader": (
        [helper.make_node("Pad", ["x", "around"], ["p"]), helper.make_node("Relu", ["p"], ["y"])],
        {"around": AROUND},
    ),
    "a value from the input": (
        [
            helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
            helper.make_node("Pad", ["x", "around", "most"], ["p"]),
            CONV,
        ],
        {"around": AROUND},
    ),
    "axes by name": (
        [helper.make_node("Pad", ["x", "around", "", "axes"], ["p"]), CONV],
        {"around": np.array([1, 1, 1, 1]), "axes": np.array([2, 3])},
    ),
    "a size from the input": (
        [
            helper.make_node("Shape", ["x"], ["s"]),
            helper.make_node("Sub", ["s", "s"], ["none"]),
            helper.make_node("Concat", ["none", "none"], ["around"], axis=0),
            helper.make_node("Pad", ["x", "around"], ["p"]),
            CONV,
        ],
        {},
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_padding_of_another_kind_is_not_folded(tmp_path, case):
    path = tmp_path / "graph.onnx"
    nodes, tensors = KEPT[case]
    graph(path, nodes, tensors)
    before = run(path, X)
    fold_padding(path)
    assert kinds(path) == [node.op_type for node in nodes]
    np.testing.assert_array_equal(run(path, X), before)


def test_a_pad_that_is_an_output_is_not_folded(tmp_path):
    path = tmp_path / "graph.onnx"
    graph(
        path,
        [helper.make_node("Pad", ["x", "around"], ["p"]), CONV],
        {"around": AROUND},
        outputs=("y", "p"),
    )
    fold_padding(path)
    assert kinds(path) == ["Pad", "Conv"]


def test_an_exported_block_has_no_pad_node_left(tmp_path):

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Conv(2, 4, 1), Conv(4, 4, 3, 2, 4, size=6)

        def forward(self, x):
            return self.second(F.relu6(self.first(x)))

    path = tmp_path / "two.onnx"
    torch.onnx.export(
        Two().eval(),
        (torch.from_numpy(X),),
        path,
        input_names=["x"],
        output_names=["y"],
        dynamo=False,
    )
    before = run(path, X)
    fold_padding(path)
    assert "Pad" not in kinds(path)
    np.testing.assert_array_equal(run(path, X), before)
