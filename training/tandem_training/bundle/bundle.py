"""The bundle: the one contract between training and service. Written, verified and run here as the
service does it."""

import hashlib
import json
from pathlib import Path

import jsonschema
import numpy as np
import onnxruntime
from onnx.reference import ReferenceEvaluator

from ..data.tokens import pad, pad_tokens, read_tokenizer

SCHEMA = Path(__file__).parents[3] / "models" / "manifest.schema.json"


def write_manifest(folder: Path, manifest: dict) -> None:
    """List every other file of the folder with its size and sha256, check the schema, write
    `manifest.json`."""
    files = sorted(path for path in folder.iterdir() if path.name != "manifest.json")
    listed = [
        {
            "path": path.name,
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    ]
    manifest = {**manifest, "files": listed}
    jsonschema.validate(manifest, json.loads(SCHEMA.read_text()))
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def read_manifest(folder: Path) -> dict:
    """The manifest of a bundle whose files are all there and unchanged. ValueError says what is
    wrong and where."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise ValueError(f"{folder} is no bundle: it has no manifest.json")
    manifest = json.loads(path.read_text())
    try:
        jsonschema.validate(manifest, json.loads(SCHEMA.read_text()))
    except jsonschema.ValidationError as error:
        raise ValueError(f"{path}: {error.json_path}: {error.message}") from error
    for item in manifest["files"]:
        content = folder / item["path"]
        if (
            not content.is_file()
            or hashlib.sha256(content.read_bytes()).hexdigest() != item["sha256"]
        ):
            raise ValueError(
                f"{content}: missing, or not the file that the manifest lists (sha256 {item['sha256']})"
            )
    return manifest


class BundleEncoders:
    """A bundle's ONNX graphs behind the contract that evaluation reads (`evaluate.Encoders`)."""

    def __init__(self, folder: Path):
        self.manifest = read_manifest(folder)
        self.image_size = self.manifest["image_encoder"]["size"]
        text = self.manifest["text_encoder"]
        self.tokenizer = read_tokenizer(folder / text["tokenizer"], text["max_tokens"])
        self._image, self._text, self._fusion = (
            _session(folder, self.manifest[part]) if part in self.manifest else None
            for part in ("image_encoder", "text_encoder", "fusion_encoder")
        )

    def images(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._fusion is None:
            return self._image.run(["embedding"], {"pixels": pixels})[0], np.empty(
                (len(pixels), 0, 0), np.int8
            )
        embedding, tokens = self._image.run(["embedding", "image_tokens"], {"pixels": pixels})
        return embedding, tokens

    def texts(self, captions: list[str]) -> tuple[np.ndarray, list[np.ndarray]]:
        rows = [e.ids for e in self.tokenizer.encode_batch(captions)]
        token_ids, mask = (t.numpy() for t in pad(rows))
        feed = {"token_ids": token_ids, "attention_mask": mask}
        if self._fusion is None:
            return self._text.run(["embedding"], feed)[0], [
                np.empty((len(row), 0), np.float32) for row in rows
            ]
        embedding, tokens = self._text.run(["embedding", "text_tokens"], feed)
        return embedding, [tokens[i, : len(row)] for i, row in enumerate(rows)]

    def logits(
        self, text_tokens: list[np.ndarray], image_tokens: np.ndarray, pairs: np.ndarray
    ) -> np.ndarray:
        if self._fusion is None:
            return np.zeros(len(pairs), np.float32)
        padded, mask = pad_tokens(text_tokens)
        feed = {
            "text_tokens": padded,
            "attention_mask": mask,
            "image_tokens": image_tokens,
            "pairs": pairs,
        }
        return self._fusion.run(["logit"], feed)[0]


def _session(folder: Path, part: dict) -> onnxruntime.InferenceSession | ReferenceEvaluator:
    """One graph, ready to run. An fp16 graph never goes to the runtime's CPU provider, which it can
    bring down: without a GPU ONNX's reference implementation runs it, exactly and slowly."""
    path, available = folder / part["file"], onnxruntime.get_available_providers()
    if part.get("precision") != "fp16":
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    if "CUDAExecutionProvider" in available:
        return onnxruntime.InferenceSession(path, providers=["CUDAExecutionProvider"])
    return ReferenceEvaluator(str(path))
