"""Views of images for the encoders, and JPEG files for shards."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .decoder import is_plain_jpeg, read_image

LEAST_AREA = 0.6  # share of an image that a crop has


def decode(content: bytes, size: int) -> np.ndarray:
    """Image file → uint8 [size, size, 3]. The image is squashed into the square, not cropped."""
    return np.asarray(read_image(content).resize((size, size), Image.Resampling.BICUBIC))


def crop_box(size: tuple[int, int], rng: np.random.Generator,
             least_area: float) -> tuple[int, int, int, int]:  # fmt: skip
    """A random part, with at least `least_area`, of an image of that width and height."""
    scale = np.sqrt(rng.uniform(least_area, 1.0))
    aspect = np.exp(rng.uniform(-0.15, 0.15))
    w, h = (
        max(1, round(side * min(1.0, scale * f)))
        for side, f in zip(size, (aspect, 1 / aspect), strict=True)
    )
    x, y = rng.integers(0, size[0] - w + 1), rng.integers(0, size[1] - h + 1)
    return x, y, x + w, y + h


def crop(
    content: bytes, size: int, rng: np.random.Generator, least_area: float = LEAST_AREA
) -> np.ndarray:
    """Image file → a random part with at least `least_area` of it, uint8 [size, size, 3]."""
    image = read_image(content)
    box = crop_box(image.size, rng, least_area)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


@dataclass(frozen=True)
class Change:
    """What `augment` changes beside the crop."""

    contrast: float
    brightness: float
    mirrored: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Change":
        return cls(rng.uniform(0.8, 1.2), rng.uniform(0.8, 1.2), bool(rng.random() < 0.5))


def augment(
    content: bytes, size: int, rng: np.random.Generator, least_area: float = LEAST_AREA
) -> np.ndarray:
    """Image file → a random view, uint8 [size, size, 3].

    The crop has at least `least_area` of the image. It is mirrored with probability one half, and
    its brightness and contrast change by up to 20 %."""
    pixels = crop(content, size, rng, least_area).astype(np.float32)
    change = Change.draw(rng)
    pixels = (pixels - pixels.mean()) * change.contrast + pixels.mean() * change.brightness
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    return pixels[:, ::-1] if change.mirrored else pixels


def is_mirrored(size: tuple[int, int], rng: np.random.Generator) -> bool:
    """Whether `augment` mirrors the view that it draws by `rng` of an image of that width and
    height. It draws the same numbers, without the image."""
    crop_box(size, rng, LEAST_AREA)
    return Change.draw(rng).mirrored


def as_jpeg(path: Path) -> bytes:
    """The bytes of an upright RGB or grey JPEG file without a profile; any other image is
    converted to one by `read_image`.

    Raises:
        ValueError: the image cannot be decoded.
    """
    try:
        content = path.read_bytes()
        if is_plain_jpeg(content):
            return content
        out = io.BytesIO()
        read_image(content).save(out, "JPEG", quality=95, subsampling=0)
        return out.getvalue()
    except (OSError, ValueError) as error:
        raise ValueError(f"it cannot be decoded: {error}") from error
