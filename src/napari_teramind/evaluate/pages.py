"""Self-contained HTML pages: one file that can be sent to a colleague, pictures included."""

from __future__ import annotations

import base64
import io
from functools import cache
from typing import Any

import numpy as np


def page(template: str, **values: Any) -> str:
    """Fill in a page.

    Parameters
    ----------
    template : str
        Name of a file in ``templates/``.
    **values
        What it shows; text is escaped.
    """
    return str(_environment().get_template(template).render(**values))


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("napari_teramind.evaluate"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def picture(image: np.ndarray) -> str:
    """Return an image as the address of itself, for a page.

    Parameters
    ----------
    image : ndarray of uint8, (y, x) or (y, x, 3)
    """
    from PIL import Image

    memory = io.BytesIO()
    Image.fromarray(image).save(memory, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(memory.getvalue()).decode("ascii")
