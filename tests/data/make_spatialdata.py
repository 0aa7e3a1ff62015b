"""Write a small SpatialData store of every kind of element; run with spatialdata installed.

usage: make_spatialdata.py OUT.zarr
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import spatialdata
from spatialdata.models import Image2DModel, Image3DModel, Labels2DModel, PointsModel, TableModel
from spatialdata.transformations import Affine, Scale, Sequence, Translation, get_transformation


def main(out: Path) -> None:
    """Write the store, and beside it where each element lies."""
    rng = np.random.default_rng(0)
    stain = rng.integers(0, 255, (2, 64, 96)).astype(np.uint8)
    volume = rng.integers(0, 255, (1, 3, 32, 48)).astype(np.uint8)
    turned = [[0.0, -0.5, 40.0], [0.5, 0.0, 7.0], [0.0, 0.0, 1.0]]
    images = {
        "stain": Image2DModel.parse(
            stain, dims=("c", "y", "x"), c_coords=["DAPI", "PolyT"], scale_factors=[2],
            transformations={
                "global": Sequence([Scale([0.2, 0.2], ("y", "x")), Translation([5, 9], ("y", "x"))])
            },
        ),
        "turned": Image2DModel.parse(
            stain[:1], dims=("c", "y", "x"),
            transformations={"global": Affine(turned, ("y", "x"), ("y", "x"))},
        ),
        "volume": Image3DModel.parse(volume, dims=("c", "z", "y", "x")),
    }  # fmt: skip
    cells = (stain[0] > 128).astype(np.int32)
    labels = {"cells": Labels2DModel.parse(cells, dims=("y", "x"))}
    frame = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0], "gene": ["Th", "Mog"]})
    points = {"transcripts": PointsModel.parse(frame, coordinates={"x": "x", "y": "y"})}
    table = anndata.AnnData(np.ones((2, 3), np.float32))
    data = spatialdata.SpatialData(
        images=images, labels=labels, points=points, tables={"table": TableModel.parse(table)}
    )
    data.write(out)
    lies = {}
    for name, element in {**images, **labels}.items():
        axes = ("z", "y", "x") if name == "volume" else ("y", "x")
        matrix = get_transformation(element, "global").to_affine_matrix(axes, axes)
        lies[name] = matrix.tolist()
    told = {"spatialdata": spatialdata.__version__, "lies": lies}
    out.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
