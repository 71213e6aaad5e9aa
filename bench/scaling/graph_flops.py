"""Counts the multiplications and additions of an image encoder's graph for one image.

    training/.venv/bin/python bench/scaling/graph_flops.py IMAGE-ENCODER.onnx

Needs onnx, onnxruntime and numpy. Prints one number, in billions.
"""

import math
import sys

import numpy
import onnx
import onnxruntime

CONVOLUTION, PRODUCTS = "Conv", {"MatMul", "Gemm"}


def flops_of(path: str) -> int:
    """Twice the multiply-adds in the convolutions and matrix products of the graph at `path`, for a
    batch of one."""
    model = onnx.load(path)
    counted = [
        node for node in model.graph.node if node.op_type == CONVOLUTION or node.op_type in PRODUCTS
    ]
    # The graph computes padding and so sizes, so a run is needed: counted tensors become outputs.
    names = {name for node in counted for name in [*node.input[:2], node.output[0]]}
    constant = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    added = sorted(names - constant.keys() - {value.name for value in model.graph.output})
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in added)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (pixels,) = session.get_inputs()
    batch = numpy.zeros(
        [size if isinstance(size, int) else 1 for size in pixels.shape], numpy.uint8
    )
    outputs = [output.name for output in session.get_outputs()]
    shapes = constant | {
        name: list(value.shape)
        for name, value in zip(outputs, session.run(outputs, {pixels.name: batch}), strict=True)
    }
    return sum(2 * math.prod(shapes[node.output[0]]) * summands(node, shapes) for node in counted)


def summands(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    """Number of products summed in each value of the node's output."""
    left, right = shapes[node.input[0]], shapes[node.input[1]]
    if node.op_type == CONVOLUTION:
        return math.prod(right[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return left[0 if transposed else -1]


if __name__ == "__main__":
    print(round(flops_of(sys.argv[1]) / 1e9, 3))
