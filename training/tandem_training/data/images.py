"""JPEG bytes to pixels and back."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

ORIENTATION = 0x0112  # EXIF tag
UNDECODABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def check_image(jpeg: bytes) -> None:
    """Decode the whole image at an eighth of its size, which is fast.

    Raises:
        ValueError: the image cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(jpeg)) as image:
            image.draft("RGB", (image.width // 8, image.height // 8))
            image.load()
    except UNDECODABLE as error:
        raise ValueError(f"the image cannot be decoded: {error}") from error


def decode(jpeg: bytes, size: int) -> np.ndarray:
    """JPEG → uint8 [size, size, 3]. The image is squashed into the square, not cropped."""
    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def augment(
    jpeg: bytes, size: int, rng: np.random.Generator, least_area: float = 0.6
) -> np.ndarray:
    """JPEG → a random view, uint8 [size, size, 3].

    The crop has at least `least_area` of the image. It is mirrored with probability one half, and
    its brightness and contrast change by up to 20 %."""
    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    scale = np.sqrt(rng.uniform(least_area, 1.0))
    aspect = np.exp(rng.uniform(-0.15, 0.15))
    w, h = (
        max(1, round(side * min(1.0, scale * f)))
        for side, f in zip(image.size, (aspect, 1 / aspect), strict=True)
    )
    x, y = rng.integers(0, image.width - w + 1), rng.integers(0, image.height - h + 1)
    image = image.resize((size, size), Image.Resampling.BICUBIC, box=(x, y, x + w, y + h))
    pixels = np.asarray(image, dtype=np.float32)
    contrast, brightness = rng.uniform(0.8, 1.2), rng.uniform(0.8, 1.2)
    pixels = (pixels - pixels.mean()) * contrast + pixels.mean() * brightness
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def as_jpeg(path: Path) -> bytes:
    """The bytes of an upright RGB or grey JPEG file; any other image is converted to one.

    Raises:
        ValueError: the image cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            image.load()
            upright = image.getexif().get(ORIENTATION, 1) == 1
            if image.format == "JPEG" and image.mode in ("RGB", "L") and upright:
                return path.read_bytes()
            out = io.BytesIO()
            ImageOps.exif_transpose(image).convert("RGB").save(out, "JPEG", quality=95)
            return out.getvalue()
    except UNDECODABLE as error:
        raise ValueError(f"it cannot be decoded: {error}") from error
