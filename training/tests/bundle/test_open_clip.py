"""Folders of open_clip's hub against open_clip's own preprocessing and tokenizers, on random
models."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from tandem_training.bundle.encoders import BundleEncoders
from tandem_training.bundle.hugging_face import import_checkpoint

open_clip = pytest.importorskip("open_clip", reason="open_clip_torch is not installed (extra dev)")

TEXTS = [
    "a brown dog runs across the grass", "A Brown DOG Runs!", "x", "?", "größere Straße",
    "it is 12:30 (isn’t it)", "snow_covered mountains", 'a "quoted" word', "  spaces   and\ttabs ",
    "a cat 🐈", "so long that it is cut " * 30, "café près de la plage",
]  # fmt: skip
SIZES = [(64, 64), (65, 64), (101, 77), (640, 427), (70, 300), (15, 22), (250, 251), (63, 190)]
LEAST = 0.9999
VISION = {"image_size": 64, "layers": 2, "width": 32, "patch_size": 16, "head_width": 8}
TEXT = {"width": 32, "heads": 4, "layers": 2}
CLIP = {
    "embed_dim": 24,
    "vision_cfg": VISION,
    "text_cfg": {**TEXT, "context_length": 77, "vocab_size": 49408},
}
SIGLIP = {
    "embed_dim": 24,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": VISION,
    "text_cfg": {
        **TEXT,
        "context_length": 16,
        "vocab_size": 300,
        "hf_tokenizer_name": "some/tokenizer",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "no_causal_mask": True,
        "pool_type": "last",
        "proj_bias": True,
    },
}
MOBILE = {**CLIP, "custom_text": True, "text_cfg": {**CLIP["text_cfg"], "no_causal_mask": True}}
MEAN, STD = [0.48, 0.45, 0.4], [0.26, 0.27, 0.28]


def preprocess(resize_mode: str, interpolation: str = "bicubic") -> dict:
    return {"mean": MEAN, "std": STD, "interpolation": interpolation, "resize_mode": resize_mode}


def write_folder(folder: Path, model_cfg: dict, preprocess_cfg: dict) -> Path:
    folder.mkdir()
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    if "hf_tokenizer_name" in model_cfg["text_cfg"]:
        write_unigrams(folder)
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.12)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def write_unigrams(folder: Path) -> None:
    """As SigLIP: pieces of lower-case text, </s> at the end, which also pads."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unused>", "</s>", "<unk>"], unk_token="<unk>",
        show_progress=False,
    )  # fmt: skip
    made.train_from_iterator([text.lower() for text in TEXTS], trainer)
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    made.save(str(folder / "tokenizer.json"))
    named = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "</s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("clip") / "source", CLIP, preprocess("shortest"))


def pictures() -> list[bytes]:
    rng = np.random.default_rng(0)
    files = []
    for width, height in SIZES:
        coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
        out = io.BytesIO()
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(out, "PNG")
        files.append(out.getvalue())
    return files


@torch.inference_mode()
def originals(folder: Path, files: list[bytes]) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit embeddings by open_clip alone."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    pixels = torch.stack([transform(Image.open(io.BytesIO(file))) for file in files])
    ids = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    model.eval()
    images, texts = model.encode_image(pixels), model.encode_text(ids)
    return F.normalize(images, dim=-1), F.normalize(texts, dim=-1)


@pytest.mark.parametrize(
    ("model_cfg", "preprocess_cfg", "rules"),
    [
        (CLIP, preprocess("shortest"), {"fit": "crop", "centre": "even", "source": "sent"}),
        (
            MOBILE,
            preprocess("shortest", "bilinear"),
            {"fit": "crop", "resample": "bilinear", "centre": "even", "source": "sent"},
        ),
        (SIGLIP, preprocess("squash"), {"fit": "fill", "source": "sent"}),
        (
            CLIP,
            preprocess("longest") | {"fill_color": 7},
            {"fit": "pad", "background": [7, 7, 7], "source": "sent"},
        ),
    ],
    ids=["CLIP", "MobileCLIP", "SigLIP", "padded"],
)
def test_an_imported_folder_equals_open_clip(
    model_cfg: dict, preprocess_cfg: dict, rules: dict, tmp_path: Path
):
    folder = write_folder(tmp_path / "source", model_cfg, preprocess_cfg)
    manifest = import_checkpoint(folder, tmp_path / "bundle")
    assert manifest["license"] == "mit" and manifest["embedding"] == {"dim": 24}
    about = {k: v for k, v in manifest["image_encoder"].items() if k not in ("file", "precision")}
    assert about == {"size": 64, **rules}
    encoders, files = BundleEncoders(tmp_path / "bundle"), pictures()
    images, texts = originals(folder, files)
    assert (images @ images.T).min() < 0.99 and (texts @ texts.T).min() < 0.99
    pixels = np.stack([encoders.rules.pixels(file) for file in files])
    together = (images.numpy() * encoders.images(pixels)[0]).sum(1)
    assert together.min() >= LEAST
    alone = [encoders.texts([text])[0][0] for text in TEXTS]
    assert (texts.numpy() * encoders.texts(TEXTS)[0]).sum(1).min() >= LEAST
    assert (texts.numpy() * np.stack(alone)).sum(1).min() >= LEAST
    bias = -10 if "init_logit_bias" in model_cfg else -0.28 / 0.07
    assert manifest["match"] == pytest.approx({"logit": 0, "similarity": 1 / 0.07, "bias": bias})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("preprocess_cfg"), "has no model_cfg and preprocess_cfg"),
        (lambda c: c["preprocess_cfg"].update(resize_mode="fit"), "resize_mode 'fit'; expected"),
        (lambda c: c["preprocess_cfg"].update(interpolation="random"), "interpolation 'random'"),
        (lambda c: c["preprocess_cfg"].update(size=48), "size 48; expected 64"),
        (lambda c: c["preprocess_cfg"].pop("mean"), "no mean and std of three numbers"),
        (
            lambda c: c["model_cfg"]["text_cfg"].update(hf_model_name="bert"),
            "its text encoder is bert of transformers",
        ),
        (
            lambda c: c["model_cfg"]["text_cfg"].update(tokenizer_kwargs={"strip_sep_token": True}),
            "its tokenizer has the options",
        ),
        (lambda c: c["model_cfg"].update(embed_dim=48), "cannot be loaded by open_clip"),
    ],
)
def test_a_folder_that_is_nearly_one_is_refused(change, message: str, clip: Path, tmp_path: Path):
    folder = shutil.copytree(clip, tmp_path / "source")
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        import_checkpoint(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_of_another_file_are_not_read(clip: Path, tmp_path: Path):
    folder = shutil.copytree(clip, tmp_path / "source")
    (folder / "open_clip_model.safetensors").rename(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(ValueError, match="has no open_clip_model.safetensors"):
        import_checkpoint(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
