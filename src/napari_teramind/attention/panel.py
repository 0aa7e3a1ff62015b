"""A brain's genes in the network's order, and what results depend on besides the job."""

from __future__ import annotations

import platform
import warnings
from typing import TYPE_CHECKING, Any

from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore
    from napari_teramind.model import TeraMind


def network_panel(brain: BrainStore, model: TeraMind) -> tuple[str, ...]:
    """Return the brain's genes in the order of the network's panel.

    Raises
    ------
    UserError
        If the brain lacks a gene of the panel, or if weights without a panel cannot be matched.
    """
    if model.gene_names is not None:
        missing = [gene for gene in model.gene_names if gene not in set(brain.gene_names)]
        if missing:
            listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise UserError(
                f"The brain lacks {len(missing)} of the checkpoint's {model.config.genes} genes "
                f"({listed}); choose a checkpoint trained on this panel."
            )
        return model.gene_names
    if len(brain.gene_names) != model.config.genes:
        raise UserError(
            f"The checkpoint names no genes and takes {model.config.genes}, but the brain has "
            f"{len(brain.gene_names)}; give the checkpoint's gene list."
        )
    warnings.warn(
        "The checkpoint names no genes; the brain's genes are taken in their order.", stacklevel=3
    )
    return tuple(brain.gene_names)


def computed_with(model: TeraMind) -> dict[str, Any]:
    """Return versions, device, precision and threads (DESIGN 4.9)."""
    import numpy as np
    import torch

    from napari_teramind import __version__

    device = model.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "versions": {
            "napari-teramind": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "device": f"{device.type}: {name or platform.machine()}",
        "precision": str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
