"""Weights stored as float16 and computed with as float32: half the size.

The runtime folds the casts away when it loads the graph. Unlike with dynamic int8, an embedding
does not depend on the rest of the batch."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LEAST_ELEMENTS = 4096


def store_float16(path: Path) -> None:
    """Rewrite the graph at `path`: float32 weights of at least LEAST_ELEMENTS numbers become
    float16 with a cast.

    Raises:
        ValueError: a weight is beyond the range of float16.
    """
    model = onnx.load(path)
    casts = []
    for weight in model.graph.initializer:
        array = numpy_helper.to_array(weight)
        if weight.data_type != TensorProto.FLOAT or array.size < LEAST_ELEMENTS:
            continue
        if np.abs(array).max() > np.finfo(np.float16).max:
            raise ValueError(f"{path}: weight {weight.name} exceeds the range of float16")
        stored = f"{weight.name}.float16"
        casts.append(helper.make_node("Cast", [stored], [weight.name], to=TensorProto.FLOAT))
        weight.CopyFrom(numpy_helper.from_array(array.astype(np.float16), stored))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
    onnx.checker.check_model(model)
    onnx.save(model, path)
