r"""Export a checkpoint as a bundle: three ONNX graphs, tokenizer, calibrated match rule, goldens, model card, manifest.

python -m tandem_training.export runs/small/model.pt ../models/tandem-small \
    --dev '../../shared/data/flickr8k-dev-*.tar'"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from . import weights
from .bundle import BundleEncoders, write_manifest
from .calibrate import fit_match
from .card import model_card
from .compact import store_float16
from .data import decode, read_shards
from .evaluate import Scored, evaluate
from .model import Tandem
from .tokens import read_tokenizer
from .torch_encoders import TorchEncoders
from .vision import dequantise_tokens, quantise_tokens

OPSET = 17
RERANK_DEPTHS = (16, 64)
GOLDEN_TEXTS = [
    "a brown dog runs across the grass",
    "Two children play football on a beach .",
    "café – naïve façade, 東京, 🙂",
    "a",
]
TOLERANCES = {"embedding_cosine": 0.999, "logit": 0.05}


class ImageGraph(nn.Module):
    def __init__(self, model: Tandem):
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        embedding, tokens = self.model.encode_images(pixels)
        return embedding, quantise_tokens(tokens)


class TextGraph(nn.Module):
    def __init__(self, model: Tandem):
        super().__init__()
        self.model = model

    def forward(self, token_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.encode_texts(token_ids, attention_mask)


class FusionGraph(nn.Module):
    def __init__(self, model: Tandem):
        super().__init__()
        self.model = model

    def forward(self, text_tokens: Tensor, attention_mask: Tensor, image_tokens: Tensor, pairs: Tensor) -> Tensor:
        return self.model.fusion(text_tokens, attention_mask, dequantise_tokens(image_tokens), pairs)


def export_graphs(model: Tandem, folder: Path) -> None:
    """Write the float32 graphs, batch and text length dynamic."""
    size, width = model.config.image_size, model.config.image_token_width
    pixels = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    mask = torch.ones(2, 7, dtype=torch.int64)
    tokens = torch.zeros(2, 7, model.text.width)
    stored = torch.zeros(3, model.cells, width, dtype=torch.int8)
    pairs = torch.tensor([[0, 0], [1, 1], [0, 2], [1, 0]])
    graphs = [
        ("image-encoder", ImageGraph(model), (pixels,), ["pixels"], ["embedding", "image_tokens"],
         {"pixels": {0: "batch"}, "embedding": {0: "batch"}, "image_tokens": {0: "batch"}}),
        ("text-encoder", TextGraph(model), (mask, mask), ["token_ids", "attention_mask"], ["embedding", "text_tokens"],
         {"token_ids": {0: "batch", 1: "length"}, "attention_mask": {0: "batch", 1: "length"},
          "embedding": {0: "batch"}, "text_tokens": {0: "batch", 1: "length"}}),
        ("fusion-encoder", FusionGraph(model), (tokens, mask, stored, pairs),
         ["text_tokens", "attention_mask", "image_tokens", "pairs"], ["logit"],
         {"text_tokens": {0: "texts", 1: "length"}, "attention_mask": {0: "texts", 1: "length"},
          "image_tokens": {0: "images"}, "pairs": {0: "pairs"}, "logit": {0: "pairs"}}),
    ]  # fmt: skip
    for name, module, inputs, input_names, output_names, axes in graphs:
        # The TorchScript exporter keeps every listed axis dynamic; the newer one specialises the pair axis.
        torch.onnx.export(module.eval(), inputs, folder / f"{name}.onnx", input_names=input_names,
                          output_names=output_names, dynamic_axes=axes, opset_version=OPSET, dynamo=False)  # fmt: skip


def golden_image(path: Path) -> bytes:
    """A drawn picture, the same on every machine, saved as PNG: not square, and smaller than the encoder's input, so
    that the goldens hold the service's resampling too."""
    y, x = np.mgrid[0:180, 0:224] / 200
    pixels = np.stack([x, y, (np.sin(9 * x) * np.cos(7 * y) + 1) / 2], -1).clip(0, 1)
    pixels[(x - 0.6) ** 2 + (y - 0.4) ** 2 < 0.04] = (0.9, 0.2, 0.1)
    Image.fromarray((pixels * 255).astype(np.uint8)).save(path)
    return path.read_bytes()


def goldens(encoders: TorchEncoders, match: dict[str, float], folder: Path) -> dict:
    """Recorded inputs and the PyTorch model's float32 outputs, which both sides must reproduce from the graphs."""
    pixels = decode(golden_image(folder / "goldens-image.png"), encoders.image_size)
    image_embedding, image_tokens = encoders.images(pixels[None])
    embeddings, text_tokens = encoders.texts(GOLDEN_TEXTS)
    pairs = np.stack([np.arange(len(GOLDEN_TEXTS)), np.zeros(len(GOLDEN_TEXTS), int)], 1)
    logits = encoders.logits(text_tokens, image_tokens, pairs)
    similarity = embeddings @ image_embedding[0]
    argument = match["logit"] * logits + match["similarity"] * similarity + match["bias"]
    ids = [e.ids for e in encoders.tokenizer.encode_batch(GOLDEN_TEXTS)]

    def numbers(array: np.ndarray) -> list[float]:
        return [round(float(v), 6) for v in array]

    return {
        "texts": [
            {"text": text, "token_ids": row, "embedding": numbers(embedding)}
            for text, row, embedding in zip(GOLDEN_TEXTS, ids, embeddings, strict=True)
        ],
        "image": {
            "file": "goldens-image.png",
            "embedding": numbers(image_embedding[0]),
            "image_tokens_head": image_tokens.ravel()[:64].tolist(),
        },
        "matches": [
            {"text": i, "logit": float(logit), "similarity": float(s), "match": float(1 / (1 + np.exp(-a)))}
            for i, (logit, s, a) in enumerate(zip(logits, similarity, argument, strict=True))
        ],
        "tolerances": TOLERANCES,
    }


def export_bundle(checkpoint: Path, folder: Path, tokenizer_file: Path, dev: str, version: str) -> dict:
    """Write the bundle; returns its manifest. The match rule is fitted on `dev` with the graphs as exported."""
    model = Tandem.from_checkpoint(torch.load(checkpoint, weights_only=True))
    config = model.config
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    fusion = "" if config.fusion == "none" else " and fusion encoder"
    export_graphs(model, folder)
    for graph in folder.glob("*.onnx"):
        store_float16(graph)
    shutil.copy(tokenizer_file, folder / "tokenizer.json")
    manifest = {
        "schema_version": 1,
        "name": folder.name,
        "version": version,
        "description": f"Dual encoder{fusion} for English captions of everyday photos",
        "license": "Weights: see README.md of the bundle (trained on Flickr8k, for research and education)",
        "languages": ["en"],
        "embedding": {"dim": config.dim},
        "image_tokens": {"count": model.cells, "width": config.image_token_width, "dtype": "int8"},
        "image_encoder": {"file": "image-encoder.onnx", "size": config.image_size, "fit": "fill"},
        "text_encoder": {
            "file": "text-encoder.onnx", "tokenizer": "tokenizer.json",
            "max_tokens": config.max_tokens, "token_width": model.text.width,
        },
        "fusion_encoder": {"file": "fusion-encoder.onnx"},
        "match": {"logit": 1.0, "similarity": 1.0, "bias": 0.0},
        "rerank": {"default": config.fusion != "none", "candidates": 64},
        "goldens": "goldens.json",
        "metrics": {},
    }  # fmt: skip
    tokenizer = read_tokenizer(folder / "tokenizer.json", config.max_tokens)
    torch_encoders = TorchEncoders(model, tokenizer, bfloat16=False)

    def finish() -> None:
        recorded = goldens(torch_encoders, manifest["match"], folder)
        (folder / "goldens.json").write_text(json.dumps(recorded, ensure_ascii=False) + "\n")
        (folder / "README.md").write_text(model_card(manifest, config))
        write_manifest(folder, manifest)

    finish()  # A whole bundle first: calibration and evaluation read it as the service does.
    if dev:
        samples = read_shards(dev)
        encoders = BundleEncoders(folder)
        scored = Scored(encoders, samples, max(RERANK_DEPTHS))
        manifest["match"], calibration = fit_match(scored)
        match = manifest["match"]
        manifest["metrics"] = {
            "flickr8k-dev": {
                "bundle": scored.report(match, RERANK_DEPTHS),
                "bundle_first_100": evaluate(encoders, samples[:100], match, RERANK_DEPTHS),
                "pytorch": evaluate(TorchEncoders(model, tokenizer), samples, match, RERANK_DEPTHS),
                "calibration": calibration,
            }
        }
        finish()
    return manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path, help="folder of the bundle, replaced if it exists")
    parser.add_argument("--dev", default="", help="glob of shards to calibrate and evaluate on")
    parser.add_argument("--version", default="0.1.0")
    args = parser.parse_args()
    tokenizer_file = weights.minilm_folder() / "tokenizer.json"
    manifest = export_bundle(args.checkpoint, args.folder, tokenizer_file, args.dev, args.version)
    print(json.dumps({"match": manifest["match"], "metrics": manifest["metrics"]}, indent=2))


if __name__ == "__main__":
    main()
