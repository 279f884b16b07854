"""Calls into trimesh's readers that neither print nor leak its exceptions."""

from __future__ import annotations

import io
import warnings
from typing import Any

import trimesh

from shapestore.errors import InputRefused, Reason


def load_quietly(data: bytes, file_type: str, **options: Any) -> trimesh.Scene:
    """Load a file that passed its size checks, without merging or repairing anything.

    Parameters
    ----------
    data
        The file.
    file_type
        trimesh's name of the format.
    options
        Passed to trimesh.

    Raises
    ------
    InputRefused
        MALFORMED for whatever trimesh raises: its readers answer bad files with any kind of exception.
    """
    logger = trimesh.util.log
    enabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return trimesh.load_scene(io.BytesIO(data), file_type=file_type, process=False, **options)
    except MemoryError:
        raise
    except Exception as error:  # its readers index, reshape and look up without checks
        raise InputRefused(
            Reason.MALFORMED, f"the {file_type.upper()} content contradicts itself ({_plain(error)})"
        ) from error
    finally:
        logger.disabled = enabled


def _plain(error: Exception) -> str:
    """What an exception says, for a person."""
    match error:
        case KeyError():
            return f"{error} is missing"
        case IndexError():
            return "it refers to something that is not there"
        case _:
            first_line = str(error).strip().partition("\n")[0]
            return first_line[:200] or "a check of the reader failed"
