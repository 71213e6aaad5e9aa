"""Graphs that compute in float16, for a GPU."""

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

# A sum of squares can leave the range of float16.
KEPT_FLOAT32 = ["ReduceL2", "ReduceSumSquare", "Pow"]
LEAST = 6e-8  # of float16


def to_float16(path: Path) -> None:
    """Rewrite the graph at `path` so that it computes in float16; its inputs and outputs stay as
    they are."""
    kept = [*DEFAULT_OP_BLOCK_LIST, *KEPT_FLOAT32]
    converted = OnnxModel(
        convert_float_to_float16(
            onnx.load(path), keep_io_types=True, op_block_list=kept, min_positive_val=LEAST
        )
    )
    converted.topological_sort()
    onnx.checker.check_model(converted.model)
    onnx.save(converted.model, path)
