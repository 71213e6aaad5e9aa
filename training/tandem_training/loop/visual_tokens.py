"""Codes of image cells, the targets of objectives that predict hidden or later cells."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits
from torch import Tensor

from ..data.atomic import replace_file
from ..data.cache import TrunkCache
from ..data.samples import Sample
from ..models.vision.efficientnet import EfficientNetLite
from ..models.vision.vision import VisionEncoder

FITTED = 50_000  # cells that the codes are fitted on
CHUNK = 256  # images


def published_trunk(size: int) -> VisionEncoder:
    """The frozen trunk that starting weights exist for, for images of that size."""
    vision = EfficientNetLite(EfficientNetLite.Config(image_size=size))
    vision.load_published()
    return vision


class VisualTokens:
    """The cells of a frozen trunk, averaged over a grid of side² and clustered by k-means. They
    stand for the learnt codes of DALL-E's autoencoder in BEiT (Bao et al. 2021, arXiv:2106.08254)
    and of VQ-KD in BEiT-3.

    codes: int64 [views, images, side²], in the order of `TrunkCache`, of which it reads the same
    views of the same seed."""

    def __init__(self, samples: list[Sample], size: int, views: int, side: int, count: int,
                 folder: Path, bfloat16: bool):  # fmt: skip
        trunk = published_trunk(size)
        cache = TrunkCache(samples, trunk, size, views, folder, bfloat16=bfloat16)
        # Kept, so that all processes and a resumed run have the same.
        path = folder / f"codes-{Path(cache.array.filename).stem}-{side}-{count}.npy"
        if not path.exists():
            with replace_file(path) as file:
                np.save(file, self._fit(cache, views, len(samples), side, count))
        self.codes = torch.from_numpy(np.load(path))

    @classmethod
    def _fit(cls, cache: TrunkCache, views: int, count: int, side: int, codes: int) -> np.ndarray:
        images = np.arange(count)
        cells = [
            cls._cells(cache.batch(np.full(len(part), view), part), side)
            for view in range(views)
            for part in np.array_split(images, -(-count // CHUNK))
        ]
        flat = np.concatenate(cells).reshape(-1, cells[0].shape[-1])
        chosen = np.random.default_rng(0).permutation(len(flat))[:FITTED]
        clusters = MiniBatchKMeans(min(codes, len(chosen)), random_state=0, n_init=1)
        with threadpool_limits(1):  # the codes do not depend on the number of threads
            clusters.fit(flat[np.sort(chosen)])
            found = clusters.predict(flat)
        return found.astype(np.int64).reshape(views, count, side * side)

    @staticmethod
    def _cells(activations: Tensor, side: int) -> np.ndarray:
        """Activations [b, c, h, w] → unit vectors [b, side², c]."""
        grid = F.adaptive_avg_pool2d(activations.float(), side).flatten(2).transpose(1, 2)
        return F.normalize(grid, dim=-1).numpy()

    def batch(self, views: np.ndarray, images: np.ndarray) -> Tensor:
        """Codes of a view of each image [b, side²]."""
        return self.codes[torch.from_numpy(views), torch.from_numpy(images)]
