"""The model card of a bundle (Mitchell et al. 2019, arXiv:1810.03993)."""

import re
from collections import Counter

from ..models.model import ModelConfig

CARD = """# {name} {version}

{description}.

- {sizes}
{body}
## Measured

{tables}
"""

OURS = """- Starting weights: {starts}.
- Training data:
{data}
  No image is part of the bundle. Check the terms of the data before you ship a product with it.
{tokens}{hubs}- Limits: scenes like those of the training data; no text in images, no counting, no
  names. `match` is {calibrated}. On other data it ranks, but its level can drift. The
  data carries the biases of its photographers and captioners.
"""
FUSION_DATA = """- Training data of the fusion encoder:
{data}
  No image is part of the bundle. Check the terms of the data before you ship a product with it.
"""
CALIBRATED = """calibrated on {name}, for a pair that is as likely a match as a near miss (one of
  the 64 most similar images)"""

IMPORTED = """- The weights are those of the imported {kind} checkpoint, unchanged but for their
  precision. Its own model card says what they were trained on, under which terms, and where they
  fail.
{tokens}{hubs}- Images are {fit}.
- `match` is {calibrated}.
"""

FITS = {
    "fill": "squashed into the square",
    "crop": "resized by their short side, and the middle is taken; what lies beside it is not seen",
    "pad": "resized by their long side, on a background",
}
NEW_TOKENS = """- Tokens: states of patches and words on their principal directions. The fusion
  encoder is not trained: `match` ignores it until one that was trained on them takes its place.
"""

BESIDE = """- Fusion encoder: BLIP-ITM imported from {source}, with image tokens and a tokenizer
  of its own. Its image tokens {tokens}.
- `match` of this bundle is {match}.
"""

HUBS = """- Embeddings avoid hubs: an image's nearness to the captions of the training data at
  large, and a caption's to its images, is in part taken from their similarities (querybank
  normalisation, Bogolin et al. 2022, arXiv:2112.12777).
"""

# The published weights that a kind of part starts from.
STARTS = {
    "efficientnet": "EfficientNet-Lite2 (ImageNet, Apache-2.0)",
    "regions": "EfficientNet-Lite2 (ImageNet, Apache-2.0)",
    "proposals": "EfficientNet-Lite2 (ImageNet, Apache-2.0)",
    "bert": "all-MiniLM-L6-v2 (Apache-2.0)",
}
# What the image tokens of a kind of vision encoder are, where a reader could expect more.
TOKENS = {
    "regions": """- Regions: 36 fixed windows of the image, not objects that a detector found. Their
  names, where the fusion encoder reads some, are frequent words of the training captions.
""",
    "proposals": """- Regions: 36 boxes that a head without classes proposes, which learnt from
  captions and saw no box. Their names are frequent words of the training captions.
""",
    "detector": """- Regions: those of the detector {name}, which is part of the image graph. Its
  licence: {license}. SHA-256 of its file: {sha256}.
""",
}
# What is known of a data set whose shards name it as their source.
FLICKR8K = """M. Hodosh, P. Young and J. Hockenmaier, "Framing image description as a ranking task",
    2013; please cite it if you use that corpus"""
FLICKR8K_TERMS = "the Flickr terms, for research and education"
CAPTIONS = {  # of the images of Flickr8k in other languages
    "zh": "X. Li et al. 2016, Flickr8k-CN",
    "ar": "O. ElJundi et al. 2020",
    **dict.fromkeys(("de", "fr", "cs"), "D. Elliott et al. 2016, Multi30k"),
}
LISTED = 8  # terms of a source, and words on the rest
RULES = {
    "cross-validated": "that was fitted without the photo at hand (cross-validated)",
    "fitted on other images": "that was fitted on other photos",
}
SOURCES = {"bundle": "bundle", "pytorch": "PyTorch, bfloat16"}


def starting_weights(config: ModelConfig) -> str:
    """The published weights that the encoders started from, as text."""
    used = [name for part in config.parts().values() if (name := STARTS.get(part.kind))]
    return " and ".join(used) or "none, all were random"


def spoken(languages: list[str]) -> str:
    """The languages of captions, as text."""
    return "English" if languages == ["en"] else ", ".join(languages)


def terms_of(origins: list[dict]) -> list[str]:
    """The terms of the training data, those of most images first."""
    images: Counter = Counter()
    for origin in origins:
        own = FLICKR8K_TERMS if origin["source"] == "flickr8k" else ""
        images[origin["license"] or own or "terms not stated"] += origin["images"]
    return [terms for terms, _ in images.most_common()]


def training_data(origins: list[dict], second: list[str]) -> str:
    """The data that a checkpoint was trained on, as a list in Markdown."""
    if not origins:
        return "  - not recorded by the checkpoint"
    lines = []
    for name, source in dict.fromkeys((origin["shards"], origin["source"]) for origin in origins):
        own = [o for o in origins if (o["shards"], o["source"]) == (name, source)]
        terms, count = terms_of(own), sum(origin["images"] for origin in own)
        rest = f"; and {len(terms) - LISTED} more" if len(terms) > LISTED else ""
        known = f" ({FLICKR8K})" if source == "flickr8k" else ""
        if not count:  # an origin that is itself a bundle
            lines.append(f"  - {source}. Terms: {terms[0]}.")
            continue
        lines.append(
            f"  - {source or 'source not stated'}{known}, shards {name}: {count:,} images. "
            f"Terms: {'; '.join(terms[:LISTED])}{rest}."
        )
        if source == "flickr8k" and second:
            authors: dict[str, list[str]] = {}
            for language in second:
                authors.setdefault(CAPTIONS.get(language, "not stated"), []).append(language)
            cited = (f"{', '.join(names)}: {author}" for author, names in authors.items())
            lines.append(f"    Captions in other languages: {'; '.join(cited)}.")
    return "\n".join(lines)


def model_card(
    manifest: dict,
    config: ModelConfig,
    second: list[str],
    origins: list[dict],
    avoids_hubs: bool = False,
) -> str:
    """The card of a checkpoint of `train`.

    Args:
        second: languages of its second text encoder.
        origins: of its training data; see `data.samples.origins_of`.
    """
    names = ", ".join(manifest["metrics"])
    body = OURS.format(
        starts=starting_weights(config),
        data=training_data(origins, second),
        tokens=TOKENS.get(config.vision.kind, "").format(**manifest.get("detector", {})),
        hubs=HUBS * avoids_hubs,
        calibrated=CALIBRATED.format(name=names) if names else "not calibrated",
    )
    return _card(manifest, body)


def card_of_new_fusion(manifest: dict, old_card: str, origins: list[dict]) -> str:
    """The card of a bundle whose fusion encoder was replaced: what its old card says of the
    encoders stays, and the data of the fusion is added.

    Args:
        old_card: of the bundle that the encoders are from.
        origins: of the data that the fusion was trained on.
    """
    body = _body(old_card).replace("- Training data:", "- Training data of the encoders:")
    body = re.sub(r"- Training data of the fusion encoder.*?(?=\n- )\n", "", body, flags=re.S)
    about = FUSION_DATA.format(data=training_data(origins, []))
    body = body.replace(NEW_TOKENS, "")
    head, hubs, rest = body.partition("- Embeddings avoid hubs")
    if not hubs:
        head, hubs, rest = body.partition("- Limits:")
    return _card(manifest, f"{head}{about}{hubs}{rest.rstrip()}\n")


def card_beside(manifest: dict, old_card: str, source: str) -> str:
    """The card of a bundle of a dual encoder and a fusion encoder with tokens of its own.

    Args:
        old_card: of the dual encoder.
        source: name of the checkpoint that the fusion encoder is from.
    """
    body = old_card.split("\n## ")[0].partition("\n- ")[2]
    stored = manifest["image_tokens"].get("stored", True)
    tokens = "are stored with an item" if stored else "are computed when an image is reranked"
    fitted = ", ".join(manifest["metrics"])
    match = f"calibrated on {fitted}" if fitted else "the probability of that checkpoint"
    about = BESIDE.format(source=source, tokens=tokens, match=match)
    return _card(manifest, f"{about}- Dual encoder: {body.rstrip()}\n")


def card_of_more_texts(manifest: dict, old_card: str) -> str:
    """The card of a bundle that got another text encoder."""
    return _card(manifest, _body(old_card))


def _body(card: str) -> str:
    """What a card says between the line of sizes and the figures."""
    body = card.split("\n\n## Measured")[0].partition("\n- Embedding: ")[2]
    return body.partition("\n")[2] + "\n"


def imported_card(
    manifest: dict, kind: str, fit: str, avoids_hubs: bool = False, tokens: bool = False
) -> str:
    """The card of an imported checkpoint; with `tokens`, it also gives those of its states."""
    calibrated = "the model's own probability"
    if kind == "CLIP":
        calibrated = "a guess: CLIP has no threshold of its own"
    if manifest["metrics"]:
        calibrated = f"calibrated on {', '.join(manifest['metrics'])}"
    hubs = HUBS * avoids_hubs
    body = IMPORTED.format(
        kind=kind, tokens=NEW_TOKENS * tokens, hubs=hubs, fit=FITS[fit], calibrated=calibrated
    )
    return _card(manifest, body)


def _card(manifest: dict, body: str) -> str:
    tables = [_table(name, report) for name, report in manifest["metrics"].items()]
    others = [
        f". Texts in {', '.join(entry['languages'])} have a text encoder of their own and are not "
        "reranked"
        for entry in manifest.get("other_text_encoders", [])
    ]
    return CARD.format(
        name=manifest["name"], version=manifest["version"],
        description=manifest["description"] + "".join(others), sizes=_sizes(manifest),
        body=body, tables="\n\n".join(tables) or "Not measured.",
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
        if source not in report:
            continue
        for direction in ("text_to_image", "image_to_text"):
            for ranking, recall in report[source][direction].items():
                rows.append(_row(label, direction, ranking, recall))
    if "rerank" in report:  # older manifests lack it
        for direction in ("text_to_image", "image_to_text"):
            recall = report["rerank"][direction]["fitted"]
            label = f"rerank@{report['rerank']['depth']}, {report['rerank']['rule']}"
            rows.append(_row("bundle", direction, label, recall))
    for language, recall in report.get("languages", {}).items():
        for direction in ("text_to_image", "image_to_text"):
            label = f"bundle, captions in {language}"
            rows.append(_row(label, direction, "itc", recall[direction]["itc"]))
    if "rerank" in report:
        rows += ["", _gain(report["rerank"])]
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


def _gain(rerank: dict) -> str:
    """What rerank adds to R@1 on photos that its rule was not fitted on."""
    parts = []
    for direction in ("text_to_image", "image_to_text"):
        gain = rerank[direction]["gain"]["r1"]
        parts.append(
            f"{direction.replace('_', ' ')} {gain['points']:+.2f} "
            f"(95 % interval {gain['low']:+.2f} to {gain['high']:+.2f})"
        )
    return (
        f"Rerank of {rerank['depth']} candidates adds to R@1 of ITC, by a rule "
        f"{RULES[rerank['rule']]}: {', '.join(parts)}. "
        "The interval is a paired bootstrap over photos."
    )


def _cost(report: dict) -> str:
    """The cost of reranking at each measured depth."""
    rankings = report["bundle"]["text_to_image"]
    depths = [int(ranking.split("@")[1]) for ranking in rankings if "@" in ranking]
    costs = ", ".join(f"{depth} candidates {depth * report['pair_ms']:.0f} ms" for depth in depths)
    return f"Reranking costs, of one core of the machine that exported: {costs}."
