"""Good things to spoil, and what a refusal must look like: shared by the tests of bad input."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from napari_teramind.brain import BrainStore
from napari_teramind.cli import run

PARITY = Path(__file__).parent / "data" / "parity"


class Payload:
    """What a malicious file would run when unpickled: it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.mark,)


@dataclass
class World:
    """Good things to spoil, in a folder of the test's own."""

    folder: Path
    original: BrainStore

    @property
    def mark(self) -> Path:
        return self.folder / "payload-was-run"

    @property
    def out(self) -> Path:
        return self.folder / "out.zarr"

    def brain(self) -> Path:
        path = self.folder / "brain.zarr"
        return path if path.exists() else Path(shutil.copytree(self.original.path, path))

    def checkpoint(self) -> Path:
        return PARITY / "tiny.weights.safetensors"

    def file(self, name: str, content: bytes | str = b"") -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def panel(self, *genes: str) -> Path:
        return self.file("panel.csv", "\n".join(["gene", *genes]))

    def region(self) -> Path:
        """Make a MERSCOPE region of 64 x 64 px with three transcripts."""
        region = self.folder / "region_0"
        (region / "images").mkdir(parents=True)
        image = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
        for stain in ("DAPI", "PolyT"):
            tifffile.imwrite(region / "images" / f"mosaic_{stain}_z0.tif", image)
        (region / "images" / "micron_to_mosaic_pixel_transform.csv").write_text(
            "9.25 0 0\n0 9.25 0\n0 0 1\n"
        )
        rows = ["global_x,global_y,global_z,gene", "1,1,0,Th", "2,3,0,Gad1", "4,4,0,Th"]
        (region / "detected_transcripts.csv").write_text("\n".join(rows))
        return region

    def image(self, name: str, shape: tuple[int, ...], scale: float, **axes: float) -> Path:
        """Make an OME-Zarr image (c z y x) whose pixels are ``scale`` um wide."""
        path = self.folder / name
        names = [f"Gene{i}" for i in range(shape[0])]
        multiscale = {
            "axes": [
                {"name": "c", "type": "channel"},
                *({"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"),
            ],
            "datasets": [
                {
                    "path": "0",
                    "coordinateTransformations": [
                        {"type": "scale", "scale": [1.0, 100.0, scale, scale]},
                        {"type": "translation", "translation": [0, 0, axes.get("y", 0.0), 0]},
                    ],
                }
            ],
        }
        ome = {
            "version": "0.5",
            "multiscales": [multiscale],
            "omero": {"channels": [{"label": gene} for gene in names]},
        }
        group = zarr.open_group(path, mode="w", attributes={"ome": ome})
        group.create_array("0", shape=shape, dtype=np.uint8, chunks=shape)
        return path


Case = Callable[[World], list[object]]


class Cases:
    """Command lines that must fail, each with words that its sentence must hold."""

    def __init__(self) -> None:
        self._cases: list[tuple[str, Case]] = []

    def __call__(self, words: str) -> Callable[[Case], Case]:
        """Register a case."""

        def register(case: Case) -> Case:
            self._cases.append((words, case))
            return case

        return register

    def __len__(self) -> int:
        return len(self._cases)

    def __iter__(self) -> Iterator[object]:
        """Yield the parameters of a test."""
        return (pytest.param(words, case, id=case.__name__) for words, case in self._cases)


def refuse(world: World, case: Case, capsys: pytest.CaptureFixture[str], words: str) -> None:
    """Run a case in this process and check that it is refused."""
    argv = [str(argument) for argument in case(world)]
    capsys.readouterr()
    code = run(argv)
    output = capsys.readouterr()
    check(world, code, output.out, output.err, words)


def check(world: World, code: int, out: str, err: str, words: str) -> None:
    assert code == 2, err
    assert out == ""
    lines = err.strip().splitlines()
    # A warning may come first; the error is one line of words.
    assert all(line.startswith("Warning:") for line in lines[:-1]), err
    assert words in lines[-1]
    assert lines[-1].endswith((".", "?"))
    assert "Traceback" not in err
    assert not world.mark.exists(), "the payload was run"
    thesis = world.out / "thesis.txt"
    assert not world.out.exists() or thesis.read_text() == "dear"
