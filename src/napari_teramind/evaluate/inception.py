"""FID and sFID: Fréchet distances of features of the published Inception network.

The network is the Inception-v3 (Szegedy et al. 2015) whose weights of 2015-12-05 the FID of Heusel
et al. (2017) was defined with; names, shapes and the three departures from the paper's architecture
are those of ``pt_inception-2015-12-05-6726825d.pth`` of pytorch-fid. Only what the features need is
here. The weights are the user's: they are not fetched.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_teramind.errors import UserError
from napari_teramind.model.lightning import load_safely

_SPATIAL = 7
"""Channels of the first convolution of Mixed_6d that sFID uses (Nash et al. 2021)."""
_INPUT = 299
_BATCH = 16


class _Conv(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inside: int, outside: int, kernel: int | tuple[int, int], stride: int = 1,
                 padding: int | tuple[int, int] = 0) -> None:  # fmt: skip
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outside, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _mean3(x: Tensor) -> Tensor:
    """Mean over 3 x 3, of what lies within the image."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class _A(nn.Module):
    def __init__(self, inside: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(inside, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = _Conv(inside, 48, 1), _Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = _Conv(inside, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, padding=1)
        self.branch_pool = _Conv(inside, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        parts = [self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double]
        return torch.cat([*parts, self.branch_pool(_mean3(x))], 1)


class _B(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch3x3 = _Conv(288, 384, 3, 2)
        self.branch3x3dbl_1 = _Conv(288, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


class _C(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        row, column = {"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = _Conv(768, 192, 1)
        self.branch7x7_1 = _Conv(768, c, 1)
        self.branch7x7_2 = _Conv(c, c, **row)  # type: ignore[arg-type]
        self.branch7x7_3 = _Conv(c, 192, **column)  # type: ignore[arg-type]
        self.branch7x7dbl_1 = _Conv(768, c, 1)
        self.branch7x7dbl_2 = _Conv(c, c, **column)  # type: ignore[arg-type]
        self.branch7x7dbl_3 = _Conv(c, c, **row)  # type: ignore[arg-type]
        self.branch7x7dbl_4 = _Conv(c, c, **column)  # type: ignore[arg-type]
        self.branch7x7dbl_5 = _Conv(c, 192, **row)  # type: ignore[arg-type]
        self.branch_pool = _Conv(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_mean3(x))], 1)


class _D(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = _Conv(768, 192, 1), _Conv(192, 320, 3, 2)
        self.branch7x7x3_1 = _Conv(768, 192, 1)
        self.branch7x7x3_2 = _Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = _Conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = _Conv(192, 192, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        parts = [self.branch3x3_2(self.branch3x3_1(x)), self.branch7x7x3_4(seven)]
        return torch.cat([*parts, F.max_pool2d(x, 3, 2)], 1)


class _E(nn.Module):
    def __init__(self, inside: int, largest: bool) -> None:
        super().__init__()
        self._largest = largest
        self.branch1x1, self.branch3x3_1 = _Conv(inside, 320, 1), _Conv(inside, 384, 1)
        self.branch3x3_2a = _Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = _Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = _Conv(inside, 448, 1)
        self.branch3x3dbl_2 = _Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = _Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = _Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = _Conv(inside, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        parts = [self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three)]
        parts += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        pooled = F.max_pool2d(x, 3, 1, 1) if self._largest else _mean3(x)
        return torch.cat([*parts, self.branch_pool(pooled)], 1)


class InceptionV3(nn.Module):
    """The network up to the global mean; see the module."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = _Conv(3, 32, 3, 2), _Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = _Conv(64, 80, 1), _Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _A(192, 32), _A(256, 64), _A(288, 64)
        self.Mixed_6a, self.Mixed_6b, self.Mixed_6c = _B(), _C(128), _C(160)
        self.Mixed_6d, self.Mixed_6e, self.Mixed_7a = _C(160), _C(192), _D()
        # The last block takes the maximum where the paper takes the mean: so do its weights.
        self.Mixed_7b, self.Mixed_7c = _E(1280, False), _E(2048, True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return pooled (B, 2048) and spatial (B, 7 x 17 x 17) features of images.

        Parameters
        ----------
        x
            (B, 3, 299, 299), -1 to 1.
        """
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))
        spatial = self.Mixed_6d.branch1x1.conv(x)[:, :_SPATIAL]
        x = self.Mixed_7a(self.Mixed_6e(self.Mixed_6d(x)))
        pooled = self.Mixed_7c(self.Mixed_7b(x)).mean(dim=(2, 3))
        return pooled, spatial.flatten(1)


def _is_program(path: Path) -> bool:
    """Whether a file is a TorchScript archive, which holds code beside its weights."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


class Inception:
    """Features of patches of 256 x 256 px for FID and sFID.

    A stain is shown to the network as grey: its values in all three colours, patches widened to 299
    px by bilinear interpolation, as pytorch-fid does. sFID takes the first 7 channels of the first
    convolution of the block Mixed_6d, TensorFlow's ``mixed_6/conv`` (Nash et al. 2021).

    Parameters
    ----------
    weights
        State dict in pytorch-fid's format.
    device
        A torch device.

    Raises
    ------
    UserError
        If the file is missing, holds code, or is not of this network.
    """

    side = 256
    metrics = ("fid", "sfid")

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        if not weights.is_file():
            raise UserError(f"There are no weights of Inception at {weights}; check the path.")
        if _is_program(weights):
            raise UserError(
                f"{weights} is a TorchScript program, and programs from files are not run; give the"
                " weights alone, pt_inception-2015-12-05-6726825d.pth of pytorch-fid."
            )
        state = load_safely(weights)
        if isinstance(state, dict):  # the classifier and the training's counters are not used
            state = {k: v for k, v in state.items() if not str(k).startswith("fc.")}
        self._device = device
        self._model = InceptionV3().eval()
        try:
            self._model.load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise UserError(
                f"{weights} does not hold the weights of FID's Inception network; give"
                " pt_inception-2015-12-05-6726825d.pth of pytorch-fid."
            ) from error
        self._model.to(device)

    @torch.no_grad()
    def __call__(self, patches: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        """Return the features of patches (n, y, x)."""
        pooled, spatial = [], []
        for first in range(0, len(patches), _BATCH):
            grey = torch.from_numpy(patches[first : first + _BATCH]).to(self._device)
            image = grey[:, None].expand(-1, 3, -1, -1).float() / 255
            image = F.interpolate(image, (_INPUT, _INPUT), mode="bilinear", align_corners=False)
            a, b = self._model(2 * image - 1)
            pooled.append(a.cpu().numpy())
            spatial.append(b.cpu().numpy())
        return {"fid": np.concatenate(pooled), "sfid": np.concatenate(spatial)}
