"""Fixtures of all tests."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from support.drawings import write_drawings
from support.models import tiny_model, tiny_tokenizer
from tandem_training.models.model import Tandem


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write_drawings(tmp_path / "drawings-0000.tar")


@pytest.fixture(autouse=True)
def same_draws():
    """A test draws the same numbers alone and after others."""
    torch.manual_seed(0)


@pytest.fixture
def one_thread():
    """Sums come out the same however many cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return tiny_tokenizer()


@pytest.fixture
def model() -> Tandem:
    return tiny_model()
