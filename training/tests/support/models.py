"""Models, tokenizers and runs small enough for a test."""

from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn

from tandem_training.loop import visual_tokens
from tandem_training.loop.backward import backward
from tandem_training.loop.trainer import Trainer, vocabulary_of
from tandem_training.models.fusion.aligned import Aligned
from tandem_training.models.model import ModelConfig, Tandem
from tandem_training.models.registry import PARTS
from tandem_training.models.text.bert import Bert
from tandem_training.models.text.second import SecondText
from tandem_training.models.vision.efficientnet import EfficientNetLite
from tandem_training.models.vision.vit import VisionTransformer
from tandem_training.objectives.features import Batch, Precision
from tandem_training.objectives.lists import Lists
from tandem_training.objectives.objective import Step
from tandem_training.objectives.registry import OBJECTIVES, attach
from tandem_training.recipe import (
    DataConfig,
    GroupConfig,
    OptimiserConfig,
    Recipe,
    TrainConfig,
    read_recipe,
)

from .drawings import COLOURS, SHAPES

# Sizes that any part may have, for a test.
SMALL = {
    "image_size": 64, "token_width": 16, "width": 24, "heads": 2, "layers": 1, "max_tokens": 8,
    "patch": 32,
}  # fmt: skip
TOWERS = ["vision.*", "pooler.*", "text.*"]
FLOAT32 = Precision(False)


def shrunk(config, **changes):
    """A part's config with small sizes, and what else is given, where it has such keys."""
    known = {f.name for f in fields(config)}
    return replace(config, **{k: v for k, v in (SMALL | changes).items() if k in known})


TINY = ModelConfig(
    16,
    shrunk(EfficientNetLite.Config(variant="lite0", split=9)),
    shrunk(Bert.Config()),
    shrunk(Aligned.Config(), width=16),
)
STILL = ModelConfig(
    TINY.dim,
    replace(TINY.vision, pool_dropout=0.0),
    replace(TINY.text, dropout=0.0),
    replace(TINY.fusion, dropout=0.0),
)
VIT = replace(TINY, vision=shrunk(VisionTransformer.Config()))

TESTS = Path(__file__).parents[1]
RECIPES = TESTS.parent / "recipes"
PYTHON_PATH = f"{TESTS}:{TESTS.parent}"  # of a process that a test starts

# Every recipe file by its name, but those that others extend.
FILES = {path.stem: path for path in sorted(RECIPES.glob("*/*.toml")) if path.stem != "family"}
# The recipes of the taxonomy, then those of bundles.
OTHERS = ("shipped", "imported")
NAMES = [name for name, path in FILES.items() if path.parent.name not in OTHERS]
_SHIPPED = [name for name in FILES if name not in NAMES]
# Those that train a fusion on the tokens of a bundle.
ON_BUNDLES = [name for name in _SHIPPED if Lists.name in read_recipe(FILES[name]).objectives]
BUNDLED = [name for name in _SHIPPED if name not in ON_BUNDLES]


def tiny_tokenizer() -> Tokenizer:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "one", "that", "is", *COLOURS, *SHAPES]
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.enable_truncation(TINY.text.max_tokens)
    return made


def masking_tokenizer() -> Tokenizer:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens(["[MASK]"])
    return tokenizer


def scale_convolutions(model: Tandem) -> Tandem:
    """So that an image's signal reaches the grid of random weights (He et al. 2015)."""
    for module in model.vision.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return model


def tiny_model(config: ModelConfig = TINY) -> Tandem:
    torch.manual_seed(0)
    return scale_convolutions(Tandem(config))


# Vision and text encoder of the fusions that fit no others.
COMPANIONS = {
    "shared": ("shared", "shared"),
    "causal_decoder": ("vit", "causal"),
    "gated_decoder": ("vit", "causal"),
}


def random_trunk(size: int) -> EfficientNetLite:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return EfficientNetLite(EfficientNetLite.Config(image_size=size, variant="lite0", split=9))


# The trunk whose cells get codes needs no published weights in any process of a test.
visual_tokens.published_trunk = random_trunk


def with_fusion(fusion: str, text: str = "bert", base: ModelConfig = VIT) -> ModelConfig:
    vision, text = COMPANIONS.get(fusion, (base.vision.kind, text))
    if vision != base.vision.kind:
        base = replace(base, vision=shrunk(PARTS["vision"][vision].Config()))
    return replace(
        base,
        text=shrunk(PARTS["text"][text].Config()),
        fusion=shrunk(PARTS["fusion"][fusion].Config(), width=16),
    )


def tiny(fusion: str, text: str = "bert") -> Tandem:
    torch.manual_seed(0)
    model = Tandem(with_fusion(fusion, text)).eval()
    if fusion != "none":  # some heads start at zero, which would hide what the layers do
        nn.init.normal_(model.fusion.head.weight)
    for name, parameter in model.fusion.named_parameters():
        if name == "gates":  # closed ones too
            nn.init.normal_(parameter)
    return model


def options(**weights) -> dict:
    """Objectives from weights, or from tables of options."""
    return {
        name: OBJECTIVES[name].Options(**(o if isinstance(o, dict) else {"weight": o}))
        for name, o in weights.items()
    }


MATCHING = {"weight": 0.5, "negatives": 2}
STANDARD = {"itc": 1.0, "token_itc": {"pairs": 8}, "itm": MATCHING, "rank": MATCHING}
FUSION = {"itm": MATCHING, "rank": MATCHING}


def trainer(shard: Path, out: Path, tokenizer: Tokenizer, model: ModelConfig = TINY,
            second: SecondText.Config | None = None, objectives: dict | None = None,
            data: dict | None = None, rates: dict | None = None,
            **settings) -> Trainer:  # fmt: skip
    """A run over the drawings; settings are those of [train]."""
    others = {"second_itc": 0.5, "second_text_itc": 0.25} if second else {}
    wanted = objectives or STANDARD | others
    groups = {"text": 1e-3} | (rates or {})
    recipe = Recipe(
        DataConfig(str(shard), str(shard), views=2, **{"word_dropout": 0.0} | (data or {})),
        model,
        {"second_text": second} if second else {},
        options(**wanted),
        TrainConfig(**{"batch": 8, "warmup": 0.1} | settings),
        OptimiserConfig(
            **{n: GroupConfig(r) if type(r) is float else r for n, r in groups.items()}
        ),
    )
    recipe.check()
    return Trainer(recipe, out, shard.parent / "cache", tiny_model(model), tokenizer)


def small(name: str, shard: Path) -> Recipe:
    """The recipe as shipped, its choices kept, its sizes cut."""
    recipe = read_recipe(FILES[name])
    vision = {"variant": "lite0"}
    model = recipe.model
    recipe.model = replace(
        model, dim=16, vision=shrunk(model.vision, **vision), text=shrunk(model.text),
        fusion=shrunk(model.fusion, width=16),
    )  # fmt: skip
    return cut(recipe, shard)


def cut(recipe: Recipe, shard: Path) -> Recipe:
    """The recipe over eight drawings."""
    views = min(2, recipe.data.views)
    recipe.data = replace(recipe.data, train=str(shard), dev=str(shard), views=views)
    recipe.train = replace(recipe.train, start="", batch=8, epochs=6)
    for name, own in recipe.objectives.items():
        limits = {"pairs": 4, "queue": 12}
        changes = {k: v for k, v in limits.items() if getattr(own, k, 0) > v}
        recipe.objectives[name] = replace(own, **changes)
    if recipe.inputs:
        second = replace(recipe.inputs["second_text"], languages={"zh": 2.0, "de": 1.0},
                         vocabulary=120, pretrain_steps=3)  # fmt: skip
        recipe.inputs = {"second_text": second}
    return recipe


def recipe_trainer(recipe: Recipe, out: Path, tokenizer: Tokenizer) -> Trainer:
    torch.manual_seed(0)
    return Trainer(recipe, out, out.parent / "cache", Tandem(recipe.model), tokenizer)


def moved(run: Trainer) -> set[str]:
    """The parameters that a step changes."""
    before = {name: p.clone() for name, p in run.model.named_parameters()}
    run.train_step()
    return {n for n, p in run.model.named_parameters() if not torch.equal(p, before[n])}


def step_of(model: Tandem, generator: int = 0, **objectives) -> Step:
    """A step of six pairs for a model that gets these objectives."""
    attach(options(**objectives), model, vocabulary_of(masking_tokenizer()))
    torch.manual_seed(0)
    ids = torch.randint(4, 14, (6, 7))
    ids[:, 0], ids[:, -1] = 2, 3
    mask = torch.ones_like(ids)
    mask[0, 5:] = 0
    pixels = torch.randint(0, 256, (6, 64, 64, 3), dtype=torch.uint8)
    texts = {"text.ids": ids, "text.mask": mask}
    inputs = {"image.activations": model.vision.trunk(pixels)} | texts
    batch = Batch(inputs, {"image.ids": torch.arange(6) + 40} | texts)
    random = torch.Generator().manual_seed(generator)
    return Step(1, model, model, batch, model(inputs), random, FLOAT32)


def model_gradients(run: Trainer) -> dict[str, torch.Tensor]:
    """Of the first batch of a run over the drawings, before any step."""
    run.model.train().zero_grad()
    torch.manual_seed(1)
    batch = run.batch(0)
    backward(run._encode, partial(run._losses, 1, batch), batch.inputs, run.recipe.train.chunk)
    return {name: p.grad for name, p in run.model.named_parameters() if p.grad is not None}
