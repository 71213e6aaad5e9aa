"""Graphs that compute in int8 (Jacob et al. 2017, arXiv:1712.05877), and word tables of int8 rows.

Each graph uses the way that lost least recall on Flickr8k dev. Convolutions get the ranges of their
activations from training images (static). Matrix products of the encoders take the range of each
row (`products`): static ranges lost two points of R@1, and with the range of a whole tensor
(dynamic) the embedding of a text depends on the rest of its batch. In the fusion encoder that is a
hundredth of a logit, and dynamic products are a third faster than those by rows."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from tokenizers import Tokenizer

from ..data.pixel_rules import PixelRules
from ..data.samples import Sample
from .products import products_to_int8

IMAGES_AT_ONCE = 4
# The first convolutions stay float32: few channels of wide range, the source of most of the loss.
EXACT_CONVOLUTIONS = 16
LEAST_ROWS = 256  # of a lookup table in int8
HUB_BANK = "term.bank"  # of `hubs`: unit vectors, of whose products a soft maximum is taken


def feeds_of(
    samples: list[Sample], rules: PixelRules, tokenizer: Tokenizer
) -> dict[str, list[dict[str, np.ndarray]]]:
    """Inputs of the encoders by stem of their file: IMAGES_AT_ONCE images, and each caption."""
    batches = (samples[i : i + IMAGES_AT_ONCE] for i in range(0, len(samples), IMAGES_AT_ONCE))
    pixels = [
        {"pixels": np.stack([rules.pixels(sample.jpeg) for sample in batch])} for batch in batches
    ]
    rows = (np.array([e.ids]) for s in samples for e in tokenizer.encode_batch(s.captions))
    return {
        "image-encoder": pixels,
        "text-encoder": [{"token_ids": row, "attention_mask": np.ones_like(row)} for row in rows],
    }


class Reader(CalibrationDataReader):
    """Hands `feeds` to ONNX Runtime one by one."""

    def __init__(self, feeds: list[dict[str, np.ndarray]]):
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def to_int8(path: Path, feeds: dict[str, list[dict[str, np.ndarray]]]) -> None:
    """Rewrite the float32 graph at `path`, with `feeds` of `feeds_of`. Inputs and outputs keep
    their types."""
    quant_pre_process(path, path, skip_symbolic_shape=True)
    if path.stem == "fusion-encoder":
        settings = {"per_channel": True, "reduce_range": True, "weight_type": QuantType.QInt8}
        quantize_dynamic(path, path, ["MatMul", "Gemm"], **settings)
        return
    store_int8_rows(path)
    if path.stem == "image-encoder":
        convolutions_to_int8(path, Reader(feeds[path.stem]))
    products_to_int8(path, feeds[path.stem])
    store_int8_columns(path, HUB_BANK)


def convolutions_to_int8(path: Path, images: Reader) -> None:
    """Rewrite the convolutions of the graph at `path` but the first EXACT_CONVOLUTIONS."""
    nodes = [(node.name, node.op_type) for node in onnx.load(path).graph.node]
    places = [i for i, (_, kind) in enumerate(nodes) if kind == "Conv"]
    if len(places) <= EXACT_CONVOLUTIONS:
        return
    early = [name for name, _ in nodes[: places[EXACT_CONVOLUTIONS]]]
    quantize_static(
        path, path, images, QuantFormat.QDQ, ["Conv", "Clip"], per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_exclude=early,
    )  # fmt: skip


def store_int8_rows(path: Path) -> None:
    """Store every float32 lookup table of the graph at `path` as int8 with a scale for a row."""
    model = onnx.load(path)
    graph, nodes = model.graph, []
    tables = {
        t.name: t
        for t in graph.initializer
        if t.data_type == TensorProto.FLOAT and len(t.dims) == 2
    }
    uses = Counter(name for node in graph.node for name in node.input)
    tables = {name: t for name, t in tables.items() if t.dims[0] >= LEAST_ROWS and uses[name] == 1}
    for node in graph.node:
        by_row = node.op_type == "Gather" and not any(a.i for a in node.attribute)
        table = tables.get(node.input[0]) if by_row else None
        if table is None:
            nodes.append(node)
            continue
        rows = numpy_helper.to_array(table)
        scale = np.maximum(np.abs(rows).max(1, keepdims=True), 1e-12) / 127
        graph.initializer.remove(table)
        stored = {"int8": np.round(rows / scale).astype(np.int8), "scale": scale.astype(np.float32)}
        graph.initializer.extend(
            numpy_helper.from_array(array, f"{table.name}.{name}") for name, array in stored.items()
        )
        out, places = node.output[0], node.input[1]
        nodes += [
            helper.make_node("Gather", [f"{table.name}.int8", places], [f"{out}.int8"], axis=0),
            helper.make_node("Cast", [f"{out}.int8"], [f"{out}.steps"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{table.name}.scale", places], [f"{out}.scale"], axis=0),
            helper.make_node("Mul", [f"{out}.steps", f"{out}.scale"], [out]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def store_int8_columns(path: Path, name: str) -> None:
    """Store the float32 matrix `name` of the graph at `path`, if it has it, as int8 with a scale
    for a column. It is computed with as float32: the runtime multiplies once, at load."""
    model = onnx.load(path)
    graph = model.graph
    found = [t for t in graph.initializer if t.name == name and t.data_type == TensorProto.FLOAT]
    for weight in found:
        columns = numpy_helper.to_array(weight)
        scale = np.maximum(np.abs(columns).max(0, keepdims=True), 1e-12) / 127
        stored = {"int8": np.round(columns / scale).astype(np.int8), "scale": scale}
        graph.initializer.remove(weight)
        graph.initializer.extend(
            numpy_helper.from_array(array, f"{name}.{kind}") for kind, array in stored.items()
        )
        steps = helper.make_node("Cast", [f"{name}.int8"], [f"{name}.steps"], to=TensorProto.FLOAT)
        graph.node.insert(0, helper.make_node("Mul", [f"{name}.steps", f"{name}.scale"], [name]))
        graph.node.insert(0, steps)
    onnx.checker.check_model(model)
    onnx.save(model, path)
