"""What verbs share: gene panels, devices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_teramind.errors import UserError
from napari_teramind.published import fetch_gene_list, is_gene_list_address

Result = dict[str, Any]
"""Content of the ``Finished`` event."""


def read_panel(location: str | None) -> tuple[str, ...] | None:
    """Read a panel of genes from a file or a web address that lists them, or from a brain."""
    if location is None:
        return None
    if is_gene_list_address(location):
        return fetch_gene_list(location)
    if "://" in location or Path(location).is_dir():
        from napari_teramind.brain import open_brain

        return open_brain(location).gene_names
    from napari_teramind.model import read_gene_list

    return read_gene_list(location)


def pick_device(wanted: str) -> str:
    """Return the device that ``auto`` stands for here, or the wanted one if it is to be had.

    Raises
    ------
    UserError
        If this computer has no such device.
    """
    import torch

    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return next(device for device, there in available.items() if there)
    if not available.get(wanted.partition(":")[0], False):
        there = ", ".join(device for device, is_there in available.items() if is_there)
        raise UserError(f"There is no device '{wanted}' here; use one of auto, {there}.")
    return wanted
