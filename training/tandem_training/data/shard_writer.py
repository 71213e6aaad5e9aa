"""Shards made from a folder of images and a table of captions."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from .atomic import replace_file
from .captions import Captions, read_captions
from .images import as_jpeg
from .samples import Corrupt, read_shards

DEV_SHARE = 0.1  # of the images, where shards for measuring are wanted
LEAST_DEV = 2


class Shards:
    """Writes shards of `size` images each, `<out>-0000.tar`, …; in a `with` block none is left
    after an error.

    Raises:
        FileExistsError: a shard of that name exists.
    """

    def __init__(self, out: str, size: int):
        self.out, self.size = out, size
        self.paths: list[Path] = []
        self.waiting: list[tuple[str, bytes, dict]] = []
        Path(out).parent.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Shards":
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self.flush()
        else:
            self.remove()

    def remove(self) -> None:
        for path in self.paths:
            path.unlink()

    def add(self, sample: tuple[str, bytes, dict]) -> None:
        """Key, JPEG, and what the .json says."""
        self.waiting.append(sample)
        if len(self.waiting) == self.size:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            path = Path(f"{self.out}-{len(self.paths):04d}.tar")
            _write_shard(path, self.waiting)
            self.paths.append(path)
            self.waiting.clear()


def write_shards(
    folder: Path,
    captions: Path,
    out: str,
    size: int = 1000,
    language: str = "en",
    max_corrupt: float = 0.0,
    dev: str = "",
) -> dict[str, dict[str, int]]:
    """Write `<out>-0000.tar`, …, with `size` images each → counts of the content of each set of
    shards, read back.

    `language` is that of captions that do not state theirs. With `dev`, a share DEV_SHARE of the
    images goes to `<dev>-0000.tar`, …; which ones depends on the names of the files alone. No shard
    is left after an error.

    Raises:
        FileExistsError: a shard of that name exists.
        ValueError: more than a share `max_corrupt` of the images cannot be used.
    """
    corrupt = Corrupt(max_corrupt)
    table = read_captions(captions, language)
    held = _held_out(table) if dev else set()
    sets = {name: Shards(name, size) for name in (out, *[dev] * bool(dev))}
    try:
        for file, sample in _usable(folder, table, corrupt, str(captions)):
            sets[dev if file in held else out].add(sample)
        corrupt.check(len(table))
        languages = {name: 1.0 for of_language in table.values() for name in of_language}
        counts = {}
        for name, shards in sets.items():
            shards.flush()
            samples = [s for p in shards.paths for s in read_shards(str(p), languages, 0.0)]
            counts[name] = {
                "shards": len(shards.paths),
                "images": len(samples),
                "captions": sum(len(sample.captions) for sample in samples),
            }
    except BaseException:
        for shards in sets.values():
            shards.remove()
        raise
    return counts


def _held_out(table: Captions) -> set[str]:
    """The files whose images are for measuring alone."""
    count = max(LEAST_DEV, round(DEV_SHARE * len(table)))
    return set(sorted(table, key=lambda file: hashlib.sha256(file.encode()).digest())[:count])


def _usable(
    folder: Path, captions: Captions, corrupt: Corrupt, source: str
) -> Iterator[tuple[str, tuple[str, bytes, dict]]]:
    """The file of every usable image, and its key, JPEG and captions; the others are counted in
    `corrupt`."""
    root, keys = folder.resolve(), set()
    for file, of_language in captions.items():
        key = str(Path(file).with_suffix("")).replace(".", "_").replace("/", "_")
        texts = [text for texts in of_language.values() for text in texts]
        try:
            path = (root / file).resolve()
            if not path.is_relative_to(root):
                raise ValueError(f"it lies outside {folder}")
            if not path.is_file():
                raise ValueError(f"no such file in {folder}")
            if not all(isinstance(text, str) and text.strip() for text in texts):
                raise ValueError("one of its captions is empty or no text")
            "".join(texts).encode()  # refuses half of a surrogate pair
            if key in keys:
                raise ValueError(f"another image has the same key, {key}")
            keys.add(key)
            jpeg = as_jpeg(path)
        except ValueError as error:
            corrupt.add(source, file, str(error))
        else:
            stripped = {n: [x.strip() for x in t] for n, t in of_language.items()}
            yield file, (key, jpeg, {"captions": stripped})


def _write_shard(path: Path, samples: list[tuple[str, bytes, dict]]) -> None:
    if path.exists():
        raise FileExistsError(f"{path} exists; choose another name for the shards or remove it")
    with replace_file(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
        for key, jpeg, about in samples:
            record = json.dumps(about, ensure_ascii=False).encode()
            for kind, content in (("jpg", jpeg), ("json", record)):
                member = tarfile.TarInfo(f"{key}.{kind}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
