"""Kinds of image files, made here, and the pixels that the service makes of them."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from support.drawings import write_shard
from tandem_training.data import decoder
from tandem_training.data.decoder import read_image, upright_size
from tandem_training.data.images import as_jpeg, augment, decode, is_mirrored
from tandem_training.data.samples import read_shards

# Four quarters, row by row, 16 × 16 pixels each. One of them is half transparent in `clear`.
QUARTERS = np.array([[[200, 30, 40], [20, 60, 190]], [[40, 160, 60], [230, 220, 90]]], np.uint8)
CLEAR = np.array([[255, 128], [0, 255]], np.uint8)
GREY = np.array([[200, 30], [90, 250]], np.uint8)
ON_WHITE = np.array([[[200, 30, 40], [137, 157, 222]], [[255, 255, 255], [230, 220, 90]]])
GREY_ON_WHITE = np.array([[200, 142], [255, 250]])
SWAPPED = QUARTERS[:, :, [1, 0, 2]]  # by the profile of `swapping`


def large(quarters: np.ndarray) -> np.ndarray:
    return quarters.repeat(16, 0).repeat(16, 1)


COLOUR, SHADES = Image.fromarray(large(QUARTERS)), Image.fromarray(large(GREY))


def saved(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    exact = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True, "exact": True},
             "AVIF": {"quality": 100, "subsampling": "4:4:4"}}  # fmt: skip
    image.save(out, kind, **exact.get(kind, {}) | options)
    return out.getvalue()


def with_alpha(image: Image.Image) -> Image.Image:
    made = image.copy()
    made.putalpha(Image.fromarray(large(CLEAR)))
    return made


def turned(orientation: int) -> dict:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif}


def png_16(*channels: np.ndarray, colour_type: int, clear: bytes = b"") -> bytes:
    """A PNG of 16 bits a channel, which Pillow does not write in colour."""
    pixels = np.dstack([large(channel).astype(">u2") * 257 for channel in channels]).astype(">u2")

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 32, 32, 16, colour_type, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    parts = chunk(b"IHDR", header) + (chunk(b"tRNS", clear) if clear else b"")
    return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def swapping() -> bytes:
    """A profile of a screen whose red is the green of sRGB, and its green the red."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    places = {profile[at : at + 4].decode(): at + 4 for at in range(132, 132 + 12 * 20, 12)}
    red, green = (slice(places[name], places[name] + 8) for name in ("rXYZ", "gXYZ"))
    profile[red], profile[green] = profile[green], profile[red]
    return bytes(profile)


RGB16 = [QUARTERS[:, :, channel] for channel in range(3)]
PALETTE = COLOUR.quantize(4)
CORNER = PALETTE.getpixel((0, 0))
CORNER_CLEAR = np.where(np.arange(4).reshape(2, 2, 1) == 0, 255, QUARTERS)
GREY_CLEAR = np.where(np.arange(4).reshape(2, 2) == 0, 255, GREY)
PROFILE = {"icc_profile": swapping()}
OTHER = COLOUR.transpose(Image.Transpose.ROTATE_180)
TWO = {"save_all": True, "append_images": [OTHER]}
KINDS = {
    "JPEG": (saved(COLOUR, "JPEG"), QUARTERS),
    "grey JPEG": (saved(SHADES, "JPEG"), GREY),
    "PNG": (saved(COLOUR, "PNG"), QUARTERS),
    "WebP": (saved(COLOUR, "WEBP"), QUARTERS),
    "AVIF": (saved(COLOUR, "AVIF"), QUARTERS),
    "JPEG turned right": (saved(COLOUR, "JPEG", **turned(6)), np.rot90(QUARTERS, -1)),
    "JPEG mirrored": (saved(COLOUR, "JPEG", **turned(2)), QUARTERS[:, ::-1]),
    "PNG turned over": (saved(COLOUR, "PNG", **turned(3)), np.rot90(QUARTERS, 2)),
    "WebP turned left": (saved(COLOUR, "WEBP", **turned(8)), np.rot90(QUARTERS)),
    "TIFF turned right": (saved(COLOUR, "TIFF", **turned(6)), np.rot90(QUARTERS, -1)),
    "PNG with alpha": (saved(with_alpha(COLOUR), "PNG"), ON_WHITE),
    "grey PNG with alpha": (saved(with_alpha(SHADES), "PNG"), GREY_ON_WHITE),
    "WebP with alpha": (saved(with_alpha(COLOUR), "WEBP"), ON_WHITE),
    "TIFF with alpha": (saved(with_alpha(COLOUR), "TIFF"), ON_WHITE),
    "GIF with a clear colour": (saved(PALETTE, "GIF", transparency=CORNER), CORNER_CLEAR),
    "PNG with a palette and a clear colour": (
        saved(PALETTE, "PNG", transparency=CORNER),
        CORNER_CLEAR,
    ),
    "grey PNG with a clear shade": (saved(SHADES, "PNG", transparency=200), GREY_CLEAR),
    "grey PNG of 16 bits": (png_16(GREY, colour_type=0), GREY),
    "grey PNG of 16 bits with a clear shade": (
        png_16(GREY, colour_type=0, clear=struct.pack(">H", 200 * 257)),
        GREY_CLEAR,
    ),
    "grey PNG of 16 bits with alpha": (png_16(GREY, CLEAR, colour_type=4), GREY_ON_WHITE),
    "PNG of 16 bits": (png_16(*RGB16, colour_type=2), QUARTERS),
    "PNG of 16 bits with alpha": (png_16(*RGB16, CLEAR, colour_type=6), ON_WHITE),
    "grey TIFF of 16 bits": (
        saved(Image.fromarray(large(GREY).astype(np.uint16) * 257), "TIFF"),
        GREY,
    ),
    "JPEG with a profile": (saved(COLOUR, "JPEG", **PROFILE), SWAPPED),
    "PNG with a palette and a profile": (saved(PALETTE, "PNG", **PROFILE), SWAPPED),
    "PNG with alpha and a profile": (
        saved(with_alpha(COLOUR), "PNG", **PROFILE),
        ON_WHITE[:, :, [1, 0, 2]],
    ),
    "JPEG with a damaged profile": (saved(COLOUR, "JPEG", icc_profile=b"no" * 99), QUARTERS),
    "animated GIF": (saved(PALETTE, "GIF", **TWO), QUARTERS),
    "animated PNG": (saved(COLOUR, "PNG", **TWO), QUARTERS),
    "TIFF of two pages": (saved(COLOUR, "TIFF", **TWO), QUARTERS),
}


def expect_quarters(pixels: np.ndarray, quarters: np.ndarray) -> None:
    colours = quarters if quarters.ndim == 3 else quarters[:, :, None].repeat(3, 2)
    middles = pixels[8::16, 8::16].astype(int)
    assert np.abs(middles - colours).max() <= 3, f"{middles.tolist()} for {colours.tolist()}"


@pytest.mark.parametrize("kind", KINDS)
def test_the_trainer_decodes_as_the_service_does(kind: str):
    content, quarters = KINDS[kind]
    expect_quarters(decode(content, 32), quarters)


@pytest.mark.parametrize("kind", KINDS)
def test_prepare_writes_the_decoded_colours(tmp_path: Path, kind: str):
    content, quarters = KINDS[kind]
    (tmp_path / "image").write_bytes(content)
    with Image.open(io.BytesIO(as_jpeg(tmp_path / "image"))) as image:
        assert image.format == "JPEG" and "icc_profile" not in image.info
        expect_quarters(np.asarray(image.convert("RGB")), quarters)


def test_a_shard_is_decoded_upright_for_training_too(tmp_path: Path):
    content, quarters = KINDS["JPEG turned right"]
    write_shard(tmp_path / "a.tar", {"k": (content, {"en": ["four colours"]})})
    (sample,) = read_shards(str(tmp_path / "a.tar"))
    expect_quarters(decode(sample.jpeg, 32), quarters)
    view = augment(sample.jpeg, 32, np.random.default_rng(1), least_area=0.99)
    ways = [quarters, quarters[:, ::-1]]
    distances = [np.abs(view[8::16, 8::16].astype(int) - way).mean() for way in ways]
    assert min(distances) < 40


@pytest.mark.parametrize("kind", ["JPEG", "JPEG turned right", "PNG turned over", "AVIF"])
def test_whether_a_view_is_mirrored_is_known_without_the_image(kind: str):
    content, quarters = KINDS[kind]
    found = set()
    for seed in range(8):
        view = augment(content, 32, rng := np.random.default_rng(seed), least_area=0.6)
        ways = [quarters, quarters[:, ::-1]]
        near = [np.abs(view[8::16, 8::16].astype(int) - way).mean() for way in ways]
        same = np.random.default_rng(seed)
        assert is_mirrored(upright_size(content), same) == (near[1] < near[0])
        assert same.bit_generator.state == rng.bit_generator.state  # for the image behind it
        found.add(near[1] < near[0])
    assert len(found) == 2


def test_the_size_of_an_image_is_that_of_its_upright_pixels():
    wide = saved(COLOUR.resize((40, 20)), "JPEG", **turned(6))
    assert upright_size(wide) == read_image(wide).size == (20, 40)


def test_a_file_of_a_type_that_the_service_does_not_read_is_refused():
    with pytest.raises(ValueError, match="not an image of a type that is read: JPEG, PNG"):
        decode(saved(COLOUR, "BMP"), 32)


def damaged_jpeg() -> bytes:
    """libjpeg only warns of it, and makes up pixels."""
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    content = bytearray(saved(Image.fromarray(noise), "JPEG"))
    content[len(content) // 2 : len(content) // 2 + 2] = b"\xff\xd9"  # the end of an image
    return bytes(content)


def test_a_jpeg_whose_data_is_damaged_is_refused_wherever_it_enters(tmp_path: Path):
    content = damaged_jpeg()
    (tmp_path / "image").write_bytes(content)
    for enter in (read_image, lambda _: as_jpeg(tmp_path / "image")):
        with pytest.raises(ValueError, match="(?i)jpeg: .*"):
            enter(content)
    sound = (saved(COLOUR, "JPEG"), {"en": ["four colours"]})
    write_shard(tmp_path / "a.tar", {"a": (content, {"en": ["noise"]}), "b": sound})
    assert [sample.key for sample in read_shards(str(tmp_path / "a.tar"), max_corrupt=0.5)] == ["b"]


def test_a_jpeg_with_fill_bytes_is_kept_as_it_is(tmp_path: Path):
    content = saved(COLOUR, "JPEG")
    at = content.index(b"\xff\xda")
    odd = content[:at] + bytes(5) + content[at:]
    read_image(odd)
    (tmp_path / "image").write_bytes(odd)
    assert as_jpeg(tmp_path / "image") == odd


def test_an_image_of_too_many_pixels_is_refused_by_its_header():
    content = bytearray(saved(COLOUR, "PNG"))
    content[16:24] = struct.pack(">II", 20_000, 20_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with pytest.raises(ValueError, match="20000 × 20000 pixels; at most 178956970 are read"):
        read_image(bytes(content))


@pytest.mark.parametrize("kind", ["JPEG", "PNG with alpha and a profile", "TIFF turned right"])
def test_a_large_image_is_decoded_by_strips(kind: str, monkeypatch: pytest.MonkeyPatch):
    content, _ = KINDS[kind]
    whole = decode(content, 32)
    monkeypatch.setattr(decoder, "STRIP_PIXELS", 32 * 5)
    assert np.array_equal(decode(content, 32), whole)


def test_heic_names_the_package_that_reads_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decoder, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="HEIC is read where the package pillow-heif is installed"):
        read_image(b"\0\0\0\x14ftypheic\0\0\0\0mif1")
