"""Each precision of an exported bundle against the float32 model."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tandem_training.bundle import goldens
from tandem_training.bundle.bundle import read_manifest
from tandem_training.bundle.encoders import OUTPUTS, BundleEncoders, TorchEncoders
from tandem_training.bundle.goldens import TOLERANCES
from tandem_training.bundle.graphs import Graphs, export_graphs
from tandem_training.bundle.int8 import store_int8_columns, store_int8_rows
from tandem_training.bundle.write import export_bundle
from tandem_training.data.samples import read_shards
from tandem_training.evaluation.retrieval import Encoded
from tandem_training.loop.checkpoint import save

TEXTS = ["a red square", "one bar that is blue", "a", "green"]


def exported(precision: str, shard: Path, model, tokenizer, folder: Path) -> Path:
    torch.nn.init.normal_(model.fusion.head.weight, std=0.3)
    save(folder / "model.pt", model.checkpoint())
    tokenizer.save(str(folder / "tokenizer.json"))
    export_bundle(
        folder / "model.pt",
        folder / precision,
        folder / "tokenizer.json",
        dev="",
        version="1.0.0",
        precision=precision,
        calibrate=str(shard),
    )
    return folder / precision


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def test_float32_graphs_with_float32_weights_equal_the_model(model, tokenizer, tmp_path: Path):
    import onnxruntime

    graphs = Graphs.of(model)
    paths = {path.stem: str(path) for path in export_graphs(graphs, tmp_path)}
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    embedding, _ = onnxruntime.InferenceSession(paths["image-encoder"]).run(
        None, {"pixels": pixels}
    )
    expected, _ = TorchEncoders(graphs, tokenizer, bfloat16=False).images(pixels)
    np.testing.assert_allclose(embedding, expected, atol=1e-5)


@pytest.mark.parametrize("precision", sorted(TOLERANCES))
def test_a_bundle_of_each_precision_reproduces_the_model(
    precision: str, shard: Path, model, tokenizer, tmp_path: Path
):
    folder = exported(precision, shard, model, tokenizer, tmp_path)
    manifest, encoders = read_manifest(folder), BundleEncoders(folder)
    assert [manifest[part]["precision"] for part in OUTPUTS] == [precision] * 3
    assert json.loads((folder / "goldens.json").read_text())["tolerances"] == TOLERANCES[precision]
    tolerances = TOLERANCES[precision]
    reference = TorchEncoders(Graphs.of(model), tokenizer, bfloat16=False)
    samples = read_shards(str(shard))
    ours, theirs = Encoded(encoders, samples), Encoded(reference, samples)
    for name in ("image_embedding", "text_embedding"):
        cosines = (getattr(ours, name) * getattr(theirs, name)).sum(1)
        assert cosines.min() >= tolerances["embedding_cosine"], name
    steps = np.abs(ours.image_tokens.astype(int) - theirs.image_tokens)
    assert steps.max() <= tolerances.get("image_token", 1)
    # Every length and batch: texts of 3, 4 and 7 tokens, together and one by one, against several
    # pictures.
    pairs = np.array([[t, m] for t in range(len(TEXTS)) for m in range(2)])
    tokens = encoders.texts(TEXTS)[1]
    together = encoders.logits(tokens, ours.image_tokens[:2], pairs)
    expected = reference.logits(reference.texts(TEXTS)[1], theirs.image_tokens[:2], pairs)
    np.testing.assert_allclose(together, expected, atol=tolerances["logit"])
    for i, text in enumerate(TEXTS):
        np.testing.assert_allclose(
            encoders.texts([text])[0][0], encoders.texts(TEXTS)[0][i], atol=2e-3
        )


def test_int8_graphs_compute_in_int8_and_are_smaller(shard: Path, model, tokenizer, tmp_path: Path):
    small = exported("int8", shard, model, tokenizer, tmp_path)
    large = exported("fp32", shard, model, tokenizer, tmp_path)
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators(
        small / "image-encoder.onnx"
    )  # of convolutions
    assert "MatMulIntegerToFloat" in operators(small / "text-encoder.onnx")
    assert "MatMulInteger" in operators(small / "fusion-encoder.onnx")
    for name in ("image-encoder.onnx", "text-encoder.onnx"):
        assert (small / name).stat().st_size < 0.75 * (large / name).stat().st_size


def test_float16_graphs_keep_the_input_and_output_types_of_the_contract(
    shard: Path, model, tokenizer, tmp_path: Path
):
    folder = exported("fp16", shard, model, tokenizer, tmp_path)
    for name in ("image-encoder", "text-encoder", "fusion-encoder"):
        graph = onnx.load(folder / f"{name}.onnx").graph
        half = [w for w in graph.initializer if w.data_type == onnx.TensorProto.FLOAT16]
        full = [w for w in graph.initializer if w.data_type == onnx.TensorProto.FLOAT]
        assert sum(np.prod(w.dims) for w in half) > 100 * sum(np.prod(w.dims) for w in full)
        kinds = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
        assert onnx.TensorProto.FLOAT16 not in kinds


def test_int8_rows_of_a_table_lose_at_most_half_a_step_of_their_scale(tmp_path: Path):
    table = torch.nn.Embedding(300, 8)
    torch.nn.init.normal_(table.weight)
    with torch.no_grad():
        table.weight[7] *= 1000
    path = tmp_path / "table.onnx"
    axes = {"ids": {0: "n"}}
    torch.onnx.export(
        table, (torch.arange(4),), path, input_names=["ids"], dynamic_axes=axes, dynamo=False
    )
    store_int8_rows(path)
    import onnxruntime

    rows = onnxruntime.InferenceSession(path).run(None, {"ids": np.arange(300)})[0]
    weight = table.weight.detach().numpy()
    assert (np.abs(rows - weight) <= np.abs(weight).max(1, keepdims=True) / 254 + 1e-6).all()


def test_int8_without_images_and_a_folder_that_is_no_bundle_are_refused(
    model, tokenizer, tmp_path: Path
):
    save(tmp_path / "model.pt", model.checkpoint())
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    given = (tmp_path / "model.pt", tmp_path / "out", tmp_path / "tokenizer.json", "", "1.0.0")
    with pytest.raises(ValueError, match="int8 needs images"):
        export_bundle(*given, precision="int8")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    with pytest.raises(ValueError, match="is no bundle; it is left as it is"):
        export_bundle(*given)
    assert (tmp_path / "out" / "mine.txt").read_text() == "kept"


def test_a_graph_that_does_not_reproduce_the_goldens_is_refused(
    shard: Path, model, tokenizer, tmp_path: Path
):
    folder = exported("fp32", shard, model, tokenizer, tmp_path)
    recorded = json.loads((folder / "goldens.json").read_text())
    encoders = BundleEncoders(folder)
    goldens.check(encoders, folder)
    for damage, message in (
        (lambda found: found["texts"][0]["embedding"].reverse(), "cosine"),
        (lambda found: found["image"]["image_tokens_head"].__setitem__(0, 127), "steps off"),
        (lambda found: found["matches"][0].update(logit=99.0), "a logit is"),
    ):
        changed = json.loads(json.dumps(recorded))
        damage(changed)
        (folder / "goldens.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=message):
            goldens.check(encoders, folder)


def test_int8_columns_of_a_matrix_lose_at_most_half_a_step_of_their_scale(tmp_path: Path):
    weight = np.random.default_rng(0).normal(size=(6, 40)).astype(np.float32)
    weight[:, 3] *= 1000
    nodes = [onnx.helper.make_node("MatMul", ["x", "bank"], ["y"])]
    values = [onnx.helper.make_tensor_value_info(name, 1, [None, None]) for name in ("x", "y")]
    stored = [onnx.numpy_helper.from_array(weight, "bank")]
    graph = onnx.helper.make_graph(nodes, "product", values[:1], values[1:], stored)
    path = tmp_path / "product.onnx"
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    store_int8_columns(path, "bank")
    store_int8_columns(path, "a name that the graph does not have")
    import onnxruntime

    columns = onnxruntime.InferenceSession(path).run(None, {"x": np.eye(6, dtype=np.float32)})[0]
    assert (np.abs(columns - weight) <= np.abs(weight).max(0) / 254 + 1e-6).all()
    kinds = {w.name: w.data_type for w in onnx.load(path).graph.initializer}
    assert kinds == {"bank.int8": onnx.TensorProto.INT8, "bank.scale": onnx.TensorProto.FLOAT}
