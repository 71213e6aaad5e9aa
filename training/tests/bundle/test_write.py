import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from support.drawings import write_drawings
from support.models import TINY, masking_tokenizer, options, recipe_trainer, small
from tandem_training.bundle.bundle import read_manifest, write_manifest
from tandem_training.bundle.encoders import BundleEncoders, TorchEncoders
from tandem_training.bundle.graphs import Graphs, export_fusion, export_graphs
from tandem_training.bundle.half_storage import LEAST_ELEMENTS, store_float16
from tandem_training.bundle.write import export_bundle
from tandem_training.data.tokens import pad
from tandem_training.loop.checkpoint import save
from tandem_training.models.fusion.none import NoFusion
from tandem_training.models.model import Tandem
from tandem_training.models.vision.vision import (
    dequantise_tokens,
    quantise_tokens,
    token_step,
)
from tandem_training.objectives.registry import attach

FLOAT16 = 2e-3  # what rounding the weights to float16 may change in a unit vector
TEXTS = ["a red square", "one bar that is blue", "a", "green"]


@pytest.fixture
def bundle(model, tokenizer, tmp_path: Path) -> Path:
    torch.nn.init.normal_(
        model.fusion.head.weight, std=0.3
    )  # at zero parity would not see the layers
    save(tmp_path / "model.pt", model.checkpoint())
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    export_bundle(
        tmp_path / "model.pt",
        tmp_path / "tiny",
        tmp_path / "tokenizer.json",
        dev="",
        version="1.2.3",
    )
    return tmp_path / "tiny"


def test_graphs_equal_pytorch_for_every_batch_and_length(bundle: Path, model, tokenizer):
    exported, torch_side = (
        BundleEncoders(bundle),
        TorchEncoders(Graphs.of(model), tokenizer, bfloat16=False),
    )
    rng = np.random.default_rng(0)
    for batch in (1, 3):
        pixels = rng.integers(0, 256, (batch, 64, 64, 3), dtype=np.uint8)
        for texts in (TEXTS[:1], TEXTS):
            pairs = np.array([[t, m] for t in range(len(texts)) for m in range(batch)])
            results = []
            for side in (exported, torch_side):
                image_embedding, image_tokens = side.images(pixels)
                embedding, tokens = side.texts(texts)
                results.append(
                    (
                        image_embedding,
                        image_tokens,
                        embedding,
                        tokens,
                        side.logits(tokens, image_tokens, pairs),
                    )
                )
            ours, reference = results
            np.testing.assert_allclose(ours[0], reference[0], atol=FLOAT16)
            assert np.abs(ours[1].astype(int) - reference[1]).max() <= 1
            np.testing.assert_allclose(ours[2], reference[2], atol=FLOAT16)
            for a, b in zip(ours[3], reference[3], strict=True):
                np.testing.assert_allclose(a, b, atol=10 * FLOAT16)
            np.testing.assert_allclose(ours[4], reference[4], atol=0.05)


def test_weights_are_stored_as_float16_and_outputs_stay_float32(bundle: Path):
    graph = onnx.load(bundle / "image-encoder.onnx").graph
    large = [w for w in graph.initializer if np.prod(w.dims) >= LEAST_ELEMENTS]
    assert large and all(w.data_type != onnx.TensorProto.FLOAT for w in large)
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_a_weight_beyond_float16_is_refused(model, tmp_path: Path):
    with torch.no_grad():
        model.vision.head.weight[0, 0] = 1e6
    export_graphs(Graphs.of(model), tmp_path)
    with pytest.raises(ValueError, match="exceeds the range of float16"):
        store_float16(tmp_path / "image-encoder.onnx")


def test_padding_of_texts_does_not_change_their_outputs(model):
    model.eval()
    rows = [[2, 4, 9, 13, 3], [2, 4, 3]]
    with torch.inference_mode():
        together, tokens = model.text(*pad(rows))
        alone, own = model.text(*pad(rows[1:]))
        torch.testing.assert_close(together[1], alone[0], atol=1e-5, rtol=1e-4)
        image = torch.nn.functional.normalize(torch.randn(1, 4, 16), dim=-1)
        pair = torch.zeros(1, 2, dtype=torch.int64)
        torch.nn.init.normal_(model.fusion.head.weight)
        padded = model.fusion(tokens[1:], pad(rows)[1][1:], image, pair)
        torch.testing.assert_close(
            padded, model.fusion(own, pad(rows[1:])[1], image, pair), atol=1e-4, rtol=1e-4
        )


def test_token_similarity_of_all_pairs_equals_the_one_in_the_logit(model):
    model.eval()
    text, mask = torch.randn(3, 5, 24), torch.tensor([[1] * 5, [1, 1, 1, 0, 0], [1] * 5])
    image = torch.nn.functional.normalize(torch.randn(2, 4, 16), dim=-1)
    pairs = torch.tensor([[t, m] for t in range(3) for m in range(2)])
    with torch.inference_mode():
        matrix = model.fusion.token_similarity(text, mask, image)
        logits = model.fusion(text, mask, image, pairs)  # the head starts at zero
    torch.testing.assert_close(
        logits.view(3, 2), matrix * model.fusion.scale.detach().exp(), atol=1e-4, rtol=1e-4
    )


def test_quantised_tokens_lose_at_most_half_a_step():
    tokens = torch.nn.functional.normalize(torch.randn(2, 9, 160), dim=-1)
    back = dequantise_tokens(quantise_tokens(tokens))
    assert float((back - tokens).abs().max()) <= token_step(160) / 2 + 1e-6


def test_a_written_bundle_is_complete_and_its_goldens_hold(bundle: Path):
    manifest = read_manifest(bundle)
    assert {item["path"] for item in manifest["files"]} == {p.name for p in bundle.iterdir()} - {
        "manifest.json"
    }
    recorded = json.loads((bundle / "goldens.json").read_text())
    encoders = BundleEncoders(bundle)
    for text in recorded["texts"]:
        embedding, _ = encoders.texts([text["text"]])
        assert (
            float(embedding[0] @ np.array(text["embedding"]))
            >= recorded["tolerances"]["embedding_cosine"]
        )


def test_a_bundle_with_a_changed_or_missing_file_is_refused(bundle: Path):
    with (bundle / "tokenizer.json").open("a") as file:
        file.write(" ")
    with pytest.raises(ValueError, match="tokenizer.json: missing, or not the file"):
        read_manifest(bundle)
    with pytest.raises(ValueError, match="no manifest.json"):
        read_manifest(bundle.parent)


def test_a_manifest_that_violates_the_schema_is_refused(bundle: Path):
    manifest = read_manifest(bundle)
    manifest["fusion_encoder"]["file"] = "../fusion.onnx"
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"fusion_encoder.file"):
        read_manifest(bundle)
    with pytest.raises(Exception, match="schema_version"):
        write_manifest(
            bundle, {**manifest, "schema_version": 2, "fusion_encoder": {"file": "f.onnx"}}
        )


def test_a_dual_encoder_without_dev_matches_by_the_probability_that_it_was_trained_by(
    tokenizer, tmp_path: Path
):
    torch.manual_seed(0)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    for name, scale, bias in (("siglip", 10, -7.5), ("itc", 20, -0.28 * 20)):
        model = Tandem(replace(TINY, fusion=NoFusion.Config()))
        attach(options(**{name: 1.0}), model, None)
        if name == "siglip":
            torch.nn.init.constant_(model.objectives["siglip"].bias, bias)
        save(tmp_path / "model.pt", model.checkpoint())
        files = (tmp_path / "model.pt", tmp_path / name, tmp_path / "tokenizer.json")
        match = export_bundle(*files, dev="", version="1.0.0")["match"]
        assert match["logit"] == 0 and match["similarity"] == pytest.approx(scale, rel=1e-4)
        assert match["bias"] == pytest.approx(bias, rel=1e-4)


@pytest.mark.parametrize("name", ["git", "vitcap", "vl-t5"])
def test_the_fusion_graph_of_a_likelihood_has_the_words_that_training_can_meet_alone(
    name: str, tmp_path: Path
):
    shard = write_drawings(tmp_path / "drawings-0000.tar")
    run = recipe_trainer(small(name, shard), tmp_path / "run", masking_tokenizer())
    path = tmp_path / "fusion-encoder.onnx"
    graphs = Graphs.of(run.average)
    widths = (graphs.token_width, graphs.cells, graphs.image_token_width)
    export_fusion(graphs.fusion, widths, path)
    sizes = [math.prod(weight.dims) for weight in onnx.load(path).graph.initializer]
    whole = run.average.text.words.num_embeddings
    assert run.average.fusion.word_head.kept.sum() < 100 and whole == 30522
    assert max(sizes, default=0) <= whole  # of each id its row; the matrix of words is smaller
    assert sum(size >= whole for size in sizes) <= 1
