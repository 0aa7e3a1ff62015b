"""Sampling a whole field that is given as arrays."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from napari_teramind.diffusion.samplers import plan_steps
from napari_teramind.model.config import BIN
from napari_teramind.model.network import TeraMind
from napari_teramind.simulate.region import PatchBox, Settings
from napari_teramind.simulate.wavefront import Wavefront


def sample(
    model: TeraMind,
    noise: Tensor,
    g: Tensor,
    steps: int = 15,
    sampler: str = "ddim",
    callback: Callable[[int, Tensor, Tensor], None] | None = None,
    settings: Settings | None = None,
) -> Tensor:
    """Generate a field from noise and gene counts.

    Parameters
    ----------
    model
        The network.
    noise
        (stains, M, H, W), sides multiples of the patch p; taken as float32.
    g
        (genes, S, (H + p)/16, (W + p)/16) raw counts; p/2 pixels more than the field on each side.
    steps, sampler
        See :func:`~napari_teramind.diffusion.samplers.plan_steps`.
    callback
        Called as ``callback(step, x_t, x0)`` after every step, tensors of the field's shape; only
        while all rows advance together (``settings.band`` None).
    settings
        How the work is cut.

    Returns
    -------
    Tensor
        (stains, M, H, W) float32 in [-1, 1]; the state beyond the field is -1.
    """
    c = model.config
    p, b = c.patch, c.bins
    if noise.ndim != 4 or noise.shape[:2] != (c.stains, c.image_slices):
        expected = f"({c.stains}, {c.image_slices}, H, W)"
        raise ValueError(f"noise must be {expected}, not {tuple(noise.shape)}.")
    height, width = noise.shape[2:]
    if height % p or width % p or not height or not width:
        raise ValueError(f"The field's sides must be multiples of {p}, not {height} x {width}.")
    shape = (c.genes, c.gene_slices, (height + p) // BIN, (width + p) // BIN)
    if tuple(g.shape) != shape:
        raise ValueError(f"g must be {shape} to go with the noise, not {tuple(g.shape)}.")
    field = PatchBox(0, height // p, 0, width // p)

    def read_genes(box: PatchBox) -> Tensor:
        return g[:, :, box.top * b : box.bottom * b, box.left * b : box.right * b]

    def read_noise(box: PatchBox) -> Tensor:
        y0, y1, x0, x1 = box.pixels(p)
        return noise[:, :, y0:y1, x0:x1].float().clone()

    return Wavefront(
        model,
        field,
        field,
        plan_steps(sampler, steps),
        read_genes,
        read_noise,
        settings or Settings(),
        on_step=callback,
    ).run()
