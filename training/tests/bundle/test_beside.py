"""BLIP-ITM as the fusion encoder beside a dual encoder, against the original on random models."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support import checkpoints
from support.drawings import write_drawings
from tandem_training.bundle.beside import put_beside
from tandem_training.bundle.bundle import read_manifest
from tandem_training.bundle.encoders import BundleEncoders
from tandem_training.bundle.hugging_face import import_checkpoint

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed (extra hugging-face)"
)
pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ["a photo of a dog", "red", "two dog of the sea sand a a a a a a a a"]  # the last is cut


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A random CLIP as a bundle, a random BLIP, and the bundle of both."""
    folder = tmp_path_factory.mktemp("beside")
    torch.manual_seed(0)
    import_checkpoint(checkpoints.clip(folder / "clip"), folder / "dual")
    checkpoints.blip(folder / "blip")
    put_beside(folder / "dual", folder / "blip", folder / "both", "1.0.0")
    return folder


def images() -> list[bytes]:
    rng, files = np.random.default_rng(0), []
    for width, height in ((64, 48), (33, 90), (32, 32)):
        out = io.BytesIO()
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(out, "PNG")
        files.append(out.getvalue())
    return files


@torch.inference_mode()
def test_embeddings_are_those_of_the_dual_encoder_and_logits_those_of_blip(folder: Path):
    dual, both = BundleEncoders(folder / "dual"), BundleEncoders(folder / "both")
    files = images()
    np.testing.assert_array_equal(both.files(files)[0], dual.files(files)[0])
    np.testing.assert_array_equal(both.texts(TEXTS)[0], dual.texts(TEXTS)[0])
    original = transformers.BlipForImageTextRetrieval.from_pretrained(folder / "blip").eval()
    processor = transformers.BlipImageProcessorPil(
        size={"height": 32, "width": 32}, image_mean=checkpoints.MEAN, image_std=checkpoints.STD
    )
    opened = [Image.open(io.BytesIO(file)).convert("RGB") for file in files]
    pixels = processor(images=opened, return_tensors="pt")["pixel_values"]
    _, tokens = both.texts(TEXTS)
    pairs = np.array([[t, m] for t in range(3) for m in range(3)])
    logits = both.logits(tokens, both.files(files)[1], pairs)
    for (t, m), logit in zip(pairs, logits, strict=True):
        ids = torch.from_numpy(tokens[t].T).long()
        score = original(
            input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels[m : m + 1]
        ).itm_score[0]
        assert logit == pytest.approx(float(score[1] - score[0]), abs=0.05)
    assert np.std(logits) > 0.1


def test_the_manifest_names_what_the_fusion_encoder_reads(folder: Path):
    manifest = read_manifest(folder / "both")
    fusion = manifest["fusion_encoder"]
    assert fusion["image_encoder"]["size"] == 32 and fusion["image_encoder"]["fit"] == "fill"
    assert manifest["image_tokens"] == {"count": 5, "width": 17, "dtype": "int8"}
    assert manifest["text_encoder"]["token_width"] == 1
    assert manifest["rerank"]["default"] is True
    assert manifest["license"] == "mit; fusion encoder: mit"
    card = (folder / "both" / "README.md").read_text()
    assert "BLIP-ITM imported from blip" in card and "imported CLIP checkpoint" in card


def test_computed_tokens_are_named_and_are_reranked_on_request_alone(folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    manifest = put_beside(folder / "dual", folder / "blip", out, "1.0.0", compute=True)
    assert manifest["image_tokens"]["stored"] is False
    assert manifest["rerank"]["default"] is False
    assert "computed when an image is reranked" in (out / "README.md").read_text()


def test_a_checkpoint_that_ranks_by_chance_leaves_nothing_behind(folder: Path, tmp_path: Path):
    shard = write_drawings(tmp_path / "drawings-0000.tar")
    with pytest.raises(ValueError, match="ranks no better than chance"):
        put_beside(folder / "dual", folder / "blip", tmp_path / "out", "1.0.0", str(shard))
    assert list(tmp_path.iterdir()) == [shard]


def test_what_cannot_stand_beside_another_is_refused(folder: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="has a fusion encoder already"):
        put_beside(folder / "both", folder / "blip", tmp_path / "out", "1.0.0")
    with pytest.raises(ValueError, match="holds CLIP; expected BLIP-ITM"):
        put_beside(folder / "dual", folder / "clip", tmp_path / "out", "1.0.0")
    assert not list(tmp_path.iterdir())
