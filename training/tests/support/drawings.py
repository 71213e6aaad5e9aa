"""Synthetic drawings with captions: the tests need no data set and no download."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (30, 50, 220),
    "white": (240, 240, 240),
}


SHAPES = ("square", "bar")


OTHER_WORDS = {
    "zh": (
        dict(zip(COLOURS, "红绿蓝白", strict=True)),
        {"square": "方块", "bar": "长条"},
        "一个{}色的{}。",
    ),
    "de": (
        dict(zip(COLOURS, ("rot", "grün", "blau", "weiß"), strict=True)),
        {"square": "Quadrat", "bar": "Balken"},
        "Der {1} ist {0}.",
    ),
}


def drawing(colour: str, shape: str, size: int = 64) -> bytes:
    pixels = np.full((size, size, 3), 120, np.uint8)
    pixels[16:48, 16:48] = COLOURS[colour]
    if shape == "bar":
        pixels[16:48, 28:36] = 0
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=92)
    return out.getvalue()


def rendering(colour: str, shape: str, rng: np.random.Generator, size: int = 64) -> bytes:
    """A drawing of random size, place and background, as JPEG."""
    pixels = np.full((size, size, 3), rng.integers(90, 150), np.uint8)
    side = int(rng.integers(24, 41))
    y, x = rng.integers(2, size - 2 - side, 2)
    pixels[y : y + side, x : x + side] = COLOURS[colour]
    if shape == "bar":
        middle, half = x + side // 2, side // 8
        pixels[y : y + side, middle - half : middle + half + 1] = 0
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=92)
    return out.getvalue()


def write_shard(path: Path, samples: dict[str, tuple[bytes, dict]]) -> None:
    with tarfile.open(path, "w") as tar:
        for key, (jpeg, captions) in samples.items():
            for name, content in (
                (f"{key}.jpg", jpeg),
                (f"{key}.json", json.dumps({"captions": captions}).encode()),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def write_drawings(path: Path, captions: int = 2, languages: tuple[str, ...] = ()) -> Path:
    """A shard of eight drawings, with so many captions each, and one in each of the languages; the
    last has none of those."""
    samples = {
        f"{colour}-{shape}": (
            drawing(colour, shape),
            {"en": [f"a {colour} {shape}", f"one {shape} that is {colour}"][:captions]},
        )
        for colour in COLOURS
        for shape in SHAPES
    }
    for name in list(samples)[:-1]:
        colour, shape = name.split("-")
        for language in languages:
            colours, shapes, sentence = OTHER_WORDS[language]
            samples[name][1][language] = [sentence.format(colours[colour], shapes[shape])]
    write_shard(path, samples)
    return path
