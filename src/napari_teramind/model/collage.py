"""Boundary-aware recombination of shifted patches (DESIGN section 2).

The grid of *collage* patches starts at the field's corner; the grid of *shifted* patches, which the
encoder sees, starts half a patch before it and has one row and one column more. A collage patch is
made of one quarter of each of the four shifted patches that overlap it.
"""

from __future__ import annotations

from torch import Tensor


def cut(image: Tensor, side: int) -> Tensor:
    """Cut an image into patches.

    Parameters
    ----------
    image
        (B, rows * side, columns * side, ...).
    side
        Side of a patch.

    Returns
    -------
    Tensor
        (B * rows * columns, side, side, ...), row-major.
    """
    batch, height, width, *rest = image.shape
    rows, columns = height // side, width // side
    image = image.reshape(batch, rows, side, columns, side, *rest).transpose(2, 3)
    return image.reshape(batch * rows * columns, side, side, *rest)


def join(patches: Tensor, rows: int, columns: int) -> Tensor:
    """Put patches together: the inverse of :func:`cut` for a grid of ``rows`` x ``columns``."""
    _, side, _, *rest = patches.shape
    image = patches.reshape(-1, rows, columns, side, side, *rest).transpose(2, 3)
    return image.reshape(-1, rows * side, columns * side, *rest)


def collage(patches: Tensor, rows: int, columns: int) -> Tensor:
    """Recombine shifted patches into collage patches.

    Parameters
    ----------
    patches
        (B * rows * columns, side, side, ...) shifted patches, row-major; ``side`` even.
    rows, columns
        Size of the shifted grid, at least 2 x 2.

    Returns
    -------
    Tensor
        (B * (rows - 1) * (columns - 1), side, side, ...).
    """
    side = patches.shape[1]
    half = side // 2
    return cut(join(patches, rows, columns)[:, half:-half, half:-half], side)
