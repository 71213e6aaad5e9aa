"""The image graph of a model over a detector's regions: the detector's own graph, then ours."""

from pathlib import Path

import onnx
from onnx import compose, version_converter
from torch import Tensor, nn

from ..models.vision.detector import Detector, joined

PREFIX = "detector/"


class Behind(nn.Module):
    """An image graph from what the detector gives."""

    def __init__(self, image: nn.Module):
        super().__init__()
        self.image = image

    def forward(self, boxes: Tensor, features: Tensor):
        return self.image(joined(boxes, features))


def detector_of(image: nn.Module) -> Detector | None:
    """The detector inside an image graph."""
    return next((module for module in image.modules() if isinstance(module, Detector)), None)


def join_detector(detector: Detector, path: Path, outputs: list[str]) -> None:
    """Put the detector's graph before the graph in `path`, which `Behind` was exported to."""
    image = onnx.load(path)
    opset, own = image.opset_import[0].version, onnx.load(detector.file)
    if next(o.version for o in own.opset_import if o.domain == "") != opset:
        own = version_converter.convert_version(own, opset)
    own.ir_version = image.ir_version
    own = compose.add_prefix(own, PREFIX, rename_inputs=False)
    wires = [(f"{PREFIX}{name}", name) for name in ("boxes", "features")]
    whole = compose.merge_models(own, image, io_map=wires, outputs=outputs)
    onnx.checker.check_model(whole)
    onnx.save(whole, path)
