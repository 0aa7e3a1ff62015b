"""Phantoms that several tests look at; they are shared, so nobody may write into them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from napari_teramind.phantom import make_phantom
from napari_teramind.phantom.plan import SIZES, Size

if TYPE_CHECKING:
    from napari_teramind.brain import BrainStore


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> BrainStore:
    """Open the smallest public phantom of the main animal."""
    return make_phantom(tmp_path_factory.mktemp("phantom") / "main.zarr", size="XS")


@pytest.fixture
def make_tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., BrainStore]:
    """Make phantoms of two small sections, for tests that need many."""
    monkeypatch.setitem(SIZES, "tiny", Size("tiny", 2, 640, 896, 1.35))

    def make(name: str = "tiny.zarr", **settings: Any) -> BrainStore:
        return make_phantom(tmp_path / name, size="tiny", **settings)

    return make
