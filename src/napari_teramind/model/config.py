"""Size and shape of a Tera-MIND network, and how to read both off a state dict."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from napari_teramind.errors import UserError

BIN = 16
"""Side of a gene bin in pixels."""

IMAGE_SLICES = {1: 1, 4: 2, 8: 4, 16: 8}
"""Image window M for every published gene window S."""

METADATA_KEY = "teramind"
"""Under which a checkpoint's header keeps what its weights do not say."""

Prediction = Literal["epsilon", "v"]

Kernels = Literal["eager", "compiled"]
KernelsWish = Literal["auto", "eager", "compiled"]
"""Form of the norms' arithmetic; see :mod:`napari_teramind.model.kernels`."""


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the network (DESIGN section 2; Wu et al., arXiv 2503.01220).

    Attributes
    ----------
    genes, stains
        Number of genes in the panel and of image channels.
    gene_slices
        Gene window S: neighbouring gene slices that condition one image window (1, 4, 8 or 16).
    patch
        Side p of a patch in pixels (32, 64 or 128).
    channels
        Base channels C of the gene-morph UNet.
    time_channels
        Width of the time embedding; published: 8 C.
    multipliers
        Channel multiplier of every UNet level.
    prediction
        What the network's output means: the noise (``"epsilon"``, as published) or the velocity
        ``sqrt(abar) noise - sqrt(1 - abar) x0`` (``"v"``).
    """

    genes: int
    stains: int = 2
    gene_slices: int = 4
    patch: int = 64
    channels: int = 64
    time_channels: int = 512
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    gene_channels: tuple[int, ...] = (128, 64, 32)
    res_blocks: int = 2
    dropout: float = 0.1
    prediction: Prediction = "epsilon"

    def __post_init__(self) -> None:
        if self.gene_slices not in IMAGE_SLICES:
            raise UserError(
                f"A gene window of {self.gene_slices} slices is not supported; "
                f"use one of {', '.join(map(str, IMAGE_SLICES))}."
            )
        if self.patch not in (32, 64, 128):
            raise UserError(f"A patch of {self.patch} px is not supported; use 32, 64 or 128.")
        if self.prediction not in ("epsilon", "v"):
            raise UserError(f"Prediction '{self.prediction}' is not known; use 'epsilon' or 'v'.")
        for name in ("genes", "stains", "channels", "time_channels", "res_blocks"):
            if getattr(self, name) < 1:
                raise UserError(f"The model setting '{name}' must be at least 1.")
        if self.channels % 2:
            raise UserError(f"Base channels must be even, not {self.channels}.")

    @property
    def image_slices(self) -> int:
        """Image window M: slices generated together."""
        return IMAGE_SLICES[self.gene_slices]

    @property
    def gene_margin(self) -> int:
        """Gene slices that the window reaches beyond the image slices, at either end.

        Published runs at S = 8 and 16 pad the stack by less (1 and 3 empty slices) and leave its
        outermost slices out; here groups start at slice 0 whatever S is.
        """
        return (self.gene_slices - self.image_slices) // 2

    @property
    def bins(self) -> int:
        """Side of a patch in gene bins."""
        return self.patch // BIN

    @property
    def attention_level(self) -> int:
        """UNet level whose feature maps are 16 x 16."""
        return int(math.log2(self.patch // 16))

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dictionary that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Build a config from :meth:`to_dict`'s output; unknown keys are an error."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UserError(
                f"The model config has unknown settings ({', '.join(unknown)}); "
                "it was written by a newer version of napari-teramind."
            )
        kwargs: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**kwargs)

    def to_json(self) -> str:
        """Return the config as indented JSON."""
        return json.dumps(self.to_dict(), indent=2)


def infer_config(shapes: Mapping[str, tuple[int, ...]]) -> ModelConfig:
    """Read the configuration off the published parameter names and shapes.

    Parameters
    ----------
    shapes
        Shape of every parameter, by its published name.

    Raises
    ------
    UserError
        If the names are not those of a Tera-MIND network, or the shapes are of no supported size.
    """
    try:
        channels, stains = shapes["input_blocks.0.0.weight"][:2]
        genes, _, kernel = shapes["rna_blocks.0.0.down_z.weight"][:3]
        features = shapes["rna_blocks.0.0.attn.q.weight"][0]
        time_channels = shapes["time_embed.time_embed.0.weight"][0]
        middle = shapes["middle_block.2.out_layers.3.weight"][0]
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(
            f"These are not the weights of a Tera-MIND network: '{error.args[0]}' is missing or "
            "has the wrong shape; choose a published checkpoint or one that this plugin wrote."
        ) from error
    gene_slices = {1: 1, 3: 4, 5: 8, 9: 16}.get(kernel)
    bins = math.isqrt(features // gene_slices) if gene_slices else 0
    if gene_slices is None or bins * bins * gene_slices != features or bins not in (2, 4, 8):
        raise UserError(
            f"The checkpoint has a gene window (kernel {kernel}, {features} features) of no "
            "supported size; supported are S = 1, 4, 8, 16 and p = 32, 64, 128."
        )
    gene_channels = tuple(shapes[f"rna_blocks.{i}.1.weight"][0] for i in (1, 2, 3))
    return ModelConfig(
        genes=genes,
        stains=stains,
        gene_slices=gene_slices,
        patch=bins * BIN,
        channels=channels,
        time_channels=time_channels,
        multipliers=_infer_multipliers(shapes, channels, middle),
        gene_channels=gene_channels,
    )


def _infer_multipliers(
    shapes: Mapping[str, tuple[int, ...]], channels: int, middle: int
) -> tuple[int, ...]:
    """Read the channel multipliers off the second residual block of every encoder level."""
    multipliers = []
    index = 1
    while f"input_blocks.{index}.0.out_layers.3.weight" in shapes:
        multipliers.append(shapes[f"input_blocks.{index}.0.out_layers.3.weight"][0] // channels)
        index += 3
    if len(multipliers) != 4 or multipliers[-1] * channels != middle:
        raise UserError(
            f"The checkpoint's UNet has {len(multipliers)} levels; Tera-MIND networks have 4."
        )
    return tuple(multipliers)
