"""The graphs of a bundle behind `evaluation.retrieval.Encoders`, as modules or as files."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnx.reference import ReferenceEvaluator
from tokenizers import Tokenizer
from torch import nn

from ..data.pixel_rules import PixelRules
from ..data.tokens import pad, pad_tokens, read_tokenizer
from ..models.vision.vision import dequantise_tokens
from .bundle import read_manifest
from .graphs import Graphs

# Outputs of each graph; in a dual encoder alone the two encoders have the first one only.
OUTPUTS = {
    "image_encoder": ["embedding", "image_tokens"],
    "text_encoder": ["embedding", "text_tokens"],
    "fusion_encoder": ["logit"],
}


class _Encoders:
    """Without a fusion encoder, images and texts have no tokens and every logit is 0."""

    def __init__(self, rules: PixelRules, tokenizer: Tokenizer, fused: bool):
        self.rules, self.tokenizer, self.fused = rules, tokenizer, fused

    def _run(self, part: str, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        raise NotImplementedError

    def images(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        embedding, *tokens = self._run("image_encoder", {"pixels": pixels})
        return embedding, tokens[0] if tokens else np.empty((len(pixels), 0, 0), np.int8)

    def files(self, contents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        return self.images(np.stack([self.rules.pixels(content) for content in contents]))

    def texts(self, captions: list[str]) -> tuple[np.ndarray, list[np.ndarray]]:
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch(captions)]
        token_ids, mask = (tensor.numpy() for tensor in pad(rows))
        feed = {"token_ids": token_ids, "attention_mask": mask}
        embedding, *tokens = self._run("text_encoder", feed)
        if not tokens:
            return embedding, [np.empty((len(row), 0), np.float32) for row in rows]
        return embedding, [tokens[0][i, : len(row)] for i, row in enumerate(rows)]

    def logits(
        self, text_tokens: list[np.ndarray], image_tokens: np.ndarray, pairs: np.ndarray
    ) -> np.ndarray:
        if not self.fused:
            return np.zeros(len(pairs), np.float32)
        padded, mask = pad_tokens(text_tokens)
        feed = {"text_tokens": padded, "attention_mask": mask}
        feed |= {"image_tokens": image_tokens, "pairs": pairs}
        return self._run("fusion_encoder", feed)[0]


class TorchEncoders(_Encoders):
    """PyTorch graphs, computed in bfloat16 or float32."""

    def __init__(self, graphs: Graphs, tokenizer: Tokenizer, bfloat16: bool = True):
        super().__init__(graphs.rules, tokenizer, graphs.fusion is not None)
        self.graphs, self._bfloat16 = graphs, bfloat16
        self._device = next(graphs.image.parameters()).device

    @torch.inference_mode()
    def _run(self, part: str, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        graph = getattr(self.graphs, part.removesuffix("_encoder"))
        inputs = [torch.as_tensor(array).to(self._device) for array in feed.values()]
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            outputs = graph(*inputs)
        outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
        return [tensor.cpu().numpy() for tensor in outputs]


class FusionEncoders:
    """A fusion in PyTorch behind the contract of evaluation."""

    def __init__(self, fusion: nn.Module):
        self.fusion = fusion.eval()

    @torch.inference_mode()
    def logits(
        self, text_tokens: list[np.ndarray], image_tokens: np.ndarray, pairs: np.ndarray
    ) -> np.ndarray:
        """Text tokens of q texts, int8 image tokens [m, n, w], pairs int64 [p, 2] → float32 [p]."""
        device = next(self.fusion.parameters()).device
        texts, mask = (torch.from_numpy(array).to(device) for array in pad_tokens(text_tokens))
        images = dequantise_tokens(torch.from_numpy(image_tokens).to(device))
        rows = torch.from_numpy(pairs).to(device)
        return self.fusion(texts, mask, images, rows).float().cpu().numpy()


class BundleEncoders(_Encoders):
    """The ONNX graphs of the bundle in `folder`. ValueError if `read_manifest` refuses it.

    A fusion encoder may read tokens of its own: of an image encoder, and as text tokens the ids of
    a tokenizer, float32 [t, 1]."""

    def __init__(self, folder: Path):
        self.manifest = manifest = read_manifest(folder)
        text = manifest["text_encoder"]
        tokenizer = read_tokenizer(folder / text["tokenizer"], text["max_tokens"])
        parts = [part for part in OUTPUTS if part in manifest]
        super().__init__(PixelRules.of(manifest), tokenizer, "fusion_encoder" in parts)
        self._sessions = {part: _session(folder, manifest[part]) for part in parts}
        fusion = manifest.get("fusion_encoder", {})
        self._own = own = fusion.get("image_encoder")
        if own is not None:
            self._own_rules = PixelRules.of(fusion)
            self._own_image = _session(folder, own)
            self._own_words = read_tokenizer(folder / fusion["tokenizer"], fusion["max_tokens"])

    def files(self, contents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        embedding, tokens = super().files(contents)
        if self._own is None:
            return embedding, tokens
        pixels = np.stack([self._own_rules.pixels(content) for content in contents])
        return embedding, self._own_image.run(["image_tokens"], {"pixels": pixels})[0]

    def texts(self, captions: list[str]) -> tuple[np.ndarray, list[np.ndarray]]:
        embedding, tokens = super().texts(captions)
        if self._own is None:
            return embedding, tokens
        rows = [encoding.ids for encoding in self._own_words.encode_batch(captions)]
        return embedding, [np.array(row, np.float32)[:, None] for row in rows]

    def _run(self, part: str, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        gives_tokens = self.fused and (self._own is None or part == "fusion_encoder")
        outputs = OUTPUTS[part] if gives_tokens else OUTPUTS[part][:1]
        return self._sessions[part].run(outputs, feed)


def _session(folder: Path, part: dict) -> onnxruntime.InferenceSession | ReferenceEvaluator:
    """One graph, ready to run.

    An fp16 graph can crash the process on the runtime's CPU provider. Without a GPU ONNX's
    reference implementation runs it, exactly and slowly."""
    path, available = folder / part["file"], onnxruntime.get_available_providers()
    if part.get("precision") != "fp16":
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    if "CUDAExecutionProvider" in available:
        return onnxruntime.InferenceSession(path, providers=["CUDAExecutionProvider"])
    return ReferenceEvaluator(str(path))
