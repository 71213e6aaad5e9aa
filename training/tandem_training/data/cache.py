"""Activations of a frozen trunk, computed once and kept on disk, in several augmented views."""

import hashlib
import json
import math
import shutil
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..models.vision.vision import VisionEncoder
from .decoder import upright_size
from .images import augment, crop, decode, is_mirrored
from .samples import Sample


class FreshViews:
    """Activations of a trunk without weights, of crops that are cut when they are drawn: an image
    looks different each time. View v of an image is always the same crop.

    Raises:
        ValueError: the trunk has weights, and would be computed at every step.
    """

    def __init__(self, samples: list[Sample], vision: VisionEncoder, size: int):
        if vision.trunk_parameters():
            raise ValueError(
                "[data] views = 0 cuts every crop anew, for a vision encoder without a frozen "
                f"trunk; [vision] split = {vision.split}: give at least 1 view, or split = 0"
            )
        self.samples, self.vision, self.size = samples, vision, size

    def batch(self, views: np.ndarray, images: np.ndarray) -> torch.Tensor:
        """Activations of a view of each image [b, c, h, w]."""
        crops = [
            crop(self.samples[i].jpeg, self.size, np.random.default_rng((i, v)))
            for v, i in zip(views.tolist(), images.tolist(), strict=True)
        ]
        with torch.inference_mode():
            return self.vision.trunk(torch.from_numpy(np.stack(crops))).clone()

    def mirrored(self, views: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Whether a view of each image is mirrored, bool [b]: none is."""
        return np.zeros(len(views), bool)


class TrunkCache:
    """Activations of the trunk, bfloat16 stored as int16: [views, images, h, w, c] in one mapped
    file.

    View 0 is the image itself, view 1 its mirror image, the others are random crops. The file's
    name holds the hash of all that determines the content. A file without its `.done` mark is the
    rest of a killed run and is filled again.

    `bfloat16` is the precision of the trunk's computation; float32 otherwise.

    Raises:
        OSError: the folder's disk has too little space.
    """

    def __init__(
        self,
        samples: list[Sample],
        vision: VisionEncoder,
        size: int,
        views: int,
        folder: Path,
        seed: int = 0,
        bfloat16: bool = True,
    ):
        # Keys alone would not tell two data sets apart.
        jpegs = [hashlib.sha256(sample.jpeg).hexdigest() for sample in samples]
        content = [vision.split, size, views, seed, jpegs]
        content += [vision.trunk_key(), bfloat16]
        name = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
        device = vision.tail_parameters()[0].device
        with torch.inference_mode():
            pixels = torch.zeros(1, size, size, 3, dtype=torch.uint8, device=device)
            channels, height, width = vision.trunk(pixels).shape[1:]
        path, done = folder / f"trunk-{name}.bin", folder / f"trunk-{name}.done"
        shape = (views, len(samples), height, width, channels)
        if not done.exists():
            folder.mkdir(parents=True, exist_ok=True)
            # A mapped file on a full disk would kill the process without an error.
            needed, free = 2 * math.prod(shape), shutil.disk_usage(folder).free
            if free < needed:
                raise OSError(
                    f"{folder} has {free >> 20} MiB left; the activations need {needed >> 20} MiB"
                )
            array = np.memmap(path, np.int16, "w+", shape=shape)
            self._fill(array, samples, vision, size, seed, device, bfloat16)
            done.touch()
        self.array = np.memmap(path, np.int16, "r", shape=shape)
        self._samples, self._seed = samples, seed

    @staticmethod
    def _fill(
        array: np.memmap,
        samples: list[Sample],
        vision: VisionEncoder,
        size: int,
        seed: int,
        device: torch.device,
        bfloat16: bool,
    ) -> None:
        rng = np.random.default_rng(seed)
        vision = vision.to(memory_format=torch.channels_last).eval()
        for view in range(array.shape[0]):
            label = f"view {view + 1}/{array.shape[0]}"
            # disable=None: no bar where the output is no terminal.
            for i, sample in enumerate(tqdm(samples, label, leave=False, disable=None)):
                pixels = augment(sample.jpeg, size, rng) if view > 1 else decode(sample.jpeg, size)
                pixels = np.ascontiguousarray(pixels[:, ::-1] if view == 1 else pixels)
                # One image at a time stays in the processor's cache, which is several times faster.
                autocast = torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)
                with torch.inference_mode(), autocast:
                    out = vision.trunk(torch.from_numpy(pixels)[None].to(device)).to(torch.bfloat16)
                out = out[0].permute(1, 2, 0).contiguous()
                array[view, i] = out.view(torch.int16).cpu().numpy()
            print(f"cached {label} of {len(samples)} images", flush=True)
        array.flush()

    def batch(self, views: np.ndarray, images: np.ndarray) -> torch.Tensor:
        """Activations of a view of each image: bfloat16 [b, c, h, w], channels last."""
        rows = torch.from_numpy(np.ascontiguousarray(self.array[views, images]))
        return rows.view(torch.bfloat16).permute(0, 3, 1, 2)

    def mirrored(self, views: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Whether a view of each image is mirrored, bool [b]."""
        return self._mirrored[views, images]

    @cached_property
    def _mirrored(self) -> np.ndarray:
        """bool [views, images], by the draws of `_fill`."""
        rng, views = np.random.default_rng(self._seed), len(self.array)
        sizes = [upright_size(sample.jpeg) for sample in self._samples] if views > 2 else []
        mirrored = np.zeros(self.array.shape[:2], bool)
        mirrored[1:2] = True
        for view in range(2, views):
            mirrored[view] = [is_mirrored(size, rng) for size in sizes]
        return mirrored
