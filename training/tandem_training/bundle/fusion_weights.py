"""The weights of a bundle's float32 fusion graph, by the names of the PyTorch module."""

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

PREFIX = "model.fusion."


def fusion_weights(path: Path) -> dict[str, Tensor]:
    """The weights that the graph at `path` still has by name. The exporter names biases, norms and
    scalars, but not the matrices of linear layers; such a matrix is known by the bias that is added
    to its product."""
    graph = onnx.load(path).graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    stored = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
    products = {}
    for node in graph.node:
        if node.op_type == "MatMul":
            matrix = stored.get(node.input[1], node.input[1])
            if matrix in values:
                products[node.output[0]] = matrix
    found = {}
    for name, tensor in values.items():
        if name.startswith(PREFIX):
            found[name.removeprefix(PREFIX)] = _tensor(tensor)
    for node in graph.node:
        if node.op_type != "Add":
            continue
        biases = [name for name in node.input if name.startswith(PREFIX) and name in values]
        matrices = [products[name] for name in node.input if name in products]
        if biases and matrices:
            weight = biases[0].removeprefix(PREFIX).removesuffix("bias") + "weight"
            found[weight] = _tensor(values[matrices[0]]).T.contiguous()
    return found


@torch.no_grad()
def take_fusion(fusion: nn.Module, path: Path) -> list[str]:
    """Copy every weight of the fusion graph at `path` that has a weight's name and shape → their
    names."""
    state, taken = fusion.state_dict(), []
    for name, value in fusion_weights(path).items():
        if name in state and state[name].shape == value.shape:
            state[name].copy_(value)
            taken.append(name)
    return taken


def _tensor(tensor: onnx.TensorProto) -> Tensor:
    return torch.from_numpy(numpy_helper.to_array(tensor).copy()).float()
