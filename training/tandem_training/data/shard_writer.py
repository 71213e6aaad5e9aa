"""Shards made from a folder of images and a table of captions."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from .atomic import replace_file
from .captions import Captions, read_captions
from .images import as_jpeg
from .samples import Corrupt, read_shards


def write_shards(
    folder: Path,
    captions: Path,
    out: str,
    size: int = 1000,
    language: str = "en",
    max_corrupt: float = 0.0,
) -> dict[str, int]:
    """Write `<out>-0000.tar`, …, with `size` images each → counts of the content, read back.

    `language` is that of captions that do not state theirs. No shard is left after an error.

    Raises:
        FileExistsError: a shard of that name exists.
        ValueError: more than a share `max_corrupt` of the images cannot be used.
    """
    corrupt = Corrupt(max_corrupt)
    table = read_captions(captions, language)
    shards: list[Path] = []
    waiting: list[tuple[str, bytes, dict]] = []
    Path(out).parent.mkdir(parents=True, exist_ok=True)

    def flush() -> None:
        path = Path(f"{out}-{len(shards):04d}.tar")
        _write_shard(path, waiting)
        shards.append(path)
        waiting.clear()

    try:
        for sample in _usable(folder, table, corrupt, str(captions)):
            waiting.append(sample)
            if len(waiting) == size:
                flush()
        corrupt.check(len(table))
        if waiting:
            flush()
        languages = {name: 1.0 for of_language in table.values() for name in of_language}
        counts = [
            len(sample.captions)
            for shard in shards
            for sample in read_shards(str(shard), languages, 0.0)
        ]
    except BaseException:
        for path in shards:
            path.unlink()
        raise
    return {"shards": len(shards), "images": len(counts), "captions": sum(counts)}


def _usable(
    folder: Path, captions: Captions, corrupt: Corrupt, source: str
) -> Iterator[tuple[str, bytes, dict]]:
    """Key, JPEG and captions of every usable image; the others are counted in `corrupt`."""
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
            yield key, jpeg, {n: [text.strip() for text in t] for n, t in of_language.items()}


def _write_shard(path: Path, samples: list[tuple[str, bytes, dict]]) -> None:
    if path.exists():
        raise FileExistsError(f"{path} exists; choose another name for the shards or remove it")
    with replace_file(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
        for key, jpeg, captions in samples:
            about = json.dumps({"captions": captions}, ensure_ascii=False).encode()
            for kind, content in (("jpg", jpeg), ("json", about)):
                member = tarfile.TarInfo(f"{key}.{kind}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
