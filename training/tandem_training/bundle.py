"""The bundle: the one contract between training and service. Written, verified and run here as the service does it."""

import hashlib
import json
from pathlib import Path

import jsonschema
import numpy as np
import onnxruntime

from .tokens import pad, pad_tokens, read_tokenizer

SCHEMA = Path(__file__).parents[2] / "models" / "manifest.schema.json"


def write_manifest(folder: Path, manifest: dict) -> None:
    """List every other file of the folder with its size and sha256, check the schema, write `manifest.json`."""
    files = sorted(path for path in folder.iterdir() if path.name != "manifest.json")
    listed = [
        {"path": path.name, "bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in files
    ]
    manifest = {**manifest, "files": listed}
    jsonschema.validate(manifest, json.loads(SCHEMA.read_text()))
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def read_manifest(folder: Path) -> dict:
    """The manifest of a bundle whose files are all there and unchanged. ValueError says what is wrong and where."""
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
        if not content.is_file() or hashlib.sha256(content.read_bytes()).hexdigest() != item["sha256"]:
            raise ValueError(f"{content}: missing, or not the file that the manifest lists (sha256 {item['sha256']})")
    return manifest


class BundleEncoders:
    """A bundle's ONNX graphs behind the contract that evaluation reads (`evaluate.Encoders`)."""

    def __init__(self, folder: Path):
        self.manifest = read_manifest(folder)
        self.image_size = self.manifest["image_encoder"]["size"]
        text = self.manifest["text_encoder"]
        self.tokenizer = read_tokenizer(folder / text["tokenizer"], text["max_tokens"])
        self._image, self._text, self._fusion = (
            onnxruntime.InferenceSession(folder / self.manifest[part]["file"], providers=["CPUExecutionProvider"])
            for part in ("image_encoder", "text_encoder", "fusion_encoder")
        )

    def images(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        embedding, tokens = self._image.run(["embedding", "image_tokens"], {"pixels": pixels})
        return embedding, tokens

    def texts(self, captions: list[str]) -> tuple[np.ndarray, list[np.ndarray]]:
        rows = [e.ids for e in self.tokenizer.encode_batch(captions)]
        token_ids, mask = (t.numpy() for t in pad(rows))
        feed = {"token_ids": token_ids, "attention_mask": mask}
        embedding, tokens = self._text.run(["embedding", "text_tokens"], feed)
        return embedding, [tokens[i, : len(row)] for i, row in enumerate(rows)]

    def logits(self, text_tokens: list[np.ndarray], image_tokens: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        padded, mask = pad_tokens(text_tokens)
        feed = {"text_tokens": padded, "attention_mask": mask, "image_tokens": image_tokens, "pairs": pairs}
        return self._fusion.run(["logit"], feed)[0]
