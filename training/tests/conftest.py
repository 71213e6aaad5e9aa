"""Synthetic photos with captions, and a model small enough for a test: nothing here needs a data
set or a download."""

import io
import json
import tarfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tandem_training.data.cache import TrunkCache
from tandem_training.models.model import ModelConfig, Tandem
from tandem_training.models.text.second import SecondTextConfig
from tandem_training.recipe import DataConfig, Recipe, TrainConfig
from tandem_training.train import Trainer

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (30, 50, 220),
    "white": (240, 240, 240),
}
SHAPES = ("square", "bar")
OTHER_WORDS = {
    "zh": (
        dict(zip(COLOURS, "红绿蓝白", strict=True)),
        {"square": "方块", "bar": "长条"},
        "一个{}色的{}。",
    ),
    "de": (
        dict(zip(COLOURS, ("rot", "grün", "blau", "weiß"), strict=True)),
        {"square": "Quadrat", "bar": "Balken"},
        "Der {1} ist {0}.",
    ),
}
TINY = ModelConfig(
    vision="efficientnet-lite0", image_size=64, split=9, dim=16, image_token_width=16, max_tokens=8, text_width=24,
    text_heads=2, text_layers=1, fusion_width=16, fusion_layers=1,
)  # fmt: skip


def drawing(colour: str, shape: str, size: int = 64) -> bytes:
    pixels = np.full((size, size, 3), 120, np.uint8)
    pixels[16:48, 16:48] = COLOURS[colour]
    if shape == "bar":
        pixels[16:48, 28:36] = 0
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=92)
    return out.getvalue()


def write_shard(path: Path, samples: dict[str, tuple[bytes, dict]]) -> None:
    with tarfile.open(path, "w") as tar:
        for key, (jpeg, captions) in samples.items():
            for name, content in (
                (f"{key}.jpg", jpeg),
                (f"{key}.json", json.dumps({"captions": captions}).encode()),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def write_drawings(path: Path, captions: int = 2, languages: tuple[str, ...] = ()) -> Path:
    """A shard of eight drawings, with so many captions each, and one in each of the languages; the
    last has none of those."""
    samples = {
        f"{colour}-{shape}": (
            drawing(colour, shape),
            {"en": [f"a {colour} {shape}", f"one {shape} that is {colour}"][:captions]},
        )
        for colour in COLOURS
        for shape in SHAPES
    }
    for name in list(samples)[:-1]:
        colour, shape = name.split("-")
        for language in languages:
            colours, shapes, sentence = OTHER_WORDS[language]
            samples[name][1][language] = [sentence.format(colours[colour], shapes[shape])]
    write_shard(path, samples)
    return path


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write_drawings(tmp_path / "drawings-0000.tar")


@pytest.fixture
def one_thread():
    """Sums come out the same however many cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny_tokenizer() -> Tokenizer:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "one", "that", "is", *COLOURS, *SHAPES]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.enable_truncation(TINY.max_tokens)
    return made


@pytest.fixture
def tokenizer() -> Tokenizer:
    return tiny_tokenizer()


def tiny_model(config: ModelConfig = TINY) -> Tandem:
    """Random, but with convolutions scaled (He et al. 2015) so that a picture's signal reaches the
    grid."""
    torch.manual_seed(0)
    model = Tandem(config)
    for module in model.vision.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    return model


@pytest.fixture
def model() -> Tandem:
    return tiny_model()


def trainer(shard: Path, out: Path, tokenizer: Tokenizer, model: ModelConfig = TINY,
            second: SecondTextConfig | None = None, **settings) -> Trainer:  # fmt: skip
    """A run over the drawings; settings are those of [train]."""
    standard = {
        "batch": 8,
        "itm_negatives": 2,
        "token_batch": 8,
        "warmup": 0.1,
        "text_rate": 1e-3,
        "word_dropout": 0.0,
    }
    data = DataConfig(str(shard), str(shard), views=2)
    recipe = Recipe(
        data, model, TrainConfig(**standard | settings), second_text=second or SecondTextConfig()
    )
    return Trainer(recipe, out, shard.parent / "cache", tiny_model(model), tokenizer)


def compute_in_float32(replace) -> None:
    """Train without bfloat16, to compare closely. `replace` is setattr or monkeypatch.setattr."""
    batch = TrunkCache.batch
    replace(torch, "autocast", lambda *_, **__: nullcontext())
    replace(TrunkCache, "batch", lambda *given: batch(*given).float())
