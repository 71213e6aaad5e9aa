"""Checkpoints with random weights, as folders that `transformers` and open_clip save."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from .drawings import COLOURS, SHAPES

WORDS = [
    "<pad>",
    "<unk>",
    "<start>",
    "<end>",
    "a",
    "photo",
    "of",
    "dog",
    "red",
    "sea",
    "sand",
    "two",
    "one",
    "that",
    "is",
    *COLOURS,
    *SHAPES,
]
MEAN, STD = [0.48, 0.45, 0.4], [0.26, 0.27, 0.28]
LAYERS = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
VISION = {**LAYERS, "image_size": 32, "patch_size": 16}
LENGTH = 8
VOCABULARY = 32


def write_tokenizer(folder: Path, opens: bool) -> Tokenizer:
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>" if opens else "$A <end>",
        special_tokens=[("<start>", 2), ("<end>", 3)],
    )
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>"}))
    return made


def save(model, folder: Path, opens: bool = True) -> Path:
    torch.set_num_threads(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)  # what they start with would hide a fault
            elif parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    model.eval().save_pretrained(folder)
    write_tokenizer(folder, opens)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": MEAN, "image_std": STD})
    )
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# a model\n")
    return folder


def clip(folder: Path) -> Path:
    import transformers

    text = {
        **LAYERS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": LENGTH,
        "eos_token_id": 3,
        "bos_token_id": 2,
    }
    config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=12)
    return save(transformers.CLIPModel(config), folder)


def siglip(folder: Path) -> Path:
    import transformers

    text = {
        **LAYERS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": LENGTH,
        "projection_size": 16,
    }
    config = transformers.SiglipConfig(text_config=text, vision_config=VISION)
    return save(transformers.SiglipModel(config), folder, opens=False)


def blip(folder: Path) -> Path:
    import transformers

    text = {
        **LAYERS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": LENGTH,
        "encoder_hidden_size": 16,
        "pad_token_id": 0,
        "is_decoder": True,
    }
    config = transformers.BlipConfig(
        text_config=text, vision_config=VISION, image_text_hidden_size=12
    )
    return save(transformers.BlipForImageTextRetrieval(config), folder)
