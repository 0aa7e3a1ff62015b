"""Evaluating the network in micro-batches of one shape, which halve when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from napari_teramind.errors import UserError


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that a device, or the computer, has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


class Batches:
    """Calls functions of batches with batches of one size.

    Results are the same bits only for one shape of a batch (DESIGN 4.9), so the last batch is
    filled up with zeros. When memory runs out the size halves for good and the evaluation is made
    again: from then on results are equal to 1e-3.

    Parameters
    ----------
    size
        Patches in a batch.
    on_halved
        Called with the new size.

    Attributes
    ----------
    size : int
        Present size.
    calls : int
        Batches evaluated.
    """

    def __init__(self, size: int, on_halved: Callable[[int], None] | None = None) -> None:
        self.size = size
        self.calls = 0
        self._on_halved = on_halved

    def __call__(
        self, function: Callable[..., list[Tensor]], inputs: Sequence[Tensor]
    ) -> list[Tensor]:
        """Call ``function`` on tensors whose first axis counts patches.

        Raises
        ------
        UserError
            If not even one patch fits.
        """
        start, count = 0, inputs[0].shape[0]
        outputs: list[list[Tensor]] = []
        while start < count:
            parts = [value[start : start + self.size] for value in inputs]
            here = parts[0].shape[0]
            try:
                found = function(*(_filled(part, self.size) for part in parts))
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                # Leaves the block first: the exception holds the frames and their tensors.
                found = None
            if found is None:
                self._halve(inputs[0].device)
                continue
            self.calls += 1
            outputs.append([value[:here] for value in found])
            start += here
        if len(outputs) == 1:
            return outputs[0]
        return [torch.cat(level) for level in zip(*outputs, strict=True)]

    def _halve(self, device: torch.device) -> None:
        if self.size == 1:
            raise UserError(
                f"Not even one patch fits into the memory of the {device.type.upper()}; close what "
                "else uses it, or choose another device or a smaller network."
            )
        self.size = -(-self.size // 2)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if self._on_halved is not None:
            self._on_halved(self.size)


def _filled(part: Tensor, size: int) -> Tensor:
    """Fill a batch up with zeros."""
    short = size - part.shape[0]
    return torch.cat([part, part.new_zeros(short, *part.shape[1:])]) if short else part
