"""The bundle: the one contract between training and service (docs/bundles.md)."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jsonschema

SCHEMA = Path(__file__).parents[3] / "models" / "manifest.schema.json"


def write_manifest(folder: Path, manifest: dict) -> None:
    """Write `manifest.json` with the size and sha256 of every other file of the folder.

    Raises:
        jsonschema.ValidationError: the manifest does not follow the schema.
    """
    files = sorted(path for path in folder.iterdir() if path.name != "manifest.json")
    listed = [
        {"path": path.name, "bytes": path.stat().st_size, "sha256": _sha256(path)} for path in files
    ]
    manifest = {**manifest, "files": listed}
    jsonschema.validate(manifest, json.loads(SCHEMA.read_text()))
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def refuse_other_folder(folder: Path) -> None:
    """ValueError if `folder` exists and is no bundle, which a new bundle may replace."""
    if folder.exists() and not (folder / "manifest.json").is_file():
        raise ValueError(f"{folder} exists and is no bundle; it is left as it is")


@contextmanager
def in_place_of(folder: Path) -> Iterator[Path]:
    """A path for a new folder, which takes the place of `folder` after the block. An error leaves
    `folder` as it was, and nothing else."""
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        yield aside
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def read_manifest(folder: Path) -> dict:
    """The manifest of a bundle whose files are all present and unchanged.

    Raises:
        ValueError: names the file and the difference.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise ValueError(f"{folder} is no bundle: it has no manifest.json")
    manifest = json.loads(path.read_text())
    try:
        jsonschema.validate(manifest, json.loads(SCHEMA.read_text()))
    except jsonschema.ValidationError as error:
        raise ValueError(f"{path}: {error.json_path}: {error.message}") from error
    for item in manifest["files"]:
        file = folder / item["path"]
        if not file.is_file() or _sha256(file) != item["sha256"]:
            raise ValueError(
                f"{file}: missing, or not the file that the manifest lists "
                f"(sha256 {item['sha256']})"
            )
    return manifest


def token_sizes(manifest: dict) -> dict[str, int]:
    """Width of a text token, width of an image token and image tokens an image: what a fusion
    encoder reads. ValueError for a dual encoder alone."""
    if "image_tokens" not in manifest:
        raise ValueError(f"{manifest['name']} is a dual encoder alone; it gives no tokens to fuse")
    return {
        "text_width": manifest["text_encoder"]["token_width"],
        "image_width": manifest["image_tokens"]["width"],
        "cells": manifest["image_tokens"]["count"],
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
