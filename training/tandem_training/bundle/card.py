"""The model card of a bundle (Mitchell et al. 2019, arXiv:1810.03993)."""

from ..models.model import ModelConfig

CARD = """# {name} {version}

{description}.

- {sizes}
{body}
## Measured

{tables}
"""

OURS = """- Starting weights: {starts}.
- Training data: Flickr8k, 6,091 photos with five English captions each (M. Hodosh, P. Young and
  J. Hockenmaier, "Framing image description as a ranking task", 2013; if you use that corpus,
  please cite it).{others} The photos stand under the Flickr terms, for research and education; the
  weights were trained on them, so check those terms before you ship a product with this bundle. No
  photo is part of the bundle.
{hubs}- Limits: everyday scenes of people and animals, as in Flickr8k; {spoken}; no text in images,
  no counting, no names. `match` is calibrated on the development photos of Flickr8k, for a pair
  that is as likely a match as a near miss (one of the 64 most similar photos). On other data it
  ranks, but its level can drift. The data carries the biases of its photographers and captioners.
"""

IMPORTED = """- The weights are those of the imported {kind} checkpoint, unchanged but for their
  precision. Its own model card says what they were trained on, under which terms, and where they
  fail.
{hubs}- Images are squashed into the square{squashed}.
- `match` is {calibrated}.
"""

HUBS = """- Embeddings avoid hubs: an image's nearness to the captions of the training data at
  large, and a caption's to its images, is in part taken from their similarities (querybank
  normalisation, Bogolin et al. 2022, arXiv:2112.12777).
"""

# The published weights that a kind of part starts from.
STARTS = {
    "efficientnet": "EfficientNet-Lite2 (ImageNet, Apache-2.0)",
    "bert": "all-MiniLM-L6-v2 (Apache-2.0)",
}
# Sources of the captions in other languages.
AUTHORS = {
    "zh": "X. Li et al. 2016, Flickr8k-CN",
    "ar": "O. ElJundi et al. 2020",
    **dict.fromkeys(("de", "fr", "cs"), "D. Elliott et al. 2016, Multi30k"),
}
SOURCES = {"bundle": "bundle", "pytorch": "PyTorch, bfloat16"}


def starting_weights(config: ModelConfig) -> str:
    """The published weights that the encoders started from, as text."""
    used = [name for part in config.parts().values() if (name := STARTS.get(part.kind))]
    return " and ".join(used) or "none, all were random"


def spoken(languages: list[str]) -> str:
    """The languages of captions, as text."""
    return "English" if languages == ["en"] else ", ".join(languages)


def model_card(
    manifest: dict, config: ModelConfig, second: list[str], avoids_hubs: bool = False
) -> str:
    """The card of a checkpoint of `train`; `second`: languages of its second text encoder."""
    written: dict[str, list[str]] = {}
    for language in second:
        written.setdefault(AUTHORS.get(language, "origin not known"), []).append(language)
    cited = "".join(f"\n  - {', '.join(found)}: {author}" for author, found in written.items())
    others = f" Captions of the\n  same photos in other languages:{cited}\n\n " if second else ""
    body = OURS.format(
        starts=starting_weights(config),
        others=others,
        hubs=HUBS * avoids_hubs,
        spoken=spoken(manifest["languages"]),
    )
    return _card(manifest, body)


def imported_card(manifest: dict, kind: str, avoids_hubs: bool = False) -> str:
    """The card of an imported checkpoint."""
    calibrated, squashed = "the model's own probability", ", as in its training"
    if kind == "CLIP":
        calibrated = "a guess: CLIP has no threshold of its own"
        squashed = ", where CLIP's own preparation crops its middle"
    if manifest["metrics"]:
        calibrated = f"calibrated on {', '.join(manifest['metrics'])}"
    hubs = HUBS * avoids_hubs
    return _card(
        manifest, IMPORTED.format(kind=kind, hubs=hubs, squashed=squashed, calibrated=calibrated)
    )


def _card(manifest: dict, body: str) -> str:
    tables = [_table(name, report) for name, report in manifest["metrics"].items()]
    return CARD.format(
        name=manifest["name"], version=manifest["version"], description=manifest["description"],
        sizes=_sizes(manifest), body=body, tables="\n\n".join(tables) or "Not measured.",
    )  # fmt: skip


def _sizes(manifest: dict) -> str:
    size, tokens = manifest["image_encoder"]["size"], manifest.get("image_tokens")
    stored = "No image tokens: a dual encoder alone"
    if tokens is not None:
        number = tokens["count"] * tokens["width"]
        stored = f"Image tokens: {tokens['count']} × {tokens['width']} int8, {number} bytes an item"
    parts = [part for part in manifest if part.endswith("_encoder")]
    computed = {manifest[part].get("precision", "fp32") for part in parts}
    return (
        f"Embedding: {manifest['embedding']['dim']} numbers. {stored}. Input: {size} × {size} px. "
        f"Graphs compute in {', '.join(sorted(computed))}."
    )


def _table(name: str, report: dict) -> str:
    counts = report["bundle"]
    rows = [f"{name}: {counts['photos']:,} photos, {counts['captions']:,} captions.", ""]
    rows += ["| graphs | direction | ranking | R@1 | R@5 | R@10 |", "|---|---|---|---|---|---|"]
    for source, label in SOURCES.items():
        for direction in ("text_to_image", "image_to_text"):
            for ranking, recall in report[source][direction].items():
                rows.append(_row(label, direction, ranking, recall))
    for language, recall in report.get("languages", {}).items():
        for direction in ("text_to_image", "image_to_text"):
            label = f"bundle, captions in {language}"
            rows.append(_row(label, direction, "itc", recall[direction]["itc"]))
    if "pair_ms" in report:  # older manifests lack it
        rows += ["", _cost(report)]
    calibration = report["calibration"]
    rows += [
        "",
        f"Expected calibration error of `match`: {calibration['expected_calibration_error']:.4f}.",
    ]
    return "\n".join(rows)


def _row(label: str, direction: str, ranking: str, recall: dict) -> str:
    figures = " | ".join(f"{recall[k]:.1f}" for k in ("r1", "r5", "r10"))
    return f"| {label} | {direction.replace('_', ' ')} | {ranking} | {figures} |"


def _cost(report: dict) -> str:
    """The cost of reranking at each measured depth."""
    rankings = report["bundle"]["text_to_image"]
    depths = [int(ranking.split("@")[1]) for ranking in rankings if "@" in ranking]
    costs = ", ".join(f"{depth} candidates {depth * report['pair_ms']:.0f} ms" for depth in depths)
    return f"Reranking costs, of one core of the machine that exported: {costs}."
