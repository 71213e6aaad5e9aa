"""Photos with captions, read from WebDataset shards (tar files of `<key>.jpg` and `<key>.json`)."""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .images import check_image
from .shards import locations, members

ENGLISH = {"en": 1.0}


@dataclass
class Sample:
    key: str
    jpeg: bytes
    captions: list[str]
    weights: list[float] = field(
        default_factory=list
    )  # chance of each caption to be drawn, sum 1; empty: all equal
    second: list[str] = field(
        default_factory=list
    )  # what a second text encoder reads of it, perhaps nothing
    second_weights: list[float] = field(default_factory=list)


class Corrupt:
    """Counts the samples that had to be skipped. Some are normal in a large collection; more than a
    share `limit` of all is a ValueError that names the worst shard."""

    def __init__(self, limit: float):
        self.limit, self.count, self.first = limit, Counter(), {}

    def add(self, source: str, key: str, reason: str) -> None:
        self.count[source] += 1
        self.first.setdefault(source, f"{key}: {reason}")

    def check(self, total: int) -> None:
        """To be called at the end, with the number of all samples, skipped ones included."""
        if not self.count:
            return
        (worst, many), skipped = self.count.most_common(1)[0], self.count.total()
        found = f"{skipped} of {total} samples are corrupt; the most, {many}, in {worst}, first {self.first[worst]}"
        if skipped > self.limit * total:
            raise ValueError(f"{found}; at most a share of {self.limit} is skipped (max_corrupt)")
        print(f"skipped: {found}", flush=True)


def read_shards(pattern: str, languages: Mapping[str, float] = ENGLISH, max_corrupt: float = 0.01,
                second: Mapping[str, float] | None = None) -> list[Sample]:  # fmt: skip
    """Every sample of the shards that `pattern` names (see `shards.locations`), in shard order.

    `languages` gives each language's weight in drawing a caption, `second` that of each language of
    a second text encoder. A photo without a caption in any of `languages` is left out. Corrupt
    samples are counted and skipped, up to a share `max_corrupt`. Raises FileNotFoundError when no
    shard matches, ValueError for a broken one or too many corrupt samples."""
    corrupt, samples, total = Corrupt(max_corrupt), [], 0
    for location in locations(pattern):
        parts: dict[str, dict[str, bytes | None]] = {}
        for name, content in members(location):
            key, _, kind = name.rpartition(".")
            if kind in ("jpg", "json"):
                parts.setdefault(key, {})[kind] = content
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
        raise ValueError(f"{pattern} holds no photo with a caption in {', '.join(languages)}")
    return samples


def read_languages(
    pattern: str, languages: Iterable[str], max_corrupt: float = 0.01
) -> dict[str, list[Sample]]:
    """The samples of each language by itself; a picture is held once. Raises as `read_shards`."""
    pictures: dict[bytes, bytes] = {}
    found = {language: read_shards(pattern, {language: 1.0}, max_corrupt) for language in languages}
    for sample in itertools.chain(*found.values()):
        sample.jpeg = pictures.setdefault(sample.jpeg, sample.jpeg)
    return found


def languages_of(pattern: str) -> list[str]:
    """The languages that captions of the shards are in, the one with most photos first; corrupt
    samples count for nothing. Raises FileNotFoundError when no shard matches, ValueError for a
    broken one."""
    photos: Counter = Counter()
    for location in locations(pattern):
        for name, content in members(location):
            if not name.endswith(".json") or content is None:
                continue
            try:
                photos.update(
                    language
                    for language, captions in json.loads(content)["captions"].items()
                    if captions
                )
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
    return [language for language, _ in photos.most_common()]


def _sample(
    key: str,
    part: dict[str, bytes | None],
    languages: Mapping[str, float],
    second: Mapping[str, float],
) -> Sample:
    """ValueError says what is wrong with the sample."""
    for kind in ("jpg", "json"):
        if part.get(kind) is None:
            raise ValueError(f"its .{kind} is too large" if kind in part else f"it has no .{kind}")
    check_image(part["jpg"])
    try:
        of_language = json.loads(part["json"])["captions"]
        first, others = (
            {name: of_language[name] for name in asked if of_language.get(name)}
            for asked in (languages, second)
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'its .json is not {{"captions": {{"en": […]}}}}: {error!r}') from error
    for language, captions in (first | others).items():
        if not isinstance(captions, list) or not all(
            isinstance(c, str) and c.strip() for c in captions
        ):
            raise ValueError(
                f"its captions in {language!r} are not a list of texts that say something"
            )
    return Sample(key, part["jpg"], *_weighed(first, languages), *_weighed(others, second))


def _weighed(
    lists: dict[str, list[str]], languages: Mapping[str, float]
) -> tuple[list[str], list[float]]:
    """All captions, and the chance of each to be drawn where that is not the same."""
    whole = sum(languages[language] for language in lists)
    weights = [
        languages[name] / whole / len(captions)
        for name, captions in lists.items()
        for _ in captions
    ]
    return sum(lists.values(), []), weights if len(lists) > 1 else []
