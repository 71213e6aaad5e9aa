"""ONNX Runtime beside OpenVINO on the graphs of a bundle, in turns: `python bench/runtimes.py
BUNDLE [INT8_BUNDLE]`.

Needs numpy, onnx, onnxruntime and openvino, and writes the table of docs/adr/0005-onnx-runtime.md.
No part of `npm run bench`: it runs in Python, because the addon that OpenVINO has for Node is in no
registry."""

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
    """Inputs of ones: one photo, eight texts, one text with 64 photos."""
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


def of_onnxruntime(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def of_openvino(path: Path, precision: str) -> openvino.InferRequest:
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": THREADS,
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = openvino.Core()
    return core.compile_model(
        core.read_model(spelt_out(path)), "CPU", settings
    ).create_infer_request()


def spelt_out(path: Path) -> bytes:
    """The graph without ReduceLogSumExp, of which OpenVINO 2026.4 overlooks the axes: it would sum
    over texts, too."""
    model = onnx.load(path)
    nodes = []
    for node in model.graph.node:
        if node.op_type != "ReduceLogSumExp":
            nodes.append(node)
            continue
        (given, out), (axes,) = (
            (node.input[0], node.output[0]),
            (a.ints for a in node.attribute if a.name == "axes"),
        )
        model.graph.initializer.append(
            helper.make_tensor(f"{out}.axes", TensorProto.INT64, [len(axes)], axes)
        )
        nodes += [
            helper.make_node("Exp", [given], [f"{out}.exp"]),
            helper.make_node(
                "ReduceSum", [f"{out}.exp", f"{out}.axes"], [f"{out}.sum"], keepdims=1
            ),
            helper.make_node("Log", [f"{out}.sum"], [out]),
        ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model.SerializeToString()


def runs_of(graph: str, bundles: dict[str, Path]) -> dict[str, Callable[[dict], object]]:
    """What runs the graph on an input, by its name; the first is the one that the others are
    compared with."""
    runs = {}
    for precision, folder in bundles.items():
        session = of_onnxruntime(folder / f"{graph}.onnx")
        runs[f"ONNX Runtime, {precision}"] = partial(session.run, None)
    for precision in ("f32", "bf16"):
        runs[f"OpenVINO, {precision}"] = of_openvino(
            bundles["fp32"] / f"{graph}.onnx", precision
        ).infer
    return runs


def rows_of(graph: str, feed: dict, runs: dict[str, Callable[[dict], object]]) -> list[str]:
    """Rows of the table: medians on the clock and in core time, and how many times as fast as the
    first."""
    clock, cores = {name: [] for name in runs}, {name: [] for name in runs}
    for turn in range(WARM + ROUNDS):
        for name, run in runs.items():
            begun, spent = time.perf_counter(), time.process_time()
            run(feed)
            if turn >= WARM:
                clock[name].append(1e3 * (time.perf_counter() - begun))
                cores[name].append(1e3 * (time.process_time() - spent))
    median = {name: (np.median(clock[name]), np.median(cores[name])) for name in runs}
    first = next(iter(median.values()))[0]
    return [
        f"| {graph} | {name} | {ms:.1f} | {core:.1f} | {first / ms:.1f} |"
        for name, (ms, core) in median.items()
    ]


def main() -> None:
    bundles = dict(zip(("fp32", "int8"), map(Path, sys.argv[1:]), strict=False))
    image = of_onnxruntime(bundles["fp32"] / "image-encoder.onnx").get_inputs()[0].shape[1:]
    fusion = {
        one.name: one.shape
        for one in of_onnxruntime(bundles["fp32"] / "fusion-encoder.onnx").get_inputs()
    }
    given = feeds(tuple(image), tuple(fusion["image_tokens"][1:]), fusion["text_tokens"][2])
    rows = [
        row
        for graph, feed in given.items()
        for row in rows_of(graph, feed, runs_of(graph, bundles))
    ]
    head = [
        "| graph | runtime | ms | core-ms | times as fast |",
        "|---|---|---|---|---|",
    ]
    versions = f"onnxruntime {onnxruntime.__version__}, openvino {openvino.__version__.split('-')[0]}, {THREADS} threads."
    table = "\n".join([*head, *rows, "", versions])
    before, rest = PAGE.read_text().split(MARKS[0])
    PAGE.write_text(f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")
    print(table)


if __name__ == "__main__":
    main()
