"""Made-up MERSCOPE region folders and multiscale images for the importers' tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
import zarr

PIXEL = 0.108
OFFSET = (30.0, -20.0)
"""World micrometers (x, y) of the mosaic's corner."""


def transcripts(points: Sequence[tuple[str, float, float, float]]) -> pd.DataFrame:
    """Make a table of (gene, mosaic y, mosaic x, plane), coordinates in mosaic pixels."""
    frame = pd.DataFrame(points, columns=["gene", "v", "u", "global_z"])
    frame["global_x"] = frame["u"] * PIXEL + OFFSET[0]
    frame["global_y"] = frame["v"] * PIXEL + OFFSET[1]
    frame["fov"] = 0
    return frame[["fov", "global_x", "global_y", "global_z", "gene"]]


def write_region(
    folder: Path,
    table: pd.DataFrame,
    images: Mapping[str, Sequence[np.ndarray]],
    *,
    parquet: bool = False,
    **tiff_options: object,
) -> Path:
    """Write a region folder; `images` holds the planes of every stain."""
    (folder / "images").mkdir(parents=True)
    if parquet:
        table.to_parquet(folder / "detected_transcripts.parquet")
    else:
        table.to_csv(folder / "detected_transcripts.csv")
    scale = 1 / PIXEL
    matrix = [[scale, 0, -OFFSET[0] * scale], [0, scale, -OFFSET[1] * scale], [0, 0, 1]]
    np.savetxt(folder / "images" / "micron_to_mosaic_pixel_transform.csv", matrix)
    for stain, planes in images.items():
        for z, image in enumerate(planes):
            path = folder / "images" / f"mosaic_{stain}_z{z}.tif"
            tifffile.imwrite(path, image, **tiff_options)
    return folder


def noise(planes: int, height: int, width: int, seed: int = 0) -> list[np.ndarray]:
    """Make planes of random 16-bit pixels, none of them zero."""
    rng = np.random.default_rng(seed)
    return [rng.integers(100, 5000, (height, width), dtype=np.uint16) for _ in range(planes)]


def write_multiscale(
    path: Path,
    image: np.ndarray,
    axes: str,
    *,
    scale: Mapping[str, float],
    translation: Mapping[str, float] | None = None,
    version: str = "0.5",
    levels: int = 2,
    labels: Sequence[str] | None = None,
    unit: str = "micrometer",
) -> Path:
    """Write a plain OME-Zarr as other software does, coarser levels by taking every 2nd pixel."""
    kinds = {"t": "time", "c": "channel"}
    group = zarr.create_group(str(path), zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for level in range(levels):
        step = 2**level
        group.create_array(str(level), data=image[..., ::step, ::step])
        steps = [scale.get(a, 1.0) * (step if a in "yx" else 1) for a in axes]
        transforms: list[dict[str, object]] = [{"type": "scale", "scale": steps}]
        if translation:
            shift = [translation.get(a, 0.0) for a in axes]
            transforms.append({"type": "translation", "translation": shift})
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    named = [
        {"name": a, "type": kinds.get(a, "space")} | ({"unit": unit} if a in "zyx" else {})
        for a in axes
    ]
    block: dict[str, object] = {"name": path.stem, "axes": named, "datasets": datasets}
    ome: dict[str, object] = {"multiscales": [block]}
    if labels is not None:
        window = {"min": 0, "max": 255, "start": 0, "end": 255}
        ome["omero"] = {
            "channels": [{"label": name, "color": "FFFFFF", "window": window} for name in labels]
        }
    if version == "0.4":
        block["version"] = "0.4"
        group.attrs.update(ome)
    else:
        group.attrs["ome"] = ome | {"version": version}
    return path


def good_region(folder: Path) -> Path:
    """Make a region of two planes of 64 x 64 px with two transcripts."""
    images = {s: noise(2, 64, 64) for s in ("DAPI", "PolyT")}
    rows = [("Th", 5, 5, 0), ("Mog", 7, 9, 1)]
    return write_region(folder / "region_0", transcripts(rows), images)
