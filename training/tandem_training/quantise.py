"""Dynamic int8 quantisation of an exported graph's matrix products."""

import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process


def quantise_graph(path: Path) -> None:
    """Replace the graph by one with int8 weights (one scale a column) for MatMul and Gemm, and an int8 word table."""
    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        operators = ["MatMul", "Gemm", "Gather"]
        quantize_dynamic(prepared, path, op_types_to_quantize=operators, per_channel=True, weight_type=QuantType.QInt8)
    onnx.checker.check_model(path)
