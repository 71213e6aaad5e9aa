"""Models, tokenizers and runs small enough for a test."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn

from tandem_training.data.cache import TrunkCache
from tandem_training.loop.backward import backward
from tandem_training.models.fusion.streams import NoFusion
from tandem_training.models.model import ModelConfig, Tandem
from tandem_training.models.text.second import SecondTextConfig
from tandem_training.objectives.objective import Batch, Step, encode
from tandem_training.recipe import DataConfig, ObjectivesConfig, Recipe, TrainConfig, read_recipe
from tandem_training.train import Trainer

from .drawings import COLOURS, SHAPES

TINY = ModelConfig(
    vision="efficientnet-lite0", image_size=64, split=9, dim=16, image_token_width=16, max_tokens=8, text_width=24,
    text_heads=2, text_layers=1, fusion_width=16, fusion_layers=1,
)  # fmt: skip


STILL = replace(TINY, grid_dropout=0.0, text_dropout=0.0, fusion_dropout=0.0)


VIT = replace(
    TINY, vision="vit", split=0, patch=32, vision_width=24, vision_heads=2, vision_layers=1
)


TESTS = Path(__file__).parents[1]
RECIPES = TESTS.parent / "recipes"
PYTHON_PATH = f"{TESTS}:{TESTS.parent}"  # of a process that a test starts


NAMES = ["albef", "blip", "clip", "meter", "siglip", "vilt"]


SMALL = {
    "image_size": 64, "dim": 16, "image_token_width": 16, "max_tokens": 8, "text_width": 24, "text_heads": 2,
    "text_layers": 1, "fusion_width": 16, "fusion_heads": 2, "fusion_layers": 1, "patch": 32, "vision_width": 24,
    "vision_heads": 2, "vision_layers": 1,
}  # fmt: skip


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


def tiny_model(config: ModelConfig = TINY) -> Tandem:
    """Random, but with convolutions scaled (He et al. 2015) so that a picture's signal reaches the
    grid."""
    torch.manual_seed(0)
    model = Tandem(config)
    for module in model.vision.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    return model


def tiny(fusion: str, **changes) -> Tandem:
    torch.manual_seed(0)
    model = Tandem(replace(VIT, fusion=fusion, fusion_heads=2, **changes)).eval()
    if not isinstance(model.fusion, NoFusion):
        nn.init.normal_(
            model.fusion.head.weight
        )  # some start at zero, which would hide what the layers do
    return model


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


def small(name: str, shard: Path) -> Recipe:
    """The recipe as shipped, its choices kept, its sizes cut."""
    recipe = read_recipe(RECIPES / f"{name}.toml")
    trunk = {} if recipe.model.vision == "vit" else {"vision": TINY.vision, "split": 16}
    recipe.model = replace(recipe.model, **SMALL, **trunk)
    recipe.data = replace(recipe.data, train=str(shard), dev=str(shard), views=2)
    recipe.train = replace(
        recipe.train, batch=8, token_batch=4, queue=min(recipe.train.queue, 12), epochs=6
    )
    return recipe


def recipe_trainer(recipe: Recipe, out: Path, tokenizer: Tokenizer) -> Trainer:
    torch.manual_seed(0)
    return Trainer(recipe, out, out.parent / "cache", Tandem(recipe.model), tokenizer)


def recipe_of(fusion: str, text: str = "bert", queue: int = 0, **weights: float) -> Recipe:
    train = TrainConfig(
        word_dropout=0.0, soft_mix=0.4 if queue else 0.0, queue=queue, itm_negatives=2
    )
    return Recipe(
        model=replace(VIT, fusion=fusion, text=text),
        train=train,
        objectives=ObjectivesConfig(**weights),
    )


def step_of(model, generator: int = 0) -> Step:
    torch.manual_seed(0)
    ids = torch.randint(4, 14, (6, 7))
    ids[:, 0], ids[:, -1] = 2, 3
    mask = torch.ones_like(ids)
    mask[0, 5:] = 0
    pixels = torch.randint(0, 256, (6, 64, 64, 3), dtype=torch.uint8)
    inputs = (model.vision.trunk(pixels), ids, mask)
    batch = Batch(inputs, ids, mask, torch.arange(6) + 40)
    return Step(
        model, model, batch, encode(model, *inputs), torch.Generator().manual_seed(generator)
    )


def model_gradients(run) -> dict[str, torch.Tensor]:
    """Of the first batch of a run over the drawings, before any step."""
    run.model.train().zero_grad()
    torch.manual_seed(1)
    batch = run.batch(0)
    backward(run._encode, partial(run._losses, 1, batch), batch.inputs, run.recipe.train.chunk)
    return {name: p.grad for name, p in run.model.named_parameters() if p.grad is not None}


def compute_in_float32(replace) -> None:
    """Train without bfloat16, to compare closely. `replace` is setattr or monkeypatch.setattr."""
    batch = TrunkCache.batch
    replace(torch, "autocast", lambda *_, **__: nullcontext())
    replace(TrunkCache, "batch", lambda *given: batch(*given).float())
