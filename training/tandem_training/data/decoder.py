"""Image files to pixels by libvips, the decoder of the service (`src/model/image/preprocess.ts`).

libvips can hang in a process that was forked after its parent decoded an image: start workers that
decode by "spawn" or "forkserver".
"""

import io
import logging
import re
from collections.abc import Callable
from importlib.util import find_spec
from typing import TypeVar

import numpy as np
import pyvips
from PIL import Image

JPEG = b"\xff\xd8\xff"
# Signatures of formats whose decoders only warn of damaged pixels and make some up. Warnings of
# other decoders are of metadata.
WARNING_FORMATS = (JPEG, b"GIF")
# Warnings of libjpeg (jerror.h) about files that every viewer shows: fill bytes between segments,
# as cameras write them, odd versions and fields. More fill bytes are the rest of damaged data.
HARMLESS = re.compile(
    r": (?:(\d+) extraneous bytes before marker|Warning: unknown JFIF|"
    r"Unknown Adobe color transform|bad ICC marker|Invalid SOS parameters)",
    re.IGNORECASE,
)
MAX_FILL_BYTES = 16
MAX_PIXELS = 2 * 89_478_485  # Pillow's limit against decompression bombs
MAX_BANDS = 5
STRIP_PIXELS = 2**22  # decoded at once, so that steps in between need little memory
# Sample formats that libvips would clip to white: they have no range that maps to 8 bits.
UNREADABLE_FORMATS = ("uint", "int", "char")
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height
DEEP = {"rgb16": b"RGB ", "grey16": b"GRAY"}  # 16 bits a sample; colour space of their profiles
HEVC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
NO_HEIC = "HEIC is read where the package pillow-heif is installed"
T = TypeVar("T")

# Only these loaders, as in the service.
pyvips.operation_block_set("VipsForeignLoad", True)
for _format in ("Jpeg", "Png", "Webp", "Nsgif", "Tiff", "Heif"):
    pyvips.operation_block_set(f"VipsForeignLoad{_format}Buffer", False)
# An image is decoded once, and more threads for one image cost more than they save.
pyvips.cache_set_max(0)
pyvips.concurrency_set(1)
logging.getLogger("pyvips").setLevel(logging.ERROR)  # harmless warnings


def read_image(content: bytes, background: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """The first page of an image file as RGB, 8 bits a channel, as the service reads it.

    The EXIF orientation is applied, colours are converted from the embedded profile to sRGB,
    16 bits are scaled to 8, and transparency is put on the background, white by default. HEIC needs
    the package pillow-heif.

    Raises:
        ValueError: the image is damaged, too large or of a kind that is not read.
    """
    return Image.fromarray(_decoded(content, lambda image: _to_rgb(image, background)))


def check_image(content: bytes) -> None:
    """Decode the whole image: at an eighth of its size libvips overlooks damage of a JPEG.

    Raises:
        ValueError: the image cannot be decoded.
    """
    try:
        read_image(content)
    except ValueError as error:
        raise ValueError(f"the image cannot be decoded: {error}") from error


def upright_size(content: bytes) -> tuple[int, int]:
    """Width and height of what `read_image` gives, from the header alone. ValueError as there."""

    def size(image: pyvips.Image) -> tuple[int, int]:
        sides = image.width, image.height
        return sides[::-1] if _orientation(image) in SIDEWAYS else sides

    return _decoded(content, size)


def is_plain_jpeg(content: bytes) -> bool:
    """Whether it is an upright RGB or grey JPEG without a profile. ValueError if damaged."""

    def is_plain(image: pyvips.Image) -> bool:
        _samples(image)
        return (
            image.interpretation in ("srgb", "b-w")
            and _orientation(image) == 1
            and not image.get_typeof("icc-profile-data")
        )

    return content.startswith(JPEG) and _decoded(content, is_plain)


def _decoded(content: bytes, use: Callable[[pyvips.Image], T]) -> T:
    """What `use` makes of the opened file. ValueError with the reasons of libvips."""
    strict = content.startswith(WARNING_FORMATS)
    try:
        return use(_opened(content, "warning" if strict else "error"))
    except pyvips.Error as error:
        if not (strict and _is_harmless(error)):
            raise ValueError(_reason(error)) from error
    try:
        return use(_opened(content, "error"))
    except pyvips.Error as error:
        raise ValueError(_reason(error)) from error


def _opened(content: bytes, fail_on: str) -> pyvips.Image:
    brands = _brands(content)
    if HEVC_BRANDS.intersection(brands):
        return _opened_heic(content)
    if brands[:1] == [b"avis"]:  # an animated AVIF
        if not {b"avif", b"mif1"}.intersection(brands):
            raise ValueError("an AVIF that is animated and has no still image is not read")
        # libvips reads the still image of an animated AVIF, but not under the animated brand.
        content = content[:8] + b"avif" + content[12:]
    pyvips.vips_lib.vips_error_clear()  # it would add what it said of other files
    image = pyvips.Image.new_from_buffer(content, "", access="sequential", fail_on=fail_on)
    compression = "av1"
    if image.get_typeof("heif-compression"):
        compression = image.get("heif-compression")
    if compression == "hevc":
        return _opened_heic(content)
    if compression != "av1":
        raise ValueError(f"a HEIF compressed as {compression} is not read")
    _refuse_large(image.width, image.height)
    if image.format in UNREADABLE_FORMATS or image.bands > MAX_BANDS:
        raise ValueError(f"an image of {image.bands} samples of {image.format} is not read")
    return image


def _opened_heic(content: bytes) -> pyvips.Image:
    """The primary image, upright and with its profile."""
    if find_spec("pillow_heif") is None:
        raise ValueError(NO_HEIC)
    import pillow_heif

    try:
        file = pillow_heif.open_heif(io.BytesIO(content))
        heic = file[file.primary_index]
        _refuse_large(*heic.size)
        pixels = np.asarray(heic)
    except Exception as error:  # of any type, for a damaged file
        raise ValueError(f"cannot read the HEIC: {error}") from error
    space = "b-w" if pixels.ndim == 2 else "srgb"
    image = pyvips.Image.new_from_array(pixels).copy(interpretation=space)
    if profile := heic.info.get("icc_profile"):
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image


def _refuse_large(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} × {height} pixels; at most {MAX_PIXELS} are read")


def _brands(content: bytes) -> list[bytes]:
    """Main brand, then compatible brands, of a HEIF or AVIF; empty for other files."""
    if content[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(content[:4], "big"), 1024)
    return [content[8:12]] + [content[at : at + 4] for at in range(16, end, 4)]


def _orientation(image: pyvips.Image) -> int:
    return image.get("orientation") if image.get_typeof("orientation") else 1


def _to_rgb(image: pyvips.Image, background: tuple[int, int, int]) -> np.ndarray:
    """→ uint8 [height, width, 3], in the order of sharp: turned, sRGB, flattened, 8 bits."""
    if _orientation(image) != 1:
        image = image.copy_memory().autorot()  # turning needs all rows
    is_deep = _is_deep_with_profile(image)
    is_cmyk = image.interpretation == "cmyk"
    if is_cmyk or image.get_typeof("icc-profile-data"):
        image = _to_srgb(image, is_deep, "cmyk" if is_cmyk else "srgb")
    is_deep = is_deep and image.bands >= 3  # otherwise the profile did not apply
    if image.hasalpha():
        if image.bands == 2:  # the background may have a colour
            image = image.colourspace("srgb", source_space=image.interpretation)
        scale = 256 if image.interpretation in DEEP else 1
        image = image.flatten(background=[scale * value for value in background])
    if is_deep:
        return np.rint(_samples(image) / 257).astype(np.uint8)
    if image.interpretation != "srgb":
        image = image.colourspace("srgb", source_space=image.interpretation)
    pixels = _samples(image if image.format == "uchar" else image.cast("uchar"))
    return pixels.repeat(3, 2) if image.bands == 1 else np.ascontiguousarray(pixels[:, :, :3])


def _samples(image: pyvips.Image) -> np.ndarray:
    """→ uint8 or uint16 [height, width, bands].

    A region is computed by the calling thread. `Image.numpy` starts threads, which takes longer
    than to decode a small image."""
    region, width, bands = pyvips.Region.new(image), image.width, image.bands
    rows = max(1, STRIP_PIXELS // width)
    type_ = np.uint16 if image.format == "ushort" else np.uint8
    strips = [
        np.frombuffer(region.fetch(0, y, width, min(rows, image.height - y)), type_)
        for y in range(0, image.height, rows)
    ]
    return np.concatenate(strips).reshape(image.height, width, bands)


def _is_deep_with_profile(image: pyvips.Image) -> bool:
    """Whether it has 16 bits a sample and a profile that applies (ICC.1, section 7.2)."""
    expected = DEEP.get(image.interpretation)
    if expected is None or not image.get_typeof("icc-profile-data"):
        return False
    profile = image.get("icc-profile-data")
    return profile[16:20] == expected and profile[36:40] == b"acsp"


def _to_srgb(image: pyvips.Image, is_deep: bool, fallback: str) -> pyvips.Image:
    """Colours of the embedded profile, or of `fallback`, in sRGB. A profile that is damaged or
    belongs to other colours is ignored."""
    try:
        return image.icc_transform(
            "srgb",
            embedded=True,
            input_profile=fallback,
            intent="perceptual",
            depth=16 if is_deep else 8,
        )
    except pyvips.Error:
        return image


def _is_harmless(error: pyvips.Error) -> bool:
    match = HARMLESS.search(str(error))
    return match is not None and int(match[1] or 0) <= MAX_FILL_BYTES


def _reason(error: pyvips.Error) -> str:
    """The distinct messages of libvips."""
    if "not in a known format" in str(error):
        return "the bytes are not an image of a type that is read: JPEG, PNG, WebP, GIF, TIFF, AVIF"
    lines = [line.strip().rstrip(".") for line in str(error).splitlines()]
    said = [line for line in lines[1:] or lines if line]
    return "; ".join(dict.fromkeys(said))[:300]
