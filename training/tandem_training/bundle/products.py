"""Matrix products of tokens and weights in int8, with a scale for each row of tokens and for each
column of weights ("vector-wise" in Dettmers et al. 2022, arXiv:2208.07339).

So an embedding does not depend on the rest of its batch. Some channels of activations are far wider
than the others and would take their precision. Half of that width, in logarithms, is moved into the
weights, which are even (SmoothQuant, Xiao et al. 2022, arXiv:2211.10438)."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import (
    GraphProto,
    NodeProto,
    TensorProto,
    helper,
    inliner,
    numpy_helper,
    parser,
    shape_inference,
)

# To either side of zero. Processors without VNNI add two products of a row and a column in 16 bits:
# 2 · 255 · 63 fits, while 127 steps overflowed (cosine of embeddings with the exact ones .993).
WEIGHT_STEPS = 63
LEAST_SHARE = 0.1  # of the mean width; a channel that is zero in the feeds may not be elsewhere
TINY = 1e-12
# x [..., k] divided by `ease` [k], times weights int8 [k, n] with a scale [n] for each column
# → [..., n]
PRODUCT = parser.parse_function("""
<domain: "tandem", opset_import: ["": 17, "com.microsoft": 1]>
product (x, ease, weight, column_scale) => (y) {
    any = Constant <value_ints: ints = [-1]> ()
    depth = Shape <start: int = 0, end: int = 1> (weight)
    flat = Concat <axis: int = 0> (any, depth)
    uneven = Reshape (x, flat)
    rows = Div (uneven, ease)
    most = ReduceMax <axes: ints = [-1]> (rows)
    least = ReduceMin <axes: ints = [-1]> (rows)
    below = Neg (least)
    tiny = Constant <value_float: float = 1e-12> ()
    range = Max (most, below, tiny)
    steps = Constant <value_float: float = 127.0> ()
    row_scale = Div (range, steps)
    scales = Reshape (row_scale, any)
    zero = Constant <value: tensor = uint8 {128}> ()
    count = Shape (scales)
    zeros = Expand (zero, count)
    quantised = QuantizeLinear <axis: int = 0> (rows, scales, zeros)
    one = Constant <value_float: float = 1.0> ()
    whole = com.microsoft.MatMulIntegerToFloat (quantised, weight, one, column_scale, zero)
    scaled = Mul (whole, row_scale)
    lead = Shape <start: int = 0, end: int = -1> (x)
    width = Shape <start: int = 1> (weight)
    shape = Concat <axis: int = 0> (lead, width)
    y = Reshape (scaled, shape)
}
""")


def products_to_int8(path: Path, feeds: Iterable[dict[str, np.ndarray]]) -> None:
    """Rewrite the graph at `path`. The widths of its activations come from the inputs `feeds`."""
    model = shape_inference.infer_shapes(onnx.load(path))
    graph = model.graph
    nodes = token_products(graph)
    if not nodes:
        return
    weights = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    widths = channel_widths(path, {node.input[0] for node in nodes}, feeds)
    for node in nodes:
        x, weight = node.input[0], weights[node.input[1]]
        ease = np.sqrt(at_least(widths[x]) / at_least(np.abs(weight).max(1)))
        weight = weight * ease[:, None]
        scale = np.maximum(np.abs(weight).max(0), TINY) / WEIGHT_STEPS
        stored = {
            "ease": ease.astype(np.float32),
            "int8": np.round(weight / scale).astype(np.int8),
            "scale": scale.astype(np.float32),
        }
        names = [f"{node.output[0]}.{name}" for name in stored]
        graph.initializer.extend(map(numpy_helper.from_array, stored.values(), names))
        inputs = [x, *names]
        node.CopyFrom(
            helper.make_node(PRODUCT.name, inputs, node.output, node.name, domain=PRODUCT.domain)
        )
    read = {name for node in graph.node for name in node.input}
    used = [t for t in graph.initializer if t.name in read]
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(used)
    model.functions.append(PRODUCT)
    imported = {entry.domain for entry in model.opset_import}
    needed = {"com.microsoft", PRODUCT.domain} - imported
    model.opset_import.extend(helper.make_opsetid(domain, 1) for domain in sorted(needed))
    inlined = inliner.inline_local_functions(model)
    remaining = [entry for entry in inlined.opset_import if entry.domain != PRODUCT.domain]
    del inlined.opset_import[:]
    inlined.opset_import.extend(remaining)
    onnx.save(inlined, path)


def at_least(widths: np.ndarray) -> np.ndarray:
    """Widths [k], none below LEAST_SHARE of their mean."""
    return np.maximum(widths, LEAST_SHARE * widths.mean() + TINY)


def token_products(graph: GraphProto) -> list[NodeProto]:
    """Products of tokens [b, t, k] and float32 weights [k, n].

    Products of pooled rows [b, k] stay exact: they are little work and much of the loss."""
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info)
    }
    weights = {
        t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) == 2
    }
    products = [
        node for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights
    ]
    return [node for node in products if ranks.get(node.input[0], 0) > 2]


def channel_widths(
    path: Path, names: set[str], feeds: Iterable[dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The largest magnitude of each channel [k] of the activations `names` [..., k]."""
    model = onnx.load(path)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    widths: dict[str, np.ndarray] = {}
    for feed in feeds:
        for name, found in zip(names, session.run(list(names), feed), strict=True):
            most = np.abs(found).reshape(-1, found.shape[-1]).max(0)
            widths[name] = np.maximum(widths.get(name, most), most)
    return widths
