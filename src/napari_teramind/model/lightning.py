"""Reading the authors' PyTorch-Lightning checkpoints without running anything they contain.

A checkpoint is a pickle, and a pickle is a program. ``torch.load(weights_only=True)`` runs none of
it but the building of tensors and plain containers. Real Lightning files also hold a few harmless
objects (hyper-parameters); the classes listed here are replaced by an inert stand-in, never
imported. Anything else is refused.
"""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_teramind.errors import UserError

HARMLESS = (
    "argparse.Namespace",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
PREFIX = "model."


class _Inert(dict[str, Any]):
    """Stands in for a harmless object of a checkpoint; keeps nothing and does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        pass


def read_lightning(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a Lightning checkpoint, by published name.

    Parameters
    ----------
    path
        A ``.ckpt`` file with a ``state_dict`` whose keys start with ``model.``.

    Returns
    -------
    dict
        Float tensors on the CPU, the prefix taken off.

    Raises
    ------
    UserError
        If the file is damaged, would run code, or holds no ``state_dict``.
    """
    content = load_safely(path)
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise UserError(f"{path} holds no 'state_dict'; give a published Lightning checkpoint.")
    tensors = {
        key.removeprefix(PREFIX): value
        for key, value in state.items()
        if isinstance(key, str) and key.startswith(PREFIX) and isinstance(value, Tensor)
    }
    if not tensors:
        raise UserError(
            f"{path} holds no weights named '{PREFIX}...'; give a published Lightning checkpoint."
        )
    return tensors


def load_safely(path: Path) -> Any:
    """Read what torch saved in a file, running nothing that it holds.

    Raises
    ------
    UserError
        If the file is damaged, or would run code.
    """
    stand_ins: list[Any] = [(_Inert, name) for name in HARMLESS]
    try:
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(_refusal(path, str(error))) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"{path} is not a whole checkpoint; copy or download it again.") from error


def _refusal(path: Path, message: str) -> str:
    """Tell a file that would run code from one that is no pickle at all."""
    if "unsupported global" in message.lower() or zipfile.is_zipfile(path) or _imports(path):
        return (
            f"{path} was refused because it contains code, not only weights; "
            "nothing in it was run; get the checkpoint from its authors."
        )
    return f"{path} is not a whole checkpoint; copy or download it again."


def _imports(path: Path) -> bool:
    """Whether a bare pickle asks for anything to be imported; read as opcodes, without running."""
    try:
        with path.open("rb") as file:
            return any("GLOBAL" in opcode.name for opcode, _, _ in pickletools.genops(file))
    except ValueError:
        return False
