"""Checkpoints that survive a kill and a full disk."""

from pathlib import Path

import torch

from ..data.atomic import replace_file

VERSION = 3  # of what a checkpoint holds


def save(path: Path, state: dict) -> None:
    """Write `state` to `path`. A failure leaves the previous checkpoint whole.

    Raises:
        OSError: the file cannot be written; the error names it.
    """
    try:
        with replace_file(path) as file:
            torch.save({"version": VERSION, **state}, file)
    except (OSError, RuntimeError) as error:  # torch reports some failed writes as RuntimeError
        previous = (
            "the previous checkpoint is whole" if path.exists() else "there is no earlier one"
        )
        raise OSError(f"could not save {path} ({previous}): {error}") from error


def load(path: Path, architecture: dict | None = None) -> dict:
    """The state saved at `path`, a file or the folder of a run.

    Raises:
        ValueError: the file is damaged, of another version, or of another architecture.
    """
    if path.is_dir():
        if not (path / "model.pt").is_file():
            raise ValueError(f"{path} is a folder without a checkpoint, a file model.pt")
        path = path / "model.pt"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged zip shows as one of many types
        raise ValueError(f"{path} is no checkpoint that can be read: {error}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} is no checkpoint of this trainer: it holds no table")
    if (version := state.get("version", 1)) != VERSION:
        raise ValueError(
            f"{path} is a checkpoint of version {version}; this trainer reads version {VERSION}: "
            "train it again"
        )
    if architecture is not None and state["architecture"] != architecture:
        raise ValueError(
            f"{path} is of another architecture: {state['architecture']}; "
            f"the recipe asks for {architecture}"
        )
    return state
