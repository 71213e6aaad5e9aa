"""Counts the multiplications and additions of an image encoder's graph for one image, by running it
once.

Usage: python graph_flops.py IMAGE-ENCODER.onnx  (needs the packages onnx, onnxruntime and numpy;
those of training/ do). Prints one number, in billions.
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
    # Sizes follow from padding that the graph computes, so only a run tells them: what is counted
    # becomes an output.
    names = {name for node in counted for name in [*node.input[:2], node.output[0]]}
    constant = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    asked = sorted(names - constant.keys() - {value.name for value in model.graph.output})
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in asked)
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
        for name, value in zip(outputs, session.run(outputs, {pixels.name: batch}))
    }
    return sum(2 * math.prod(shapes[node.output[0]]) * summands(node, shapes) for node in counted)


def summands(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    """How many products each value of a node's output is the sum of."""
    left, right = shapes[node.input[0]], shapes[node.input[1]]
    if node.op_type == CONVOLUTION:
        return math.prod(right[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return left[0 if transposed else -1]


if __name__ == "__main__":
    print(round(flops_of(sys.argv[1]) / 1e9, 3))
