"""Padding as part of the convolution behind it.

Padding inside a convolution costs next to nothing. A Pad node is a pass over the feature map, and
the runtime converts its layout (channels in blocks) before and after each one: together a third of
the time of an EfficientNet."""

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator


def fold_padding(path: Path) -> None:
    """Rewrite the graph at `path`: the convolutions behind a Pad node pad zeros themselves.

    The padding may be computed in the graph, but must not depend on an input."""
    model = onnx.load(path)
    graph = model.graph
    outputs = {output.name for output in graph.output}
    for pad in [node for node in graph.node if node.op_type == "Pad"]:
        readers = [node for node in graph.node if pad.output[0] in node.input]
        zeros = _zeros(pad, model)
        if (
            zeros is None
            or pad.output[0] in outputs
            or not all(_can_pad(node, pad) for node in readers)
        ):
            continue
        for conv in readers:
            _widen(conv, zeros)
            conv.input[0] = pad.input[0]
        graph.node.remove(pad)
    _drop_unread(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _zeros(pad: NodeProto, model: ModelProto) -> list[int] | None:
    """Counts of zeros in the order of a convolution's `pads`; None if `pad` does anything else."""
    mode = next(
        (attribute.s for attribute in pad.attribute if attribute.name == "mode"), b"constant"
    )
    sizes, value, axes = [*pad.input[1:], "", ""][:3]  # names; an absent input has an empty one
    counts, added = _constant(sizes, model), _constant(value, model)
    if mode != b"constant" or axes or counts is None or (value and (added is None or added.any())):
        return None
    around = counts.reshape(2, -1)  # [before and behind, axes]
    return None if around.min() < 0 or around[:, :2].any() else around[:, 2:].flatten().tolist()


def _constant(name: str, model: ModelProto) -> np.ndarray | None:
    """The value of a tensor; None if it depends on an input or does not exist."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    if name in stored:
        return numpy_helper.to_array(stored[name])
    producers = {output: node for node in model.graph.node for output in node.output}
    waiting, seen = [name], set()
    while waiting:
        tensor = waiting.pop()
        if tensor in seen or tensor in stored:
            continue
        if tensor not in producers:
            return None
        seen.update(producers[tensor].output)
        waiting += filter(None, producers[tensor].input)
    nodes = [node for node in model.graph.node if not seen.isdisjoint(node.output)]
    read = {tensor for node in nodes for tensor in node.input}
    used = [stored[tensor] for tensor in sorted(read & stored.keys())]
    output = helper.make_empty_tensor_value_info(name)
    graph = helper.make_graph(nodes, "constant", [], [output], used)
    evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=model.opset_import))
    return evaluator.run([name], {})[0]


def _can_pad(node: NodeProto, pad: NodeProto) -> bool:
    """Whether `node` is a convolution of the padded tensor with numeric padding of its own."""
    automatic = any(
        attribute.name == "auto_pad" and attribute.s != b"NOTSET" for attribute in node.attribute
    )
    return node.op_type == "Conv" and not automatic and pad.output[0] not in node.input[1:]


def _widen(conv: NodeProto, zeros: list[int]) -> None:
    """Add `zeros` to the padding of the convolution."""
    own = next((attribute for attribute in conv.attribute if attribute.name == "pads"), None)
    if own is None:
        conv.attribute.append(helper.make_attribute("pads", zeros))
    else:
        own.ints[:] = [a + b for a, b in zip(own.ints, zeros, strict=True)]


def _drop_unread(model: ModelProto) -> None:
    """Remove nodes and tensors that no output depends on any more."""
    graph = model.graph
    read = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):
        if read.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            read.update(node.input)
    for tensor in list(graph.initializer):
        if tensor.name not in read:
            graph.initializer.remove(tensor)
