"""The weights of a bundle's graphs, by the names of the PyTorch model that they were exported from.

The exporter keeps the names of biases, norms, embeddings and convolutions, whose batch norms were
folded in before training. It stores the matrix of a linear layer transposed and without a name;
such a matrix is known by the bias that is added to its product, or else by the node's name. What an
export adds around the model (correction of hubs, padding, storage as float16) has other names."""

from pathlib import Path

import onnx
import torch
from onnx import GraphProto, numpy_helper
from torch import Tensor, nn

PREFIXES = ("graph.model.", "model.")  # of a graph with the correction of hubs, and without
EARLIER = {"heads.": "pooler."}  # names of parts in bundles up to tandem-small 0.4.0
ENCODERS = ("image_encoder", "text_encoder")


def graph_weights(path: Path) -> dict[str, Tensor]:
    """The weights of the graph at `path` whose names in PyTorch are known, as float32."""
    graph = onnx.load(path).graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    stored = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
    known = {name: _name(name.removesuffix(".float16")) for name in values}
    found = {name: _tensor(values[tensor]) for tensor, name in known.items() if name}
    for layer, matrix in _linear_layers(graph, values.keys(), stored).items():
        found.setdefault(f"{layer}.weight", _tensor(values[matrix]).T.contiguous())
    # Bundles up to tandem-small 0.4.0 hold ten times `best` of the fusion `late`, without a name.
    scalars = [name for name in values if name.startswith("onnx::Mul_") and not values[name].dims]
    if "fusion.worst" in found and len(scalars) == 1:
        found.setdefault("fusion.best", _tensor(values[scalars[0]]) / 10)
    return found


def _linear_layers(graph: GraphProto, values, stored: dict[str, str]) -> dict[str, str]:
    """Name of a linear layer → name of the stored matrix of its product."""
    products, layers = {}, {}
    for node in graph.node:
        if node.op_type == "MatMul":
            matrix = stored.get(node.input[1], node.input[1])
            if matrix in values and not _name(matrix.removesuffix(".float16")):
                products[node.output[0]] = matrix
                scope = node.name.removeprefix("/").removesuffix("/MatMul")
                layers[_part(scope.removeprefix("graph/").replace("/", "."))] = matrix
    for node in graph.node:
        if node.op_type == "Add":
            sources = [stored.get(name, name).removesuffix(".float16") for name in node.input]
            biases = [name for source in sources if (name := _name(source))]
            matrices = [products[name] for name in node.input if name in products]
            if biases and matrices:
                layers[biases[0].removesuffix(".bias")] = matrices[0]
    return layers


def _name(tensor: str) -> str:
    """A weight's name in the model; "" for what is none of its weights."""
    for prefix in PREFIXES:
        if tensor.startswith(prefix):
            return _part(tensor.removeprefix(prefix))
    return ""


def _part(name: str) -> str:
    for earlier, now in EARLIER.items():
        if name.startswith(earlier):
            return now + name.removeprefix(earlier)
    return name


@torch.no_grad()
def take_fusion(fusion: nn.Module, path: Path) -> list[str]:
    """Copy every weight of the fusion graph at `path` that has a weight's name and shape → their
    names."""
    state, taken, prefix = fusion.state_dict(), [], "fusion."
    for full, value in graph_weights(path).items():
        name = full.removeprefix(prefix)
        if full.startswith(prefix) and name in state and state[name].shape == value.shape:
            state[name].copy_(value)
            taken.append(name)
    return taken


def _tensor(tensor: onnx.TensorProto) -> Tensor:
    return torch.from_numpy(numpy_helper.to_array(tensor).copy()).float()
