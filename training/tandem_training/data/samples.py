"""Captioned images, read from WebDataset shards (tar files of `<key>.jpg` and `<key>.json`)."""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .decoder import check_image
from .phrases import Region, read_regions
from .shards import locations, members

ENGLISH = {"en": 1.0}
NAME = re.compile(r"((?:.*/)?[^/.]+)\.([^/]+)", re.DOTALL)  # key, rest
IMAGE_ENDINGS = {
    *("jpg", "jpeg", "jpe", "png", "webp", "gif", "avif"),
    *("tif", "tiff", "heic", "heif", "bmp"),
}


@dataclass
class Sample:
    """An image with its captions."""

    key: str
    jpeg: bytes
    captions: list[str]
    # Chance of each caption to be drawn, sum 1; empty: all equal.
    weights: list[float] = field(default_factory=list)
    # Captions that a second text encoder reads, with their weights.
    second: list[str] = field(default_factory=list)
    second_weights: list[float] = field(default_factory=list)
    # Where the image comes from and under which terms, by its .json; empty if that does not say.
    source: str = ""
    license: str = ""
    regions: list[Region] = field(default_factory=list)  # phrases with boxes, where it has some


class Corrupt:
    """Counts skipped samples; more than a share `limit` of all is an error."""

    def __init__(self, limit: float):
        self.limit, self.count, self.first = limit, Counter(), {}

    def add(self, source: str, key: str, reason: str) -> None:
        self.count[source] += 1
        self.first.setdefault(source, f"{key}: {reason}")

    def check(self, total: int) -> None:
        """Report the skipped ones of `total` samples.

        Raises:
            ValueError: more than a share `limit` was skipped; the error names the worst shard.
        """
        if not self.count:
            return
        (worst, many), skipped = self.count.most_common(1)[0], self.count.total()
        summary = (
            f"{skipped} of {total} samples are corrupt; the most, {many}, in {worst}, "
            f"first {self.first[worst]}"
        )
        if skipped > self.limit * total:
            raise ValueError(f"{summary}; at most a share of {self.limit} is skipped (max_corrupt)")
        print(f"skipped: {summary}", flush=True)


def read_shards(
    pattern: str,
    languages: Mapping[str, float] = ENGLISH,
    max_corrupt: float = 0.01,
    second: Mapping[str, float] | None = None,
) -> list[Sample]:
    """Every sample of the shards that match `pattern` (see `shards.locations`), in shard order.

    Args:
        languages: weight of each language in drawing a caption. An image without a caption in any
            of them is left out.
        max_corrupt: share of samples that may be corrupt; they are skipped.
        second: weight of each language of a second text encoder.
    Raises:
        FileNotFoundError: no shard matches.
        ValueError: a shard is broken or has a key twice, too many samples are corrupt, or no
            image has a caption.
    """
    corrupt, samples, total = Corrupt(max_corrupt), [], 0
    for location in locations(pattern):
        parts = _files_by_key(location)
        total += len(parts)
        for key, part in parts.items():
            try:
                sample = _sample(key, part, languages, second or {})
            except ValueError as error:
                corrupt.add(location, key, str(error))
            else:
                samples += [sample] if sample.captions else []
    corrupt.check(total)
    if not samples:
        raise ValueError(f"{pattern} holds no image with a caption in {', '.join(languages)}")
    return samples


def read_languages(
    pattern: str, languages: Iterable[str], max_corrupt: float = 0.01
) -> dict[str, list[Sample]]:
    """The samples of each language by itself; the languages share the bytes of an image.

    Raises as `read_shards`."""
    samples = {name: read_shards(pattern, {name: 1.0}, max_corrupt) for name in languages}
    jpegs: dict[bytes, bytes] = {}
    for sample in itertools.chain(*samples.values()):
        sample.jpeg = jpegs.setdefault(sample.jpeg, sample.jpeg)
    return samples


def languages_of(pattern: str) -> list[str]:
    """The languages of the shards' captions, the one with most images first.

    Corrupt samples are skipped.

    Raises:
        FileNotFoundError: no shard matches.
        ValueError: a shard is broken.
    """
    images: Counter = Counter()
    for location in locations(pattern):
        for part in _files_by_key(location).values():
            try:
                captions = json.loads(part["json"])["captions"]
                images.update(language for language, texts in captions.items() if texts)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
    return [language for language, _ in images.most_common()]


def origins_of(samples: list[Sample], shards: str) -> list[dict]:
    """The number of images of each source and license, in the order of the samples.

    `shards` is the name of the data set."""
    counts = Counter((sample.source, sample.license) for sample in samples)
    return [
        {"shards": shards, "source": source, "license": terms, "images": count}
        for (source, terms), count in counts.items()
    ]


def _files_by_key(location: str) -> dict[str, dict[str, bytes | None]]:
    """Key → the contents of its `image` and its `json`; None for one that is too large.

    As WebDataset has it, the key is the path up to the first dot of the file's name. Other files
    are ignored. The TypeScript reader, `src/cli/captions/dataset.ts`, follows the same rule.

    Raises:
        ValueError: a shard is broken or has a key twice.
    """
    parts: dict[str, dict[str, bytes | None]] = {}
    names: dict[tuple[str, str], str] = {}
    for name, content in members(location):
        split = NAME.fullmatch(name)
        if split is None:
            continue
        key, ending = split[1], split[2].lower().rpartition(".")[2]
        kind = "image" if ending in IMAGE_ENDINGS else ending
        if kind not in ("image", "json"):
            continue
        if (key, kind) in names:
            raise ValueError(
                f"shard {location}: key {key!r} occurs twice, as {names[key, kind]} and {name}; a "
                "key ends at the first dot of the file's name and has one image and one .json"
            )
        names[key, kind] = name
        parts.setdefault(key, {})[kind] = content
    return parts


def _sample(
    key: str,
    part: dict[str, bytes | None],
    languages: Mapping[str, float],
    second: Mapping[str, float],
) -> Sample:
    """The sample of a shard's files of one key. ValueError says what is wrong with it."""
    for kind, name in (("image", "image"), ("json", ".json")):
        if part.get(kind) is None:
            raise ValueError(f"its {name} is too large" if kind in part else f"it has no {name}")
    check_image(part["image"])
    try:
        about = json.loads(part["json"])
        of_language = about["captions"]
        first, others = (
            {name: of_language[name] for name in asked if of_language.get(name)}
            for asked in (languages, second)
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'its .json is not {{"captions": {{"en": […]}}}}: {type(error).__name__} {error}'
        ) from error
    for language, captions in (first | others).items():
        if not isinstance(captions, list) or not all(
            isinstance(c, str) and c.strip() for c in captions
        ):
            raise ValueError(f"its captions in {language!r} are not a list of texts")
    origin = [text if isinstance(text := about.get(n), str) else "" for n in ("source", "license")]
    texts = (*_weighed(first, languages), *_weighed(others, second))
    return Sample(key, part["image"], *texts, *origin, read_regions(about))


def _weighed(
    lists: dict[str, list[str]], languages: Mapping[str, float]
) -> tuple[list[str], list[float]]:
    """All captions, and the chance of each to be drawn; empty if it is the same for all."""
    whole = sum(languages[language] for language in lists)
    weights = [
        languages[name] / whole / len(captions)
        for name, captions in lists.items()
        for _ in captions
    ]
    return sum(lists.values(), []), weights if len(lists) > 1 else []
