"""How an image becomes the square of pixels that an image encoder reads (docs/bundles.md)."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .decoder import read_image

FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class PixelRules:
    """The rules of `image_encoder` in a manifest; `src/model/image/placement.ts` does the same."""

    size: int  # side of the square
    # fill squashes the image; crop takes the centre; pad centres the whole image on `background`.
    fit: str = "fill"
    resample: str = "bicubic"
    background: tuple[int, int, int] = WHITE  # under transparent pixels, and around a padded image
    centre: str = (
        "down"  # rounding of half a pixel where a crop begins: down, or to the even number
    )
    source: str = "stored"  # the service makes pixels from the image that it stores, or as sent

    @classmethod
    def of(cls, manifest: dict) -> "PixelRules":
        given = {k: v for k, v in manifest["image_encoder"].items() if k in cls.__annotations__}
        return cls(**given | {"background": tuple(given.get("background", WHITE))})

    def entry(self) -> dict:
        """The keys of a manifest, without those that are its defaults."""
        default = PixelRules(self.size)
        keys = {k: getattr(self, k) for k in ("resample", "background", "centre", "source")}
        changed = {k: v for k, v in keys.items() if v != getattr(default, k)}
        if "background" in changed:
            changed["background"] = list(self.background)
        return {"size": self.size, "fit": self.fit} | changed

    def pixels(self, content: bytes) -> np.ndarray:
        """Image file → uint8 [size, size, 3]. ValueError if it cannot be decoded."""
        image, size = read_image(content, self.background), self.size
        (width, height), left, top = self._placement(*image.size)
        resized = image.resize((width, height), FILTERS[self.resample])
        if (width, height) == (size, size):
            return np.asarray(resized)
        square = Image.new("RGB", (size, size), self.background)
        square.paste(resized, (-left, -top))
        return np.asarray(square)

    def _placement(self, width: int, height: int) -> tuple[tuple[int, int], int, int]:
        """The size to resize to, and the left and the upper edge of the square in it."""
        size = self.size
        if self.fit == "fill":
            return (size, size), 0, 0
        if self.fit == "pad":
            ratio = max(height / size, width / size)
            resized = (max(1, round(width / ratio)), max(1, round(height / ratio)))
            left, top = (-((size - side) // 2) for side in resized)
            return resized, left, top
        long = int(size * max(width, height) / min(width, height))
        resized = (size, long) if width < height else (long, size)
        cut = [(side - size) / 2 for side in resized]
        left, top = (round(c) if self.centre == "even" else int(c) for c in cut)
        return resized, left, top
