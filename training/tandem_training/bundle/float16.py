"""Graphs that compute in float16, for a GPU."""

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

# A sum of squares can leave the range of float16.
FLOAT32_OPS = ["ReduceL2", "ReduceSumSquare", "Pow"]
LEAST = 6e-8  # positive number of float16


def to_float16(path: Path) -> None:
    """Rewrite the graph at `path` to compute in float16. Inputs and outputs keep their types."""
    converted = convert_float_to_float16(
        onnx.load(path),
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *FLOAT32_OPS],
        min_positive_val=LEAST,
    )
    model = OnnxModel(converted)
    model.topological_sort()
    onnx.checker.check_model(model.model)
    onnx.save(model.model, path)
