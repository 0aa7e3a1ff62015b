"""How good generated images are: grey levels, structure, nuclei, texture.

Names are imported on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from napari_teramind.evaluate.counting import Watershed
    from napari_teramind.evaluate.expression import expression_by_structure
    from napari_teramind.evaluate.images import psnr, ssim
    from napari_teramind.evaluate.nuclei import find_nuclei
    from napari_teramind.evaluate.report import Measured, measure
    from napari_teramind.evaluate.sources import Comparison, compared, real_stains, stored_result
    from napari_teramind.evaluate.texture import Texture

__all__ = [
    "Comparison",
    "Measured",
    "Texture",
    "Watershed",
    "compared",
    "expression_by_structure",
    "find_nuclei",
    "measure",
    "psnr",
    "real_stains",
    "ssim",
    "stored_result",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "sources": ["Comparison", "compared", "real_stains", "stored_result"],
        "counting": ["Watershed"],
        "expression": ["expression_by_structure"],
        "images": ["psnr", "ssim"],
        "nuclei": ["find_nuclei"],
        "report": ["Measured", "measure"],
        "texture": ["Texture"],
    },
)
