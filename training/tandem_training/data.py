"""Photos with captions, read from WebDataset shards (tar files of `<key>.jpg` and `<key>.json`)."""

import glob
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image


@dataclass
class Sample:
    key: str
    jpeg: bytes
    captions: list[str]


def read_shards(pattern: str, language: str = "en") -> list[Sample]:
    """Every sample of the shards that match `pattern` (a glob), in shard order. A photo without a caption in
    `language` is left out. Raises FileNotFoundError when no shard matches, ValueError for a broken one."""
    paths = sorted(glob.glob(pattern))
    if not paths:
        raise FileNotFoundError(f"no shard matches {pattern!r}; expected WebDataset .tar files")
    return [sample for path in paths for sample in _read_shard(path, language)]


def _read_shard(path: str, language: str) -> list[Sample]:
    jpegs: dict[str, bytes] = {}
    captions: dict[str, list[str]] = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, kind = Path(member.name).name.rpartition(".")
                if not member.isfile() or kind not in ("jpg", "json"):
                    continue
                content = tar.extractfile(member).read()
                if kind == "jpg":
                    jpegs[key] = content
                else:
                    captions[key] = json.loads(content)["captions"].get(language, [])
    except (tarfile.TarError, KeyError, ValueError) as error:
        raise ValueError(f"shard {path}: {error}") from error
    return [Sample(key, jpeg, captions[key]) for key, jpeg in jpegs.items() if captions.get(key)]


def decode(jpeg: bytes, size: int) -> np.ndarray:
    """JPEG → uint8 [size, size, 3], squashed: nothing is cropped."""
    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def augment(jpeg: bytes, size: int, rng: np.random.Generator, least_area: float = 0.6) -> np.ndarray:
    """Random resized crop of at least `least_area` of the photo, mirrored half of the time, brightness and contrast
    varied by ±20 % → uint8 [size, size, 3]."""
    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    scale = np.sqrt(rng.uniform(least_area, 1.0))
    aspect = np.exp(rng.uniform(-0.15, 0.15))
    w, h = (max(1, round(side * min(1.0, scale * f))) for side, f in zip(image.size, (aspect, 1 / aspect), strict=True))
    x, y = rng.integers(0, image.width - w + 1), rng.integers(0, image.height - h + 1)
    image = image.resize((size, size), Image.Resampling.BICUBIC, box=(x, y, x + w, y + h))
    pixels = np.asarray(image, dtype=np.float32)
    pixels = (pixels - pixels.mean()) * rng.uniform(0.8, 1.2) + pixels.mean() * rng.uniform(0.8, 1.2)
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels
