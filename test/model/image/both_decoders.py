"""Decodes all files in a folder as the trainer does, with files of Pillow among them if it is to
make them. Prints, for each, its pixels as base64 or why it is refused."""

import base64
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from tandem_training.data.images import decode

SIDE = 32
QUARTERS = np.array([[[200, 30, 40], [20, 60, 190]], [[40, 160, 60], [230, 220, 90]]], np.uint8)
CLEAR = np.array([[255, 128], [0, 255]], np.uint8)


def large(quarters: np.ndarray) -> np.ndarray:
    return quarters.repeat(SIDE // 2, 0).repeat(SIDE // 2, 1)


def swapping() -> bytes:
    """A profile of a screen whose red is the green of sRGB, and its green the red."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    places = {profile[at : at + 4].decode(): at + 4 for at in range(132, 132 + 12 * 20, 12)}
    red, green = (slice(places[name], places[name] + 8) for name in ("rXYZ", "gXYZ"))
    profile[red], profile[green] = profile[green], profile[red]
    return bytes(profile)


def make(folder: Path) -> None:
    image = Image.fromarray(large(QUARTERS))
    grey, palette, cmyk = image.convert("L"), image.quantize(4), image.convert("CMYK")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    other = image.transpose(Image.Transpose.ROTATE_180)
    clear = image.copy()
    clear.putalpha(Image.fromarray(large(CLEAR)))
    two = {"save_all": True, "append_images": [other]}
    profile = {"icc_profile": swapping()}

    def save(name: str, of: Image.Image = image, **options) -> None:
        of.save(folder / f"pillow {name}", **options)

    best = {"quality": 100, "subsampling": 0}
    save("cmyk.jpg", cmyk, **best)
    save("grey.jpg", grey, quality=100)
    save("halved across.jpg", quality=100, subsampling="4:2:2")
    save("of colours unchanged.jpg", quality=100, keep_rgb=True)
    save("restarts.jpg", restart_marker_blocks=1, **best)
    save("profile.jpg", **best, **profile)
    save("damaged profile.jpg", **best, icc_profile=b"no" * 99)
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(f"turned {orientation}.jpg", exif=exif, **best)
        if orientation in (5, 6):
            save(f"turned {orientation}.png", exif=exif)
            save(f"turned {orientation}.webp", exif=exif, lossless=True)
            save(f"turned {orientation}.tif", exif=exif)
            save(f"turned {orientation}.avif", exif=exif, **best | {"subsampling": "4:4:4"})
    save("two colours.png", grey.convert("1"))
    save("palette with a clear colour.png", palette, transparency=1)
    save("palette with alphas.png", palette, transparency=bytes([255, 128, 0, 255]))
    save("grey with a clear shade.png", grey, transparency=grey.getpixel((0, 0)))
    save("grey of 16 bits.png", deep)
    save("grey with alpha.png", clear.convert("LA"))
    save("animated.png", **two)
    save("profile and alpha.png", clear, **profile)
    save("clear colour.gif", palette, transparency=2)
    save("animated.gif", palette, **two)
    save("animated.webp", lossless=True, **two)
    save("animated.avif", quality=100, subsampling="4:4:4", **two)
    for name, of in {
        "two colours": grey.convert("1"),
        "grey": grey,
        "palette": palette,
        "grey of 16 bits": deep,
        "cmyk": cmyk,
        "alpha": clear,
        "grey with alpha": clear.convert("LA"),
        "floats": grey.convert("F"),
    }.items():
        save(f"{name}.tif", of)
    for compression in ("tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg", "zstd", "lzma"):
        save(f"{compression}.tif", compression=compression)
    save("group4.tif", grey.convert("1"), compression="group4")
    save("of another type.bmp")
    save("of another type.jp2")
    save("of another type.ico")


def decoded(content: bytes) -> dict:
    try:
        return {"pixels": base64.b64encode(decode(content, SIDE).tobytes()).decode()}
    except ValueError as error:
        return {"refused": str(error)}


def main() -> None:
    about = json.load(sys.stdin)
    folder = Path(about["folder"])
    if about["made"]:
        make(folder)
    json.dump(
        {path.name: decoded(path.read_bytes()) for path in sorted(folder.iterdir())}, sys.stdout
    )


if __name__ == "__main__":
    main()
