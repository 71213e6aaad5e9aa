"""The teacher of soft targets: the text encoder before any training, a sentence encoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.tokens import pad
from ..objectives.features import Precision

BATCH = 256


@torch.no_grad()
def sentences(
    text: nn.Module, captions: list[list[list[int]]], precision: Precision
) -> tuple[list[Tensor], Tensor]:
    """Token ids of each image's captions → for each image the sentence vectors of its captions
    [captions, width], unit means of their text tokens, and the unit mean of its captions'
    embeddings [images, dim]."""
    text.eval()
    flat = [row for rows in captions for row in rows]
    # Captions of similar length share a batch.
    order = sorted(range(len(flat)), key=lambda i: len(flat[i]))
    device = text.project.weight.device
    vectors = torch.empty(len(flat), text.width)
    embeddings = torch.empty(len(flat), text.project.out_features)
    for i in range(0, len(order), BATCH):
        ids, mask = (tensor.to(device) for tensor in pad([flat[j] for j in order[i : i + BATCH]]))
        with precision(mask.device):
            embedding, tokens = text(ids, mask)
        mean = (tokens * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        vectors[order[i : i + BATCH]] = F.normalize(mean.float(), dim=-1).cpu()
        embeddings[order[i : i + BATCH]] = embedding.cpu()
    counts = [len(rows) for rows in captions]
    about = torch.stack([rows.mean(0) for rows in embeddings.split(counts)])
    return list(vectors.split(counts)), F.normalize(about, dim=-1).to(device)
