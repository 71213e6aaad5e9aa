"""ONNX Runtime against OpenVINO on the graphs of a bundle, in alternating runs.

    python bench/runtimes.py BUNDLE [INT8_BUNDLE]

Needs numpy, onnx, onnxruntime and openvino, and writes the table of docs/adr/0005-onnx-runtime.md.
Not part of `npm run bench`: OpenVINO has no Node package that installs."""

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper

TOKENS, ROUNDS, WARM = 16, 30, 3
THREADS = os.cpu_count()
PAGE = Path(__file__).parents[1] / "docs" / "adr" / "0005-onnx-runtime.md"
MARKS = ("<!-- runtimes:begin -->", "<!-- runtimes:end -->")


def feeds(
    image: tuple[int, ...], tokens: tuple[int, ...], token_width: int
) -> dict[str, dict[str, np.ndarray]]:
    """Inputs of ones for each graph: one image, eight texts, one text with 64 images."""
    pairs = np.stack([np.zeros(64, np.int64), np.arange(64)], 1)
    return {
        "image-encoder": {"pixels": np.ones((1, *image), np.uint8)},
        "text-encoder": {
            name: np.ones((8, TOKENS), np.int64) for name in ("token_ids", "attention_mask")
        },
        "fusion-encoder": {
            "text_tokens": np.ones((1, TOKENS, token_width), np.float32),
            "attention_mask": np.ones((1, TOKENS), np.int64),
            "image_tokens": np.ones((64, *tokens), np.int8),
            "pairs": pairs,
        },
    }


def open_onnxruntime(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def open_openvino(path: Path, precision: str) -> openvino.InferRequest:
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": THREADS,
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = openvino.Core()
    return core.compile_model(
        core.read_model(without_log_sum_exp(path)), "CPU", settings
    ).create_infer_request()


def without_log_sum_exp(path: Path) -> bytes:
    """The graph without ReduceLogSumExp: OpenVINO 2026.4 ignores its axes and sums over texts."""
    model = onnx.load(path)
    nodes = []
    for node in model.graph.node:
        if node.op_type != "ReduceLogSumExp":
            nodes.append(node)
            continue
        values, out = node.input[0], node.output[0]
        axes = next(a.ints for a in node.attribute if a.name == "axes")
        model.graph.initializer.append(
            helper.make_tensor(f"{out}.axes", TensorProto.INT64, [len(axes)], axes)
        )
        nodes += [
            helper.make_node("Exp", [values], [f"{out}.exp"]),
            helper.make_node(
                "ReduceSum", [f"{out}.exp", f"{out}.axes"], [f"{out}.sum"], keepdims=1
            ),
            helper.make_node("Log", [f"{out}.sum"], [out]),
        ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model.SerializeToString()


def runs_of(graph: str, bundles: dict[str, Path]) -> dict[str, Callable[[dict], object]]:
    """Functions that run the graph on an input, by name; the first is the reference."""
    runs = {}
    for precision, folder in bundles.items():
        session = open_onnxruntime(folder / f"{graph}.onnx")
        runs[f"ONNX Runtime, {precision}"] = partial(session.run, None)
    for precision in ("f32", "bf16"):
        runs[f"OpenVINO, {precision}"] = open_openvino(
            bundles["fp32"] / f"{graph}.onnx", precision
        ).infer
    return runs


def rows_of(graph: str, feed: dict, runs: dict[str, Callable[[dict], object]]) -> list[str]:
    """Rows of the table: median wall time and core time, and the speed relative to the first."""
    clock, cores = {name: [] for name in runs}, {name: [] for name in runs}
    for turn in range(WARM + ROUNDS):
        for name, run in runs.items():
            wall, core = time.perf_counter(), time.process_time()
            run(feed)
            if turn >= WARM:
                clock[name].append(1e3 * (time.perf_counter() - wall))
                cores[name].append(1e3 * (time.process_time() - core))
    median = {name: (np.median(clock[name]), np.median(cores[name])) for name in runs}
    first = next(iter(median.values()))[0]
    return [
        f"| {graph} | {name} | {ms:.1f} | {core:.1f} | {first / ms:.1f} |"
        for name, (ms, core) in median.items()
    ]


def main() -> None:
    bundles = dict(zip(("fp32", "int8"), map(Path, sys.argv[1:]), strict=False))
    image = open_onnxruntime(bundles["fp32"] / "image-encoder.onnx").get_inputs()[0].shape[1:]
    fusion = {
        entry.name: entry.shape
        for entry in open_onnxruntime(bundles["fp32"] / "fusion-encoder.onnx").get_inputs()
    }
    inputs = feeds(tuple(image), tuple(fusion["image_tokens"][1:]), fusion["text_tokens"][2])
    rows = [
        row
        for graph, feed in inputs.items()
        for row in rows_of(graph, feed, runs_of(graph, bundles))
    ]
    head = [
        "| graph | runtime | ms | core-ms | times as fast |",
        "|---|---|---|---|---|",
    ]
    openvino_version = openvino.__version__.split("-")[0]
    versions = f"onnxruntime {onnxruntime.__version__}, openvino {openvino_version}, "
    versions += f"{THREADS} threads."
    table = "\n".join([*head, *rows, "", versions])
    before, rest = PAGE.read_text().split(MARKS[0])
    PAGE.write_text(f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")
    print(table)


if __name__ == "__main__":
    main()
