"""Goldens of a bundle: recorded inputs, and the float32 model's outputs, which its graphs must
reproduce."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from ..evaluation.recall import probability
from .encoders import BundleEncoders, FusionEncoders, TorchEncoders

TEXTS = [
    "a brown dog runs across the grass",
    "Two children play football on a beach .",
    "café – naïve façade, 東京, 🙂",
    "a",
]
# Added for a bundle of these languages.
TEXTS_OF = {
    "ar": "كلب بني يركض على العشب",
    "cs": "Hnědý pes běží po trávě .",
    "de": "Ein brauner Hund läuft über die Wiese .",
    "fr": "Un chien brun court dans l’herbe .",
    "zh": "一只棕色的狗在草地上奔跑。",
}
# By precision: least cosine of an embedding with the float32 model's, largest difference of a
# logit, largest difference of a stored image token in steps of int8.
TOLERANCES = {
    "fp32": {"embedding_cosine": 0.999, "logit": 0.1},
    "fp16": {"embedding_cosine": 0.999, "logit": 0.2, "image_token": 2},
    "int8": {"embedding_cosine": 0.97, "logit": 1.0, "image_token": 24},
}


def golden_image(path: Path) -> bytes:
    """Save a drawn image, the same on every machine, as PNG → its bytes.

    It is not square and smaller than the encoder's input, so that the goldens also hold the
    service's resampling."""
    y, x = np.mgrid[0:180, 0:224] / 200
    pixels = np.stack([x, y, (np.sin(9 * x) * np.cos(7 * y) + 1) / 2], -1).clip(0, 1)
    pixels[(x - 0.6) ** 2 + (y - 0.4) ** 2 < 0.04] = (0.9, 0.2, 0.1)
    Image.fromarray((pixels * 255).astype(np.uint8)).save(path)
    return path.read_bytes()


def record(
    encoders: TorchEncoders, match: dict, folder: Path, precision: str, languages: list[str]
) -> None:
    """Write `goldens.json` and its image into the bundle's folder."""
    texts = TEXTS + [TEXTS_OF[language] for language in languages if language in TEXTS_OF]
    image_embedding, image_tokens = encoders.files([golden_image(folder / "goldens-image.png")])
    embeddings, text_tokens = encoders.texts(texts)
    pairs = np.stack([np.arange(len(texts)), np.zeros(len(texts), int)], 1)
    logits = encoders.logits(text_tokens, image_tokens, pairs)
    ids = [e.ids for e in encoders.tokenizer.encode_batch(texts)]
    recorded = {
        "texts": [
            {"text": text, "token_ids": row, "embedding": _numbers(embedding)}
            for text, row, embedding in zip(texts, ids, embeddings, strict=True)
        ],
        "image": {
            "file": "goldens-image.png",
            "embedding": _numbers(image_embedding[0]),
            "image_tokens_head": image_tokens.ravel()[:64].tolist(),
        },
        "matches": _matches(match, logits, embeddings @ image_embedding[0]),
        "tolerances": TOLERANCES[precision],
    }
    (folder / "goldens.json").write_text(json.dumps(recorded, ensure_ascii=False) + "\n")


def _matches(match: dict, logits: np.ndarray, similarity: np.ndarray) -> list[dict]:
    matches = zip(logits, similarity, probability(match, logits, similarity), strict=True)
    return [
        {"text": i, "logit": float(logit), "similarity": float(s), "match": float(p)}
        for i, (logit, s, p) in enumerate(matches)
    ]


def record_matches(
    encoders: BundleEncoders, fusion: FusionEncoders | BundleEncoders, match: dict, folder: Path
) -> None:
    """Rewrite the matches of the goldens in a bundle's folder for another fusion encoder, which
    reads the tokens of the bundle's own graphs."""
    path = folder / "goldens.json"
    recorded = json.loads(path.read_text())
    image = (folder / recorded["image"]["file"]).read_bytes()
    embedding, image_tokens = encoders.files([image])
    texts = [text["text"] for text in of_encoder(recorded, 0)]
    embeddings, text_tokens = encoders.texts(texts)
    pairs = np.stack([np.arange(len(embeddings)), np.zeros(len(embeddings), int)], 1)
    logits = fusion.logits(text_tokens, image_tokens, pairs)
    if not recorded["image"]["image_tokens_head"]:  # of a dual encoder before
        recorded["image"]["image_tokens_head"] = image_tokens.ravel()[:64].tolist()
    recorded["matches"] = _matches(match, logits, embeddings @ embedding[0])
    path.write_text(json.dumps(recorded, ensure_ascii=False) + "\n")


def check(encoders: BundleEncoders, folder: Path) -> None:
    """Compare the graphs of the bundle in `folder`, run by `encoders`, with its goldens.

    Raises:
        ValueError: an output is outside its tolerance.
    """
    recorded = json.loads((folder / "goldens.json").read_text())
    tolerances = recorded["tolerances"]
    image = (folder / recorded["image"]["file"]).read_bytes()
    embedding, tokens = encoders.files([image])
    cosines = {"the image": float(embedding[0] @ np.array(recorded["image"]["embedding"]))}
    for text in of_encoder(recorded, 0):
        cosines[repr(text["text"])] = float(
            encoders.texts([text["text"]])[0][0] @ np.array(text["embedding"])
        )
    for name, cosine in cosines.items():
        if not cosine >= tolerances["embedding_cosine"]:
            raise ValueError(
                f"{name}: its embedding's cosine with the float32 model's is {cosine:.4f}, "
                f"below {tolerances['embedding_cosine']}"
            )
    head = np.array(recorded["image"]["image_tokens_head"], int)
    steps = int(np.abs(tokens.ravel()[: len(head)].astype(int) - head).max(initial=0))
    most = tolerances.get("image_token", 1)
    if steps > most:
        raise ValueError(f"an image token is {steps} steps off; expected at most {most}")
    _, text_tokens = encoders.texts([text["text"] for text in of_encoder(recorded, 0)])
    pairs = np.array([[match["text"], 0] for match in recorded["matches"]])
    logits = encoders.logits(text_tokens, tokens, pairs)
    off = float(np.abs(logits - [match["logit"] for match in recorded["matches"]]).max())
    if not off <= tolerances["logit"]:
        raise ValueError(
            f"a logit is {off:.3f} off the float32 model's; expected at most {tolerances['logit']}"
        )


def of_encoder(recorded: dict, number: int) -> list[dict]:
    """The texts of the goldens that are for one text encoder of the bundle."""
    return [text for text in recorded["texts"] if text.get("encoder", 0) == number]


def _numbers(array: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in array]
