"""Vision encoder: the regions of a detector of the user's own, an ONNX file."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from .vision import VisionConfig, VisionEncoder

CONTRACT = (
    "expected an input 'pixels' uint8 [b, s, s, 3], outputs 'boxes' float32 [b, n, 4] in [0, 1] "
    "and 'features' float32 [b, n, d], with s, n and d fixed"
)


class Detector(VisionEncoder):
    """Pixels uint8 [b, s, s, 3] → features of the detector's n regions [b, n, d].

    The file: input `pixels` uint8 [b, s, s, 3]; outputs `boxes` float32 [b, n, 4], x1, y1, x2, y2
    as shares of the image, and `features` float32 [b, n, d]. It is frozen: training caches what it
    gives, and the export joins it with the image graph of the bundle, so its licence applies to the
    bundle. ValueError for a file of another form, or another file than the checkpoint's."""

    name = "detector"
    gives = VisionEncoder.gives | {"image.boxes"}
    places = True
    stride, split = 1, 0

    @dataclass(frozen=True)
    class Config(VisionConfig):
        file: str = ""
        title: str = ""  # of the detector, for manifest and card
        license: str = ""
        split: int = 0
        token_width: int = 384
        concepts: int = 400

    def __init__(self, config: Config):
        super().__init__()
        self.file, self.title, self.license = Path(config.file), config.title, config.license
        if not self.file.is_file():
            raise ValueError(
                f"[vision] file = {config.file!r}; expected the ONNX file of a detector"
            )
        if not (self.title and self.license):
            raise ValueError("[vision] title and license of the detector are missing")
        self.regions, self.width = _sizes(self.file, config.image_size)
        self.norm = nn.LayerNorm(self.width)
        self.sha256 = hashlib.sha256(self.file.read_bytes()).hexdigest()
        digest = torch.tensor(list(bytes.fromhex(self.sha256)), dtype=torch.uint8)
        self.register_buffer("digest", digest)

    def trunk(self, pixels: Tensor) -> Tensor:
        """Pixels → features and boxes [b, d + 4, 1, n]; what is such already stays as it is."""
        if pixels.is_floating_point():
            return pixels
        feed = {"pixels": np.ascontiguousarray(pixels.cpu().numpy())}
        session = _session(self.file, self.sha256)
        boxes, features = session.run(["boxes", "features"], feed)
        return joined(torch.from_numpy(boxes), torch.from_numpy(features)).to(pixels.device)

    def tail(self, activations: Tensor) -> Tensor:
        return self.norm(activations[:, :-4, 0].transpose(1, 2))

    def boxes(self, activations: Tensor) -> Tensor:
        return activations[:, -4:, 0].transpose(1, 2).float()

    def trunk_parameters(self) -> list[nn.Parameter]:
        return []

    def trunk_key(self) -> list:
        return [self.name, self.sha256]

    def load_published(self) -> None:
        """The file has its weights."""

    def about(self) -> dict:
        """For the manifest: whose regions these are, and under which terms."""
        return {"name": self.title, "license": self.license, "sha256": self.sha256}

    def _load_from_state_dict(self, state_dict, prefix, *others):
        own = bytes(state_dict[f"{prefix}digest"].tolist()).hex()
        if own != self.sha256:
            raise ValueError(
                f"{self.file} has the SHA-256 {self.sha256}; the checkpoint was trained on the "
                f"regions of a detector with {own}"
            )
        super()._load_from_state_dict(state_dict, prefix, *others)


def joined(boxes: Tensor, features: Tensor) -> Tensor:
    """Boxes [b, n, 4] and features [b, n, d] → as a trunk gives them, [b, d + 4, 1, n]."""
    return torch.cat([features, boxes], -1).transpose(1, 2).unsqueeze(2)


@lru_cache(maxsize=1)
def _session(file: Path, sha256: str) -> onnxruntime.InferenceSession:
    """Outside of the module, which is copied for the moving average."""
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def _sizes(file: Path, image_size: int) -> tuple[int, int]:
    """Regions an image, and numbers of a feature."""
    try:
        graph = onnx.load(file, load_external_data=False).graph
    except Exception as error:  # protobuf raises errors of its own
        raise ValueError(f"{file} is no ONNX file: {error}") from error
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    pixels, boxes, features = (shapes.get(name, []) for name in ("pixels", "boxes", "features"))
    fixed = len(pixels) == 4 and len(boxes) == len(features) == 3
    if not fixed or pixels[1:] != [image_size, image_size, 3] or boxes[1:] != [features[1], 4]:
        raise ValueError(f"{file} has {shapes} and image_size is {image_size}; {CONTRACT}")
    if not (features[1] and features[2]):
        raise ValueError(f"{file} has {shapes}; {CONTRACT}")
    return features[1], features[2]
