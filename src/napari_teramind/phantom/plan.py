"""What a phantom is to be: animals, sizes, slices, and where random numbers come from."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from napari_teramind.errors import UserError

if TYPE_CHECKING:
    from napari_teramind.phantom.anatomy import Anatomy

PIXEL_SIZE = 0.108
"""Micrometre per pixel, as the MERSCOPE writes its mosaics."""
BIN = 16
"""Pixels along the side of a gene bin."""
BLOCK = 1024
"""Pixels along the side of a block: the unit in which everything random is drawn."""


@dataclass(frozen=True)
class Size:
    """How large a phantom is.

    Attributes
    ----------
    name : str
    slices : int
        Number of sections.
    height, width : int
        Shape of a section, pixels.
    density : float
        Cell density relative to the common rules. The smaller a brain, the fewer cells would make
        up a structure: small phantoms are packed like thick sections.
    """

    name: str
    slices: int
    height: int
    width: int
    density: float


SIZES = {
    size.name: size
    for size in (
        Size("XS", 4, 1088, 1536, 1.35),
        Size("S", 12, 3328, 4608, 1.35),
        Size("M", 12, 6656, 9216, 1.35),
        Size("L", 1, 35840, 50176, 0.8),
    )
}


@dataclass(frozen=True)
class Animal:
    """One of the three animals.

    Attributes
    ----------
    name : str
    index : int
        Sets its random numbers apart from the others'.
    olfactory_bulb : bool
        Whether the sections reach forward into the olfactory bulb.
    stretch : tuple of float
        Size of the brain along DV and ML, relative to the atlas.
    density : float
        Cell density relative to the common rules.
    depth : float
        Transcripts detected, relative to the common profiles.
    """

    name: str
    index: int
    olfactory_bulb: bool
    stretch: tuple[float, float]
    density: float
    depth: float


ANIMALS = {
    animal.name: animal
    for animal in (
        Animal("main", 0, True, (1.0, 1.0), 1.0, 1.0),
        Animal("supp_m", 1, False, (1.02, 0.985), 1.05, 0.92),
        Animal("supp_f", 2, False, (0.975, 1.01), 0.97, 1.06),
    )
}


@cache
def panel(animal: str) -> tuple[str, ...]:
    """Gene symbols of an animal's panel; that of ``main`` opens those of the others."""
    source = resources.files("napari_teramind.phantom") / "panel.toml"
    lists = tomllib.loads(source.read_text(encoding="utf-8"))
    main = tuple(lists["main"])
    return main if animal == "main" else main + tuple(lists["supplement"])


def check_animal(name: str) -> Animal:
    """Find the animal of this name, or raise a `UserError` that lists the names."""
    if name not in ANIMALS:
        raise UserError(f"There is no phantom animal {name!r}; choose one of {', '.join(ANIMALS)}.")
    return ANIMALS[name]


def check_size(name: str) -> Size:
    """Find the size of this name, or raise a `UserError` that lists the names."""
    if name not in SIZES:
        raise UserError(f"There is no phantom size {name!r}; choose one of {', '.join(SIZES)}.")
    return SIZES[name]


def generator(*key: int) -> np.random.Generator:
    """Random numbers that depend on the key alone, not on what was drawn before.

    Parameters
    ----------
    *key : int
        Seed, animal, purpose, slice, block row, block column: as many as matter. Not negative.
    """
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(key)))


# Purposes: the third part of a key.
FORM, SLICES, VESSELS, SITES, COUNTS, SCATTER, AMBIENT, STAIN = range(8)


@dataclass(frozen=True)
class Plan:
    """Everything that follows from animal, size, seed and anatomy.

    Attributes
    ----------
    animal, size, seed
        As asked for.
    ap_mm : tuple of float
        Position of each section in the frame of the anatomy, mm.
    um_per_mm : float
        Micrometre of phantom for a millimetre of mouse: cells keep their true size, so that small
        phantoms are small brains.
    """

    animal: Animal
    size: Size
    seed: int
    ap_mm: tuple[float, ...]
    um_per_mm: float

    def rng(self, purpose: int, *place: int) -> np.random.Generator:
        """Random numbers for a purpose at a place (slice, block row, block column)."""
        return generator(self.seed, self.animal.index, purpose, *place)

    @property
    def positions_um(self) -> list[float]:
        """Position of each section in the phantom, micrometre from the first."""
        return [round((ap - self.ap_mm[0]) * self.um_per_mm, 3) for ap in self.ap_mm]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, height, width) in pixels."""
        return self.size.slices, self.size.height, self.size.width


def make_plan(animal: str, size: str, seed: int, anatomy: Anatomy) -> Plan:
    """Work out slices and scale.

    Raises
    ------
    UserError
        When animal or size are unknown or the seed is negative.
    """
    who, how_large = check_animal(animal), check_size(size)
    if seed < 0:
        raise UserError(f"The seed must not be negative, but it is {seed}.")
    first, last = anatomy.ap_range_mm
    n = how_large.slices
    if n == 1:
        # One section says most at the level of hippocampus, thalamus and substantia nigra.
        ap = np.array([first + 0.63 * (last - first)])
    else:
        if n <= 4:
            # A few sections stay away from the poles, where there is little to see.
            margin = 0.085 * (last - first)
            first, last = first + margin, last - margin
        step = (last - first) / (n - 1)
        ap = first + step * np.arange(n)
        # Sections are never cut evenly.
        ap[1:-1] += generator(seed, who.index, SLICES).uniform(-0.15, 0.15, n - 2) * step
    dv0, dv1, half_ml = anatomy.frame_mm
    scale = min(
        how_large.width * PIXEL_SIZE / (2 * half_ml), how_large.height * PIXEL_SIZE / (dv1 - dv0)
    )
    return Plan(who, how_large, seed, tuple(float(v) for v in ap), scale)
