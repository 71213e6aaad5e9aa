"""Checkpoints that survive a kill and a full disk."""

from pathlib import Path

import torch

from ..data.atomic import replace_file


def save(path: Path, state: dict) -> None:
    """Write `state` to `path`. A failure leaves the previous checkpoint whole.

    Raises:
        OSError: the file cannot be written; the error names it.
    """
    try:
        with replace_file(path) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:  # torch reports some failed writes as RuntimeError
        previous = (
            "the previous checkpoint is whole"
            if path.exists()
            else "there is no earlier checkpoint"
        )
        raise OSError(f"could not save {path} ({previous}): {error}") from error


def load(path: Path, architecture: str) -> dict:
    """The state saved at `path`.

    Raises:
        ValueError: the file is damaged, or of another architecture (`Recipe.architecture`).
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged zip raises one of many types
        raise ValueError(f"{path} is no checkpoint that can be read: {error}") from error
    if state["recipe"] != architecture:
        raise ValueError(
            f"{path} is of another architecture: {state['recipe']}; the recipe asks for {architecture}"
        )
    return state
