"""A fusion encoder without the encoders whose tokens it reads."""

from types import SimpleNamespace

from torch import nn

from .part import PartConfig
from .registry import part_of


class FusionModel(nn.Module):
    """A fusion encoder by itself, for tokens of the given widths."""

    def __init__(self, config: PartConfig, sizes: dict[str, int]):
        super().__init__()
        part = part_of("fusion", config.kind)
        if part.bare_words or not {"text.tokens", "image.tokens"} >= part.needs:
            raise ValueError(
                f"[fusion] kind = {config.kind!r} reads more than the tokens of a bundle; "
                "expected one that reads text tokens and image tokens, such as 'late' or 'aligned'"
            )
        self.config, self.sizes = config, sizes
        text = SimpleNamespace(width=sizes["text_width"])
        width, cells = sizes["image_width"], sizes["cells"]
        image = SimpleNamespace(token_width=width, cells=cells, places=False, feature_width=width)
        self.fusion = part(config, text, image)
        self.inputs = nn.ModuleDict()
        self.objectives = nn.ModuleDict()

    def checkpoint(self) -> dict:
        return {
            "fusion": self.config.table(),
            "sizes": self.sizes,
            "state": self.fusion.state_dict(),
        }

    @classmethod
    def from_checkpoint(cls, checkpoint: dict) -> "FusionModel":
        keys = dict(checkpoint["fusion"])
        config = part_of("fusion", keys.pop("kind")).Config(**keys)
        model = cls(config, checkpoint["sizes"])
        model.fusion.load_state_dict(checkpoint["state"])
        return model.eval()
