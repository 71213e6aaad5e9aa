"""What is frozen is computed once: the trunk's activations of every photo in several augmented
views, on disk."""

import hashlib
import json
import math
import shutil
from pathlib import Path

import numpy as np
import torch

from ..models.vision.vision import VisionEncoder
from .images import augment, decode
from .samples import Sample


class TrunkCache:
    """Activations of the frozen trunk, bfloat16 kept as int16: [views, photos, h, w, c] in one
    memory-mapped file.

    View 0 is the photo itself, view 1 its mirror image, the others random crops. The file's name
    carries the hash of everything that determines it, and a file counts only when its `.done` mark
    exists: a killed run leaves none."""

    def __init__(
        self, samples: list[Sample], vision: VisionEncoder, size: int, views: int, folder: Path,
        seed: int = 0, bfloat16: bool = True,
    ):  # fmt: skip
        recipe = [vision.split, size, views, seed, [s.key for s in samples]]
        recipe += [vision.trunk_key(), bfloat16]
        name = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]
        device = vision.tail_parameters()[0].device
        with torch.inference_mode():
            pixels = torch.zeros(1, size, size, 3, dtype=torch.uint8, device=device)
            channels, height, width = vision.trunk(pixels).shape[1:]
        path, done = folder / f"trunk-{name}.bin", folder / f"trunk-{name}.done"
        shape = (views, len(samples), height, width, channels)
        if not done.exists():
            folder.mkdir(parents=True, exist_ok=True)
            needed, free = 2 * math.prod(shape), shutil.disk_usage(folder).free
            if (
                free < needed
            ):  # asked before: a mapped file on a full disk would kill the process without a word
                raise OSError(
                    f"{folder} has {free >> 20} MiB left; the activations need {needed >> 20} MiB"
                )
            self._fill(
                np.memmap(path, np.int16, "w+", shape=shape), samples, vision, size, seed, device,
                bfloat16,
            )  # fmt: skip
            done.touch()
        self.array = np.memmap(path, np.int16, "r", shape=shape)

    @staticmethod
    def _fill(array: np.memmap, samples: list[Sample], vision: VisionEncoder, size: int, seed: int,
              device: torch.device, bfloat16: bool) -> None:  # fmt: skip
        rng = np.random.default_rng(seed)
        vision = vision.to(memory_format=torch.channels_last).eval()
        for view in range(array.shape[0]):
            for i, sample in enumerate(samples):
                pixels = augment(sample.jpeg, size, rng) if view > 1 else decode(sample.jpeg, size)
                pixels = np.ascontiguousarray(pixels[:, ::-1] if view == 1 else pixels)
                # One photo at a time: its activations then stay in the processor's cache, several
                # times faster.
                with (
                    torch.inference_mode(),
                    torch.autocast(device.type, torch.bfloat16, enabled=bfloat16),
                ):
                    out = vision.trunk(torch.from_numpy(pixels)[None].to(device)).to(torch.bfloat16)
                array[view, i] = (
                    out[0].permute(1, 2, 0).contiguous().view(torch.int16).cpu().numpy()
                )
            print(f"cached view {view + 1}/{array.shape[0]} of {len(samples)} photos", flush=True)
        array.flush()

    def batch(self, views: np.ndarray, photos: np.ndarray) -> torch.Tensor:
        """Activations bfloat16 [b, c, h, w] (channels last) of the given view of each given photo.
        """
        rows = torch.from_numpy(np.ascontiguousarray(self.array[views, photos]))
        return rows.view(torch.bfloat16).permute(0, 3, 1, 2)
