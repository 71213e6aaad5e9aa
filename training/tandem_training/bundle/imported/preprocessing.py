"""What a folder says of pixels: the rules of a bundle, and the normalisation inside its graph."""

import json
from dataclasses import dataclass
from pathlib import Path

from ...data.pixel_rules import PixelRules

RESAMPLES = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # PIL.Image.Resampling
NAMES = RESAMPLES.values()
DEFAULT_RESAMPLE = 3  # of the image processors of CLIP, SigLIP and BLIP in transformers


@dataclass(frozen=True)
class Preprocessing:
    """(pixel × rescale − mean) / std of the pixels that follow the rules."""

    rules: PixelRules
    rescale: float
    mean: list[float]
    std: list[float]


def read_json(path: Path) -> dict:
    """ValueError names the file that is missing or holds something else than an object."""
    try:
        value = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} cannot be read: expected an object")
    return value


def of_transformers(folder: Path, side: int, crops: bool) -> Preprocessing:
    """The preprocessor of a folder saved by `transformers`.

    Args:
        side: of the images that the model takes.
        crops: whether the image processor of its architecture crops where the file says nothing.
    Raises:
        ValueError: the folder has none, or one that the service cannot follow.
    """
    alone = folder / "preprocessor_config.json"
    given = (
        read_json(alone)
        if alone.is_file()
        else read_json(folder / "processor_config.json").get("image_processor") or {}
    )
    for key, wanted in (("do_resize", True), ("do_pad", False)):
        if given.get(key, wanted) not in (wanted, None):
            raise ValueError(
                f"{folder}: its preprocessor has {key} {given[key]}, which the service cannot do"
            )
    number = given.get("resample", DEFAULT_RESAMPLE)
    if number not in RESAMPLES:
        raise ValueError(f"{folder}: its preprocessor has resample {number!r}; expected 1, 2 or 3")
    crops = given.get("do_center_crop", crops) or False
    default = {"shortest_edge": side} if crops else {"height": side, "width": side}
    size = given.get("size", default)
    if crops:
        resized, cut = _sides(size), _square(given.get("crop_size", side))
        if cut != (side, side) or resized not in ((side, None), (side, side)):
            raise ValueError(
                f"{folder}: its preprocessor resizes to {size} and crops to "
                f"{given.get('crop_size')}; expected the short side and the crop to be {side}, the "
                "side of the model's images"
            )
    elif _square(size) != (side, side):
        raise ValueError(
            f"{folder}: its preprocessor resizes to {size}; expected {side} × {side}, the size of "
            "the model's images"
        )
    # A crop out of a square is the square.
    fit = "crop" if crops and _sides(size) != (side, side) else "fill"
    rules = PixelRules(side, fit, RESAMPLES[number], source="sent")
    rescale = given.get("rescale_factor", 1 / 255) if given.get("do_rescale", True) else 1.0
    if given.get("do_normalize", True):
        mean, std = given.get("image_mean"), given.get("image_std")
    else:
        mean, std = [0.0] * 3, [1.0] * 3
    if not _three(mean) or not _three(std):
        raise ValueError(
            f"{folder}: its preprocessor has no image_mean and image_std of three numbers"
        )
    return Preprocessing(rules, rescale, mean, std)


def of_open_clip(given: dict, side: int, name: Path) -> Preprocessing:
    """The `preprocess_cfg` of open_clip; `name` stands in errors.

    Raises:
        ValueError: a value that is unknown or that the service cannot follow.
    """
    size = given.get("size", side)
    if _square(size) != (side, side):
        raise ValueError(f"{name}: size {size}; expected {side}, the side of the model's images")
    resample = given.get("interpolation", "bicubic")
    if resample not in NAMES:
        raise ValueError(f"{name}: interpolation {resample!r}; expected {', '.join(NAMES)}")
    fits = {"squash": "fill", "shortest": "crop", "longest": "pad"}
    mode = given.get("resize_mode", "shortest")
    if mode not in fits:
        raise ValueError(f"{name}: resize_mode {mode!r}; expected {', '.join(fits)}")
    rules = {"fit": fits[mode], "resample": resample, "source": "sent"}
    if mode == "shortest":
        rules["centre"] = "even"  # of torchvision
    if mode == "longest":
        fill = given.get("fill_color", 0)
        rules["background"] = (fill,) * 3 if isinstance(fill, int) else tuple(fill)
    mean, std = given.get("mean"), given.get("std")
    if not _three(mean) or not _three(std):
        raise ValueError(f"{name} has no mean and std of three numbers")
    return Preprocessing(PixelRules(side, **rules), 1 / 255, mean, std)


def _three(values: object) -> bool:
    return isinstance(values, list | tuple) and len(values) == 3


def _square(size: object) -> tuple | None:
    """Height and width, where a number alone is both."""
    return (size, size) if isinstance(size, int) else _sides(size)


def _sides(size: object) -> tuple | None:
    """Height and width; of a short side, the width is None."""
    if isinstance(size, int):
        return size, None
    if isinstance(size, list | tuple) and len(size) == 2:
        return tuple(size)
    if isinstance(size, dict):
        if "shortest_edge" in size:
            return size["shortest_edge"], None
        return size.get("height"), size.get("width")
    return None
