"""Checkpoints that survive a kill and a full disk: written aside, forced to the disk, then renamed."""

import os
from pathlib import Path

import torch


def save(path: Path, state: dict) -> None:
    """Write `state` to `path`. Whatever happens half-way, `path` holds either the previous
    checkpoint or the new one, whole. OSError, naming the file, when it cannot be written."""
    aside = path.with_suffix(".tmp")
    try:
        with aside.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the renaming itself
        finally:
            os.close(folder)
    except (OSError, RuntimeError) as error:  # torch reports some failed writes as RuntimeError
        kept = (
            "the previous checkpoint is whole"
            if path.exists()
            else "there is no earlier checkpoint"
        )
        raise OSError(f"could not save {path} ({kept}): {error}") from error
    finally:
        aside.unlink(missing_ok=True)


def load(path: Path, architecture: str) -> dict:
    """The state saved at `path`. ValueError when the file is damaged or of another architecture
    (`repr` of the model's configuration)."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged zip shows as one of many types
        raise ValueError(f"{path} is no checkpoint that can be read: {error}") from error
    if state["recipe"] != architecture:
        raise ValueError(
            f"{path} is of another architecture: {state['recipe']}; the recipe asks for {architecture}"
        )
    return state
