"""Nuclei by Cellpose, which runs in a process of its own.

Cellpose and its weights are the user's: neither is fetched. The process is this Python running
:mod:`.cellpose_process`; requests and answers are lines of JSON, arrays lie in a temporary folder
as ``.npy``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from napari_teramind.errors import UserError
from napari_teramind.evaluate.counting import Borders, Find, Read
from napari_teramind.evaluate.tiles import TILE, Box, cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FAINT, _BRIGHT = 0.01, 0.99
_LAST_WORDS = 2000
_GRACE = 5.0


class Cellpose:
    """Finds nuclei with Cellpose; see :class:`~napari_teramind.evaluate.counting.Method`.

    Grey levels are scaled by the 1st and 99th percentile of the pixels of a plane that are
    compared, as Cellpose does with whole images. Use it as a context manager: leaving the block
    ends the process.

    Parameters
    ----------
    weights
        File with Cellpose's weights.
    device
        A torch device; Cellpose uses the GPU unless it is ``"cpu"``.

    Raises
    ------
    UserError
        If there is no such file, Cellpose is not installed, or it cannot use the weights.
    """

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        if not weights.is_file():
            raise UserError(f"There are no weights of Cellpose at {weights}; check the path.")
        self._folder = tempfile.TemporaryDirectory(prefix="teramind-cellpose-")
        self._told = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "napari_teramind.evaluate.cellpose_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._told,
            text=True,
            encoding="utf-8",
        )
        try:
            self._ask({"weights": str(weights.resolve()), "gpu": device != "cpu"})
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process and remove its files."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:  # it is gone already, with something unsaid
                continue
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._told.close()
        self._folder.cleanup()

    def plane(self, read: Read, counts: Callable[[Box], NDArray[np.bool_]], box: Box) -> Find:
        """Return what finds the nuclei of a tile; see the class."""
        grey = np.zeros(256, np.int64)
        for tile in cut(box, TILE):
            compared = counts(tile)
            if compared.any():
                grey += np.bincount(read(tile)[compared], minlength=256)
        share = np.cumsum(grey) / max(1, grey.sum())
        low, high = (int(np.searchsorted(share, part)) for part in (_FAINT, _BRIGHT))

        def find(block: NDArray[np.uint8], borders: Borders) -> NDArray[np.integer]:
            if low >= high:  # an even plane has no nuclei
                return np.zeros(block.shape, np.int64)
            return self.segment(block, low, high)

        return find

    def segment(self, block: NDArray[np.uint8], low: float, high: float) -> NDArray[np.integer]:
        """Label the nuclei of an image.

        Parameters
        ----------
        block
            (y, x) grey levels.
        low, high
            Grey levels that become 0 and 1.

        Raises
        ------
        UserError
            If Cellpose fails.
        """
        image, labels = (Path(self._folder.name) / f"{name}.npy" for name in ("image", "labels"))
        np.save(image, block, allow_pickle=False)
        self._ask({"image": str(image), "labels": str(labels), "lowhigh": [low, high]})
        found = np.load(labels, allow_pickle=False)
        if found.shape != block.shape or found.dtype.kind not in "iu":
            raise UserError(
                f"Cellpose answered with {found.dtype} of shape {found.shape} for an image of shape"
                f" {block.shape}; install a version 4, or use --nuclei watershed."
            )
        return np.asarray(found)

    def _ask(self, request: dict[str, Any]) -> None:
        pipe, answers = self._process.stdin, self._process.stdout
        assert pipe is not None
        assert answers is not None
        try:
            pipe.write(json.dumps(request) + "\n")
            pipe.flush()
        except OSError:
            line = ""
        else:
            line = answers.readline()
        if not line:
            raise UserError(f"Cellpose's process ended ({self._last_words()}).")
        answer = json.loads(line)
        if "missing" in answer:
            raise UserError(
                f"Cellpose is not installed in this Python ({answer['missing']}); install"
                " 'napari-teramind[cellpose]', or use --nuclei watershed."
            )
        if "error" in answer:
            raise UserError(f"Cellpose failed ({answer['error']}); check its weights.")

    def _last_words(self) -> str:
        self._process.wait(_GRACE)
        self._told.seek(0, 2)
        self._told.seek(max(0, self._told.tell() - _LAST_WORDS))
        lines = self._told.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].rstrip(".") if lines else f"exit code {self._process.returncode}"
