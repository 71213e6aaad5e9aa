"""The model that a bundle was exported from, rebuilt from the weights in its graphs.

Before the weights are trained on, the rebuilt encoders are compared with the bundle's graphs: sizes
that no weight shows, such as the number of heads, could be others."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from ..models.model import Tandem
from .bundle import read_manifest
from .graph_weights import ENCODERS, graph_weights
from .hubs import uncorrected

PARTS = ("vision", "pooler", "text")
LEAST_COSINE = 0.9999
WORDS = 6  # of a text that is compared


def bundle_checkpoint(folder: Path) -> dict:
    """The bundle in `folder` as a checkpoint: weights, their origin and the tokenizer.

    Raises:
        ValueError: the bundle is damaged, imported, or holds weights that were rounded further than
            to float16.
    """
    manifest, state = read_manifest(folder), {}
    for part in (*ENCODERS, "fusion_encoder"):
        if part not in manifest:
            continue
        if (precision := manifest[part].get("precision", "fp32")) != "fp32":
            raise ValueError(
                f"{folder} computes in {precision}, and its rounded weights are no start for a "
                "training; start from the bundle in fp32 that it was made of"
            )
        state |= graph_weights(folder / manifest[part]["file"])
    origin = f"the data of the bundle {manifest['name']} {manifest['version']}, see its card"
    return {
        "state": state,
        "inputs": {},
        "config": f"of {manifest['name']}: {manifest['description']}",
        "data": [{"shards": "", "source": origin, "license": manifest["license"], "images": 0}],
        "tokenizer": (folder / manifest["text_encoder"]["tokenizer"]).read_text(),
    }


def check_architecture(model: Tandem, state: dict[str, torch.Tensor], folder: Path) -> None:
    """ValueError where the encoders of the recipe and of the bundle have other weights."""
    own = {n: v.shape for n, v in model.state_dict().items() if n.split(".")[0] in PARTS}
    given = {n: v.shape for n, v in state.items() if n.split(".")[0] in PARTS}
    if not given:
        raise ValueError(
            f"{folder} is no bundle of this trainer: its graphs have none of the weights' names "
            "that `export` writes. An imported model can get a fusion (objective lists), and "
            "its encoders stay as they are"
        )
    # A dual encoder alone has no image tokens.
    unread = {n for n in own.keys() - given if n.startswith("pooler.tokens.")}
    different = [n for n in own | given if own.get(n) != given.get(n) and n not in unread]
    if different:
        name = different[0]
        ours, theirs = (list(side[name]) if name in side else "none" for side in (own, given))
        raise ValueError(
            f"the encoders of {folder} are of another architecture than the recipe's: "
            f"{len(different)} weights differ, such as {name}: {theirs} in the bundle, {ours} in "
            "the recipe"
        )


@torch.no_grad()
def check_embeddings(model: Tandem, folder: Path) -> None:
    """ValueError where the encoders give other embeddings than the bundle's graphs do before the
    correction of hubs: the cosine of an image or a text is below LEAST_COSINE."""
    manifest, rng = read_manifest(folder), np.random.default_rng(0)
    size = manifest["image_encoder"]["size"]
    pixels = rng.integers(0, 256, (2, size, size, 3), np.uint8)
    ids = rng.integers(0, len(model.text.words.weight), (2, WORDS))
    mask = np.ones_like(ids)
    mask[1, WORDS // 2 :] = 0
    feeds = ({"pixels": pixels}, {"token_ids": ids, "attention_mask": mask})
    model.eval()
    encoders = (model.encode_images, model.encode_texts)
    for part, feed, encode in zip(ENCODERS, feeds, encoders, strict=True):
        graph = uncorrected(onnx.load(folder / manifest[part]["file"]))
        session = onnxruntime.InferenceSession(
            graph.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        (theirs,) = session.run([graph.graph.output[-1].name], feed)
        ours = encode(*(torch.from_numpy(array) for array in feed.values()))[0].numpy()
        if (least := (ours * theirs).sum(1).min()) < LEAST_COSINE:
            raise ValueError(
                f"the weights of {folder} fit the recipe, but its {part.replace('_', ' ')} gives "
                f"other embeddings than the rebuilt one (cosine {least:.4f}): a size that no "
                "weight shows, such as heads or pool, is another one"
            )
