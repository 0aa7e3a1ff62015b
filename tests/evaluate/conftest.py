from __future__ import annotations

from typing import Any

import pytest

from evaluations import ROI, SLICES, softened
from napari_teramind.brain import BrainStore
from napari_teramind.phantom import make_phantom
from napari_teramind.phantom.plan import SIZES, Size
from simulations import keep_simulation


@pytest.fixture(scope="package")
def judged(tmp_path_factory: pytest.TempPathFactory) -> BrainStore:
    """Make a phantom of two small sections with some simulations; nobody may write into it.

    ``soft`` is a blurred copy of a region, ``same`` an equal one, ``CTX`` as if generated in a
    structure only, ``far`` of a corner without tissue.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "tiny", Size("tiny", 2, 640, 896, 1.35))
        settings: dict[str, Any] = {"size": "tiny"}
        brain = make_phantom(tmp_path_factory.mktemp("evaluate") / "main.zarr", **settings)
    real = brain.read_stains(ROI, SLICES)

    def keep(name: str, image: Any, **provenance: Any) -> None:
        keep_simulation(brain, name, image, roi=ROI, slices=SLICES, provenance=provenance)

    keep("soft", softened(real))
    keep("same", real)
    keep("CTX", softened(real), request={"structures": ["CTX"]})
    keep("soft, standard deviation", softened(real), statistic="standard deviation")
    corner = (0, 48, 0, 48)
    keep_simulation(
        brain, "far", brain.read_stains(corner, (0, 1)), roi=corner, slices=(0, 1), provenance={}
    )
    return brain
