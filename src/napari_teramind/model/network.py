"""The Tera-MIND network over a field: gene features, shifted encoder, collage decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_teramind.diffusion.schedule import alphas_bar
from napari_teramind.model.collage import collage, cut, join
from napari_teramind.model.config import BIN, ModelConfig
from napari_teramind.model.gene_gene import GeneFeatures
from napari_teramind.model.gene_morph import GeneMorphUNet


@dataclass
class Encoded:
    """What the encoder leaves of a batch of patches: middle output, skips, gene features."""

    middle: Tensor
    skips: list[Tensor]
    features: list[Tensor]

    def map(self, function) -> Encoded:  # type: ignore[no-untyped-def]
        """Apply a function of one tensor to every tensor."""
        return Encoded(
            function(self.middle),
            [function(skip) for skip in self.skips],
            [function(feature) for feature in self.features],
        )


class TeraMind(nn.Module):
    """Gene-conditioned noise predictor of Wu et al., arXiv 2503.01220.

    Parameters
    ----------
    config
        Shape of the network.

    Attributes
    ----------
    gene_names
        Symbols of the panel in the order of the gene axis, or None where the weights carry none.
    sha256
        Hash of the file that the weights came from, or None.
    """

    gene_names: tuple[str, ...] | None = None
    sha256: str | None = None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.genes = GeneFeatures(config)
        self.unet = GeneMorphUNet(config)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return self.unet.exit.weight.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.unet.exit.weight.device

    def gene_features(self, patches: Tensor) -> list[Tensor]:
        """Gene features of patches, before upsampling (they do not depend on time).

        Parameters
        ----------
        patches
            (B, genes, S, p/16, p/16) raw counts.
        """
        features: list[Tensor] = self.genes(patches.to(self.dtype))
        return features

    def time_embedding(self, t: Tensor) -> Tensor:
        """SiLU of the time embedding, as every residual block takes it: (B,) to (B, E)."""
        return F.silu(self.unet.time_embed(t))

    def encode(self, patches: Tensor, features: Sequence[Tensor], time: Tensor) -> Encoded:
        """Run encoder and middle on patches.

        Parameters
        ----------
        patches
            (B, p, p, M, stains).
        features
            As :meth:`gene_features` returns them, for the same patches.
        time
            (B, E) or (1, E), from :meth:`time_embedding`.
        """
        middle, skips = self.unet.encode(patches.to(self.dtype), features[::-1], time)
        return Encoded(middle, skips, list(features))

    def decode(self, encoded: Encoded, time: Tensor) -> Tensor:
        """Run the decoder; returns (B, p, p, M, stains) in the network's own parametrisation."""
        return self.unet.decode(encoded.middle, encoded.skips, encoded.features[::-1], time)

    def cut_field(self, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Cut a padded field into shifted patches.

        Parameters
        ----------
        x
            (B, stains, M, H, W), sides multiples of p.
        g
            (B, genes, S, H/16, W/16).

        Returns
        -------
        tuple
            Image patches (B R C, p, p, M, stains) and gene patches (B R C, genes, S, p/16, p/16).
        """
        c = self.config
        images = cut(x.permute(0, 3, 4, 2, 1), c.patch)
        genes = cut(g.permute(0, 3, 4, 1, 2), c.bins).permute(0, 3, 4, 1, 2)
        return images, genes

    def output_patches(self, x: Tensor, g: Tensor, t: Tensor, shifted: bool) -> list[Tensor]:
        """Run the whole network on a padded field: collage output and, if asked, the shifted one.

        The network's raw outputs (noise or velocity) come back as images (B, stains, M, ., .): the
        collage path over the field, the shifted path (training only) over the padded field.
        """
        self._check_field(x, g, t)
        p = self.config.patch
        rows, columns = x.shape[3] // p, x.shape[4] // p
        images, genes = self.cut_field(x, g)
        time = self.time_embedding(t)
        encoded = self.encode(
            images, self.gene_features(genes), time.repeat_interleave(rows * columns, 0)
        )
        inner = (rows - 1) * (columns - 1)
        out = self.decode(
            encoded.map(lambda part: collage(part, rows, columns)), time.repeat_interleave(inner, 0)
        )
        fields = [join(out, rows - 1, columns - 1).permute(0, 4, 3, 1, 2)]
        if shifted:
            out = self.decode(encoded, time.repeat_interleave(rows * columns, 0))
            fields.append(join(out, rows, columns).permute(0, 4, 3, 1, 2))
        return fields

    def predict_noise(self, x: Tensor, g: Tensor, t: Tensor) -> Tensor:
        """Predict the noise of a field by the boundary-aware path.

        Parameters
        ----------
        x
            (B, stains, M, H + p, W + p) noisy field, padded by p/2 on every side.
        g
            (B, genes, S, (H + p)/16, (W + p)/16) raw counts.
        t
            (B,) diffusion times on the 0..999 scale.

        Returns
        -------
        Tensor
            (B, stains, M, H, W), float32; the noise whatever the network's parametrisation is.
        """
        half = self.config.patch // 2
        (out,) = self.output_patches(x, g, t, shifted=False)
        return self.to_noise(out, x[..., half:-half, half:-half], t[:, None, None, None, None])

    def to_noise(self, out: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Turn a raw output into noise: Salimans & Ho's relation where it is a velocity.

        Parameters
        ----------
        out, x
            The network's output and the noisy image, of one shape.
        t
            Times, broadcastable to that shape.
        """
        if self.config.prediction == "epsilon":
            return out.float()
        abar = alphas_bar().to(x.device)[t.long()].float()
        return abar.sqrt() * out.float() + (1 - abar).sqrt() * x.float()

    def gene_gene_attention(self, g: Tensor) -> Tensor:
        """Softmaxed gene-gene maps: (B, genes, S, p/16, p/16) to (B, genes, genes)."""
        attention: Tensor = self.genes.gene_gene.attention(g.to(self.dtype))
        return attention

    def _check_field(self, x: Tensor, g: Tensor, t: Tensor) -> None:
        """Refuse shapes that the network cannot take, in words."""
        c = self.config
        if x.ndim != 5 or x.shape[1:3] != (c.stains, c.image_slices):
            raise ValueError(
                f"x must be (B, {c.stains}, {c.image_slices}, H + p, W + p), not {tuple(x.shape)}."
            )
        if x.shape[3] % c.patch or x.shape[4] % c.patch or min(x.shape[3:]) < 2 * c.patch:
            raise ValueError(
                f"The sides of x must be multiples of p = {c.patch} and at least 2 p, "
                f"not {x.shape[3]} x {x.shape[4]}."
            )
        bins = (x.shape[3] // BIN, x.shape[4] // BIN)
        if g.shape != (x.shape[0], c.genes, c.gene_slices, *bins):
            expected = (x.shape[0], c.genes, c.gene_slices, *bins)
            raise ValueError(f"g must be {expected} to go with x, not {tuple(g.shape)}.")
        if t.shape != (x.shape[0],):
            raise ValueError(f"t must be ({x.shape[0]},), not {tuple(t.shape)}.")
