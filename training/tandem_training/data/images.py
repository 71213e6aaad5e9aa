"""Image files to pixels, by the rules of the service, and to JPEG."""

import functools
import importlib.util
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from .deep_tiff import read_deep_tiff

ORIENTATION = 0x0112  # EXIF tag
UNDECODABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
# Those that the service reads.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF")
JPEG, TIFF = b"\xff\xd8\xff", (b"II*\0", b"MM\0*")  # signatures
UNREAD_COMPRESSIONS = ("zstd", "lzma")
SRGB = ImageCms.createProfile("sRGB")
# The profile that libvips takes for CMYK without one, "Chemical proof" by Graeme W. Gill, in the
# public domain; only its table from CMYK to Lab.
CMYK = (Path(__file__).parent / "cmyk.icc").read_bytes()

if importlib.util.find_spec("pillow_heif"):
    import pillow_heif

    pillow_heif.register_heif_opener()
    FORMATS += ("HEIF",)


def check_image(content: bytes) -> None:
    """Decode the whole image, a JPEG at an eighth of its size, which is fast.

    Raises:
        ValueError: the image cannot be decoded.
    """
    try:
        if not content.startswith(JPEG):
            read_image(content)
            return
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            image.draft("RGB", (image.width // 8, image.height // 8))
            image.load()
    except UNDECODABLE as error:
        raise ValueError(f"the image cannot be decoded: {error}") from error


def read_image(
    content: bytes, background: tuple[int, int, int] = (255, 255, 255)
) -> Image.Image:
    """The first page of an image file as RGB, 8 bits a channel, as the service reads it.

    The EXIF orientation is applied, colours are converted from the embedded profile to sRGB,
    16 bits are scaled to 8, and transparency is put on the background, white by default
    (`src/model/image/preprocess.ts`).
    HEIC needs the package pillow-heif.

    Raises:
        OSError, ValueError: the image cannot be decoded.
    """
    try:
        opened = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        if content[:4] in TIFF:
            return read_deep_tiff(content)
        raise
    with opened:
        if opened.format == "TIFF" and opened.info.get("compression") in UNREAD_COMPRESSIONS:
            raise ValueError(f"a TIFF compressed as {opened.info['compression']} is not read")
        opened.load()
        profile, image = opened.info.get("icc_profile"), ImageOps.exif_transpose(opened)
    if image.mode == "LAB":
        raise ValueError("a CIELab TIFF of 8 bits is not read")
    image, alpha = _split_alpha(image)
    transform = _to_srgb(profile, image.mode) if profile else None
    if transform is None and image.mode == "CMYK":
        transform = _to_srgb(CMYK, "CMYK")
    image = image.convert("RGB") if transform is None else ImageCms.applyTransform(image, transform)
    if alpha is None:
        return image
    flat = Image.new("RGB", image.size, background)
    flat.paste(image, mask=alpha)
    return flat


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours, 8 bits a channel, in the mode of their profile; and the alpha, if any."""
    if image.mode.startswith("I;16"):
        values, clear = np.asarray(image), image.info.get("transparency")
        alpha = None if clear is None else Image.fromarray(255 * (values != clear).astype(np.uint8))
        return Image.fromarray((values >> 8).astype(np.uint8)), alpha
    if image.mode in ("I", "F"):
        return Image.fromarray(np.asarray(image).clip(0, 255).astype(np.uint8)), None
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        return colours.convert("L" if grey else "RGB"), colours.getchannel("A")
    if image.mode == "CMYK":
        return image, None
    return image.convert("L" if grey else "RGB"), None


@functools.lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """None for a profile that is damaged or belongs to another mode, which is ignored."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(source, SRGB, mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    except (OSError, ImageCms.PyCMSError):
        return None


def decode(content: bytes, size: int) -> np.ndarray:
    """Image file → uint8 [size, size, 3]. The image is squashed into the square, not cropped."""
    return np.asarray(read_image(content).resize((size, size), Image.Resampling.BICUBIC))


def crop(
    content: bytes, size: int, rng: np.random.Generator, least_area: float = 0.6
) -> np.ndarray:
    """Image file → a random part with at least `least_area` of it, uint8 [size, size, 3]."""
    image = read_image(content)
    scale = np.sqrt(rng.uniform(least_area, 1.0))
    aspect = np.exp(rng.uniform(-0.15, 0.15))
    w, h = (
        max(1, round(side * min(1.0, scale * f)))
        for side, f in zip(image.size, (aspect, 1 / aspect), strict=True)
    )
    x, y = rng.integers(0, image.width - w + 1), rng.integers(0, image.height - h + 1)
    box = (x, y, x + w, y + h)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


def augment(
    content: bytes, size: int, rng: np.random.Generator, least_area: float = 0.6
) -> np.ndarray:
    """Image file → a random view, uint8 [size, size, 3].

    The crop has at least `least_area` of the image. It is mirrored with probability one half, and
    its brightness and contrast change by up to 20 %."""
    pixels = crop(content, size, rng, least_area).astype(np.float32)
    contrast, brightness = rng.uniform(0.8, 1.2), rng.uniform(0.8, 1.2)
    pixels = (pixels - pixels.mean()) * contrast + pixels.mean() * brightness
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def as_jpeg(path: Path) -> bytes:
    """The bytes of an upright RGB or grey JPEG file without a profile; any other image is
    converted to one by `read_image`.

    Raises:
        ValueError: the image cannot be decoded.
    """
    try:
        content = path.read_bytes()
        if content.startswith(JPEG):
            with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
                image.load()
                upright = image.getexif().get(ORIENTATION, 1) == 1
                plain = image.mode in ("RGB", "L") and not image.info.get("icc_profile")
            if plain and upright:
                return content
        out = io.BytesIO()
        read_image(content).save(out, "JPEG", quality=95, subsampling=0)
        return out.getvalue()
    except UNDECODABLE as error:
        raise ValueError(f"it cannot be decoded: {error}") from error
