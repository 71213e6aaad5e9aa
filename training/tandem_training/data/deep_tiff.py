"""TIFF files that Pillow does not read: 16-bit CIELab, and floating-point RGB."""

import io

import numpy as np
import tifffile
from PIL import Image

WHITE = np.array([0.95047, 1.0, 1.08883])  # D65, which libvips takes for CIELab too
XYZ_TO_SRGB = np.array(
    [
        [3.2404542, -1.5371385, -0.4985314],
        [-0.9692660, 1.8760108, 0.0415560],
        [0.0556434, -0.2040259, 1.0572252],
    ]
)  # IEC 61966-2-1


def read_deep_tiff(content: bytes) -> Image.Image:
    """The first page as RGB, 8 bits a channel. Floating-point RGB is linear light from 0 to 1.

    Raises:
        ValueError: it is another kind of TIFF, or damaged.
    """
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages.first
            kind, type_, shape = page.photometric, page.dtype, page.shape
            lab = kind == tifffile.PHOTOMETRIC.CIELAB and type_ == np.uint16
            floats = kind == tifffile.PHOTOMETRIC.RGB and type_ is not None and type_.kind == "f"
            values = page.asarray() if (lab or floats) and shape[2:] == (3,) else None
    except Exception as error:  # of any type, for a damaged file
        raise ValueError(f"cannot read the TIFF: {error}") from error
    if values is None:
        raise ValueError(f"cannot read a TIFF of {type_} samples, shape {shape}, {kind}")
    return _from_linear(_lab_to_linear(values) if lab else values.astype(np.float64))


def _lab_to_linear(values: np.ndarray) -> np.ndarray:
    """L is 0 to 65535 for 0 to 100, a and b are signed and times 256 (TIFF 6.0, section 23)."""
    lightness = values[..., 0] * (100 / 65535)
    a, b = (values[..., at].astype(np.int16) / 256 for at in (1, 2))
    y = (lightness + 16) / 116
    roots = np.stack([y + a / 500, y, y - b / 200], -1)
    xyz = np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29)) * WHITE
    return xyz @ XYZ_TO_SRGB.T


def _from_linear(light: np.ndarray) -> Image.Image:
    light = light.clip(0, 1)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return Image.fromarray((255 * srgb).round().astype(np.uint8))
