"""Imported checkpoints against the original implementation, on random models."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from support.checkpoints import LENGTH, MEAN, STD, blip, clip, siglip
from tandem_training.bundle.bundle import read_manifest
from tandem_training.bundle.encoders import BundleEncoders
from tandem_training.bundle.hugging_face import import_checkpoint
from tandem_training.bundle.imported import tokenizer as imported_tokenizer
from tandem_training.bundle.imported.graphs import pack, unpack
from tandem_training.bundle.imported.tokenizer import clean_as_siglip

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed (extra hugging-face)"
)

TEXTS = ["a photo of a dog", "red", "two dog of the sea sand a a a a a a a a"]  # the last is cut
CLOSE = 5e-3  # weights are stored as float16


def pixels_for(images: np.ndarray) -> torch.Tensor:
    """As the original's own preprocessor does it."""
    normal = (images / 255 - np.array(MEAN)) / np.array(STD)
    return torch.from_numpy(normal.transpose(0, 3, 1, 2)).float()


def ids_for(
    encoders: BundleEncoders, padding: int, length: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [e.ids for e in encoders.tokenizer.encode_batch(TEXTS)]
    length = length or max(map(len, rows))
    ids = torch.tensor([row + [padding] * (length - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@torch.inference_mode()
def test_an_imported_clip_equals_the_original(tmp_path: Path, images):
    source = clip(tmp_path / "source")
    manifest = import_checkpoint(source, tmp_path / "clip")
    assert "fusion_encoder" not in manifest and manifest["license"] == "mit"
    assert not manifest["rerank"]["default"]
    encoders, original = (
        BundleEncoders(tmp_path / "clip"),
        transformers.CLIPModel.from_pretrained(source).eval(),
    )
    ids, mask = ids_for(encoders, padding=3)
    expected = original(input_ids=ids, attention_mask=mask, pixel_values=pixels_for(images))
    embedding, tokens = encoders.texts(TEXTS)
    np.testing.assert_allclose(embedding, expected.text_embeds, atol=CLOSE)
    np.testing.assert_allclose(encoders.images(images)[0], expected.image_embeds, atol=CLOSE)
    np.testing.assert_allclose(encoders.texts(TEXTS[1:2])[0][0], embedding[1], atol=1e-5)
    assert encoders.images(images)[1].shape == (3, 0, 0) and tokens[0].shape[1] == 0
    assert manifest["match"]["similarity"] == pytest.approx(
        original.logit_scale.exp().item(), rel=1e-4
    )


@torch.inference_mode()
def test_an_imported_siglip_equals_the_original_with_its_padding(tmp_path: Path, images):
    source = siglip(tmp_path / "source")
    manifest = import_checkpoint(source, tmp_path / "siglip")
    encoders, original = (
        BundleEncoders(tmp_path / "siglip"),
        transformers.SiglipModel.from_pretrained(source).eval(),
    )
    ids, _ = ids_for(encoders, padding=0, length=LENGTH)
    expected = original(input_ids=ids, pixel_values=pixels_for(images))
    embedding, _ = encoders.texts(TEXTS)
    np.testing.assert_allclose(embedding, expected.text_embeds, atol=CLOSE)
    np.testing.assert_allclose(encoders.texts(TEXTS[1:2])[0][0], embedding[1], atol=1e-5)
    image_embedding = encoders.images(images)[0]
    np.testing.assert_allclose(image_embedding, expected.image_embeds, atol=CLOSE)
    rule = manifest["match"]
    np.testing.assert_allclose(
        rule["similarity"] * embedding @ image_embedding.T + rule["bias"],
        expected.logits_per_text,
        atol=0.1,
    )


def letters() -> Tokenizer:
    """Every character is a token, so that nothing is lost in tokenising."""
    pieces = {chr(code): code for code in range(128)}
    tokenizer = Tokenizer(models.WordLevel(pieces, unk_token="\0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return tokenizer


def read_by(tokenizer: Tokenizer, text: str) -> str:
    return "".join(tokenizer.encode(text).tokens)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [(256_000, 'two  "red"\tcars: a_b! '), (32_000, "two red cars ab")],
)
def test_texts_are_cleaned_as_siglip_cleans_them(pieces: int, expected: str, monkeypatch):
    tokenizer = letters()
    monkeypatch.setattr(imported_tokenizer, "GEMMA_PIECES", 1 if pieces == 256_000 else pieces)
    assert read_by(tokenizer, "Two") == "Two"
    clean_as_siglip(tokenizer)
    assert read_by(tokenizer, 'Two  "RED"\tcars: a_B! ') == expected
    once = tokenizer.to_str()
    clean_as_siglip(tokenizer)
    assert tokenizer.to_str() == once


@torch.inference_mode()
def test_an_imported_blip_equals_the_original_for_every_pair(tmp_path: Path, images):
    source = blip(tmp_path / "source")
    manifest = import_checkpoint(source, tmp_path / "blip")
    assert (
        manifest["image_tokens"] == {"count": 5, "width": 17, "dtype": "int8"}
        and manifest["rerank"]["default"]
    )
    encoders = BundleEncoders(tmp_path / "blip")
    original = transformers.BlipForImageTextRetrieval.from_pretrained(source).eval()
    ids, mask = ids_for(encoders, padding=0)
    embedding, text_tokens = encoders.texts(TEXTS)
    image_embedding, image_tokens = encoders.images(images)
    pixels = pixels_for(images)
    apart = original(
        input_ids=ids, attention_mask=mask, pixel_values=pixels, use_itm_head=False
    ).itm_score
    np.testing.assert_allclose(image_embedding @ embedding.T, apart, atol=CLOSE)
    pairs = np.array([[t, m] for t in range(3) for m in range(3)])
    logits = encoders.logits(text_tokens, image_tokens, pairs)
    both = original(
        input_ids=ids[pairs[:, 0]],
        attention_mask=mask[pairs[:, 0]],
        pixel_values=pixels[pairs[:, 1]],
    )
    expected = (both.itm_score[:, 1] - both.itm_score[:, 0]).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(logits, expected, atol=0.05)
    alone = encoders.logits(text_tokens[1:2], image_tokens[2:], np.array([[0, 0]]))
    np.testing.assert_allclose(alone, logits[pairs.tolist().index([1, 2])], atol=1e-4)


def test_each_packed_token_keeps_its_own_scale():
    tokens = torch.randn(2, 3, 64) * torch.tensor([0.01, 1.0, 300.0]).view(1, 3, 1)
    lost = (unpack(pack(tokens)) - tokens).abs()
    assert bool((lost <= tokens.abs().amax(-1, keepdim=True) * 2 ** (1 / 8) / 254 * 1.001).all())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json cannot be read"),
        (
            lambda f: (f / "config.json").write_text('{"architectures": ["GPT2Model"]}'),
            "GPT2Model; known are",
        ),
        (
            lambda f: (f / "preprocessor_config.json").write_text("{}"),
            "no image_mean and image_std",
        ),
        (
            lambda f: (f / "preprocessor_config.json").unlink(),
            "processor_config.json cannot be read",
        ),
        (
            lambda f: (f / "tokenizer_config.json").write_text('{"pad_token": "<none>"}'),
            "'<none>', which is no token",
        ),
    ],
)
def test_an_incomplete_checkpoint_is_refused(damage, message: str, tmp_path: Path):
    source = siglip(tmp_path / "source")
    damage(source)
    with pytest.raises(ValueError, match=message):
        import_checkpoint(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_with_missing_weights_is_refused(tmp_path: Path):
    from safetensors.torch import load_file, save_file

    source = clip(tmp_path / "source")
    weights = load_file(source / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="1 weights of CLIPModel are missing.*visual_projection"):
        import_checkpoint(source, tmp_path / "out")


def test_the_card_of_an_imported_bundle_names_its_source(tmp_path: Path):
    import_checkpoint(clip(tmp_path / "source"), tmp_path / "clip")
    card = (tmp_path / "clip" / "README.md").read_text()
    assert (
        "imported CLIP checkpoint" in card
        and "the middle is taken" in card
        and "Not measured." in card
    )
    assert read_manifest(tmp_path / "clip")["description"] == "CLIP imported from source"
