"""Where a run starts: an earlier checkpoint, or the published weights of those encoders that have
some."""

import torch

from ..models import weights
from ..models.fusion.inserted_attention import InsertedFusion
from ..models.model import Tandem
from ..models.text.bert import TextEncoder
from ..models.vision.efficientnet import EfficientNetLite
from ..recipe import Recipe


def starting_model(recipe: Recipe) -> Tandem:
    """The checkpoint that the recipe starts from, or pre-trained towers with new heads; what stays
    frozen is marked."""
    model = Tandem(recipe.model)
    if recipe.train.start:
        checkpoint = torch.load(recipe.train.start, map_location="cpu", weights_only=True)
        try:
            model.load_state_dict(checkpoint["state"])
        except RuntimeError as error:
            raise ValueError(
                f"{recipe.train.start} is of another architecture: {checkpoint['config']}"
            ) from error
    else:
        load_starting_weights(model)
    if not recipe.train.train_towers:
        for module in (model.vision, model.heads, model.text):
            module.requires_grad_(False)
    for parameter in model.vision.trunk_parameters():
        parameter.requires_grad_(False)
    return model


def load_starting_weights(model: Tandem) -> None:
    """Fill the encoders that published weights exist for; a ViT and a causal text encoder start at
    random. ValueError when those weights have another shape."""
    if isinstance(model.vision, EfficientNetLite):
        if model.config.vision != "efficientnet-lite2":
            raise ValueError(
                f"vision = {model.config.vision!r} has no starting weights; use 'efficientnet-lite2'"
            )
        model.vision.load_imagenet(weights.imagenet_efficientnet_lite2())
    elif model.config.split > 0:
        raise ValueError(
            f"a ViT starts at random: its first {model.config.split} layers cannot stay frozen; split = 0"
        )
    if isinstance(model.text, TextEncoder):
        model.text.load_minilm(weights.minilm())
    if isinstance(model.fusion, InsertedFusion):
        model.fusion.start_decoder()
