"""The model card of a bundle (Mitchell et al. 2019, arXiv:1810.03993), written from its manifest and configuration."""

from .model import ModelConfig

CARD = """# {name} {version}

{description}.

- Embedding: {dim} numbers. Image tokens: {count} × {width} int8, {bytes} bytes an item. Input: {size} × {size} px.
- Starting weights: {starts}.
- Training data: Flickr8k, 6,091 photos with five English captions each (M. Hodosh, P. Young and J. Hockenmaier,
  "Framing image description as a ranking task", 2013; if you use that corpus, please cite it). The photos stand under
  the Flickr terms, for research and education; the weights were trained on them, so check those terms before you ship
  a product with this bundle. No photo is part of the bundle.
- Limits: everyday scenes of people and animals, as Flickr8k shows them; English; no text in pictures, no counting, no
  names. `match` is calibrated on Flickr8k's development photos, for a pair that is as likely a match as a near miss
  (one of the 64 most similar photos): elsewhere it ranks, but its level can drift. The data carries the biases of its
  photographers and captioners.

## Measured on Flickr8k's development split (1,000 photos, 5,000 captions)

{table}
"""


EFFICIENTNET, MINILM = "EfficientNet-Lite2 (ImageNet, Apache-2.0)", "all-MiniLM-L6-v2 (Apache-2.0)"


def starting_weights(config: ModelConfig) -> str:
    """The published weights that the encoders started from."""
    used = [EFFICIENTNET] * (config.vision != "vit") + [MINILM] * (config.text == "bert")
    return " and ".join(used) or "none, all were random"


def model_card(manifest: dict, config: ModelConfig) -> str:
    report = manifest["metrics"].get("flickr8k-dev")
    if report is None:
        table = "Not measured."
    else:
        rows = ["| graphs | direction | ranking | R@1 | R@5 | R@10 |", "|---|---|---|---|---|---|"]
        for source in ("bundle", "pytorch"):
            for direction in ("text_to_image", "image_to_text"):
                for ranking, recall in report[source][direction].items():
                    cells = [
                        source,
                        direction.replace("_", " "),
                        ranking,
                        *(f"{recall[k]:.1f}" for k in ("r1", "r5", "r10")),
                    ]
                    rows.append(f"| {' | '.join(cells)} |")
        error = report["calibration"]["expected_calibration_error"]
        table = "\n".join([*rows, "", f"Expected calibration error of `match`: {error:.4f}."])
    tokens = manifest["image_tokens"]
    return CARD.format(
        name=manifest["name"], version=manifest["version"], description=manifest["description"],
        dim=manifest["embedding"]["dim"], count=tokens["count"], width=tokens["width"],
        bytes=tokens["count"] * tokens["width"], size=manifest["image_encoder"]["size"],
        starts=starting_weights(config), table=table,
    )  # fmt: skip
