"""Hubs and their correction, against the definition written out slowly, and through a bundle."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from support.models import TINY, tiny_model
from tandem_training.bundle import hubs
from tandem_training.bundle.encoders import BundleEncoders, TorchEncoders
from tandem_training.bundle.graphs import Graphs
from tandem_training.bundle.hubs import (
    FARTHEST,
    FLATTENING,
    LEAST_SHARE,
    SHARPNESS,
    WEIGHT,
    Corrected,
    Nearness,
    correct_hubs,
    flattening,
)
from tandem_training.bundle.write import export_bundle
from tandem_training.data.samples import read_shards
from tandem_training.evaluation.recall import recall_at_k
from tandem_training.evaluation.retrieval import Encoded
from tandem_training.loop.checkpoint import save
from tandem_training.models.model import ModelConfig

WIDTH = 24


def unit(*shape: int, seed: int = 0, flat: int = 0) -> torch.Tensor:
    """Random directions, `flat` of whose coordinates are zero."""
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    if flat:
        drawn[..., -flat:] = 0
    return nn.functional.normalize(drawn, dim=-1)


class Given(nn.Module):
    """A graph that answers what it is asked."""

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        return embedding


def corrected(texts: torch.Tensor, images: torch.Tensor) -> tuple[Corrected, Corrected, float]:
    flat = flattening(torch.cat([texts, images]))
    texts, images = (
        nn.functional.normalize(embeddings @ flat, dim=1) for embeddings in (texts, images)
    )
    terms = Nearness(texts, images), Nearness(images, texts)
    limit = FARTHEST * max(term.spread for term in terms)
    image, text = (Corrected(Given(), flat, term, limit, side) for side, term in enumerate(terms))
    return image, text, limit


def test_the_cosine_is_the_score_of_the_definition():
    banks = unit(50, WIDTH, seed=1), unit(50, WIDTH, seed=2)
    image, text, limit = corrected(*banks)
    asked, stored = unit(7, WIDTH, seed=3), unit(9, WIDTH, seed=4)
    found = text(asked) @ image(stored).T * (1 + 2 * limit)

    def flat(rows: torch.Tensor) -> np.ndarray:
        """Written out by NumPy: principal directions, each divided by a power of its share."""
        _, singular, directions = np.linalg.svd(
            torch.cat(banks).double().numpy(), full_matrices=False
        )
        power = (singular / singular[0]) ** 2
        made = (rows.double().numpy() @ directions.T / (power + LEAST_SHARE) ** FLATTENING)[
            :, : WIDTH - 4
        ]
        return made / np.linalg.norm(made, axis=1, keepdims=True)

    def term(one: np.ndarray, bank: torch.Tensor, mean: float) -> float:
        near = (
            math.log(sum(math.exp(SHARPNESS * float(one @ other)) for other in flat(bank)))
            / SHARPNESS
        )
        return max(-limit, min(limit, WEIGHT * near - mean))

    for row, text_row in enumerate(flat(asked)):
        for column, image_row in enumerate(flat(stored)):
            score = float(text_row @ image_row)
            score -= term(image_row, banks[0], image.term.mean) + term(
                text_row, banks[1], text.term.mean
            )
            assert float(found[row, column]) == pytest.approx(score, abs=1e-5)


def test_embeddings_keep_their_width_and_their_length():
    image, text, _ = corrected(unit(30, WIDTH, seed=1), unit(30, WIDTH, seed=2))
    far = torch.cat(
        [unit(20, WIDTH, seed=3), unit(30, WIDTH, seed=1)]
    )  # also those whose term is cut
    for side in (image, text):
        found = side(far)
        assert found.shape == (50, WIDTH)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(50))


def test_images_near_every_text_no_longer_come_first():
    def pairs(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Sentences that share a direction, and their images, of which some lie along it and others
        do not."""
        said = unit(200, WIDTH, seed=seed, flat=1)
        shown = nn.functional.normalize(said + unit(200, WIDTH, seed=seed + 1, flat=1), dim=-1)
        said[:, -1] = 1
        shown[:, -1] = 0.6 * torch.randn(200, generator=torch.Generator().manual_seed(seed))
        return nn.functional.normalize(said, dim=-1), nn.functional.normalize(shown, dim=-1)

    image, text, _ = corrected(*pairs(seed=10))
    asked, stored = pairs(seed=20)
    found = {
        "before": recall_at_k((asked @ stored.T).numpy(), np.eye(200, dtype=bool))["r1"],
        "after": recall_at_k((text(asked) @ image(stored).T).numpy(), np.eye(200, dtype=bool))[
            "r1"
        ],
    }
    assert found["after"] > found["before"] + 10, found


@pytest.fixture
def wide() -> ModelConfig:
    """A model whose embeddings have width to spare."""
    return replace(TINY, dim=WIDTH)


def test_a_bundle_holds_the_correction_and_nothing_else_changes(
    wide, shard: Path, tmp_path: Path, tokenizer
):
    model = tiny_model(wide)
    save(tmp_path / "model.pt", model.checkpoint())
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    given = (tmp_path / "tokenizer.json", "", "1.0.0")
    export_bundle(tmp_path / "model.pt", tmp_path / "plain", *given)
    manifest = export_bundle(tmp_path / "model.pt", tmp_path / "corrected", *given, bank=str(shard))
    assert manifest["embedding"]["dim"] == WIDTH
    assert "avoid hubs" in (tmp_path / "corrected" / "README.md").read_text()
    assert "avoid hubs" not in (tmp_path / "plain" / "README.md").read_text()
    samples = read_shards(str(shard))
    plain, found = (
        Encoded(BundleEncoders(tmp_path / name), samples) for name in ("plain", "corrected")
    )
    np.testing.assert_array_equal(found.image_tokens, plain.image_tokens)
    encoders = TorchEncoders(Graphs.of(model), tokenizer, bfloat16=False)
    expected = Encoded(
        TorchEncoders(correct_hubs(encoders.graphs, encoders, samples), tokenizer, False), samples
    )
    np.testing.assert_allclose(found.similarity, expected.similarity, atol=2e-3)
    assert np.abs(found.similarity - plain.similarity).max() > 0.01


def test_the_bank_has_one_caption_of_each_of_many_photos(wide, shard: Path, tokenizer, monkeypatch):
    monkeypatch.setattr(hubs, "BANK_IMAGES", 5)
    encoders = TorchEncoders(Graphs.of(tiny_model(wide)), tokenizer, bfloat16=False)
    graphs = correct_hubs(encoders.graphs, encoders, read_shards(str(shard)))
    assert graphs.image.term.bank.shape == graphs.text.term.bank.shape == (WIDTH - 4, 5)


def test_a_bank_of_one_image_or_too_narrow_embeddings_are_refused(wide, shard: Path, tokenizer):
    encoders = TorchEncoders(Graphs.of(tiny_model(wide)), tokenizer)
    with pytest.raises(ValueError, match="one image; expected at least 2"):
        correct_hubs(encoders.graphs, encoders, read_shards(str(shard))[:1])
    with pytest.raises(ValueError, match="embeddings of 8 numbers are too narrow"):
        flattening(unit(20, 8))


def test_a_missing_bank_leaves_the_earlier_bundle_unchanged(wide, tmp_path: Path, tokenizer):
    save(tmp_path / "model.pt", tiny_model(wide).checkpoint())
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    given = (tmp_path / "model.pt", tmp_path / "out", tmp_path / "tokenizer.json", "")
    export_bundle(*given, "1.0.0")
    with pytest.raises(FileNotFoundError, match="none-"):
        export_bundle(*given, "2.0.0", bank=str(tmp_path / "none-*.tar"))
    assert BundleEncoders(tmp_path / "out").manifest["version"] == "1.0.0"
