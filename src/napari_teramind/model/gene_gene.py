"""Gene-gene block and the gene features that condition the UNet (DESIGN section 2)."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_teramind.model.config import ModelConfig
from napari_teramind.model.convs import SliceConv, upsample
from napari_teramind.model.layers import MLP, Linear, attend
from napari_teramind.model.norms import RMSNorm


class GeneGeneAttention(nn.Module):
    """Attention among the genes of a patch, then a convolution from S to M slices.

    A gene is a token; its features are its S (p/16)^2 counts, flattened (z y x). Queries and keys
    share one projection and one norm, as in the published weights (Eq. 1 writes two).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.gene_slices * config.bins**2
        self.q = Linear(width, width)
        self.q_norm = RMSNorm(width)
        self.v = Linear(width, width)
        self.proj = Linear(width, width)
        self.norm2 = RMSNorm(width)
        self.mlp = MLP(width)
        depth = config.gene_slices - config.image_slices + 1
        self.down_z = SliceConv(
            config.genes, config.genes, (depth, 3, 3), config.gene_slices, config.image_slices
        )
        self._begin_as_identity()

    def _begin_as_identity(self) -> None:
        """Let values pass unmixed before training.

        A token's features are places (slice, row, column of bins), which the convolution that
        follows reads as such. Random linear layers would scramble them, and training would have to
        find out first where in the patch a count lies.
        """
        for linear in (self.v, self.proj):
            nn.init.eye_(linear.weight)
            nn.init.zeros_(linear.bias)
        width = self.v.in_features
        # GELU(x) - GELU(-x) = x: half of the hidden units carry the identity.
        with torch.no_grad():
            identity = torch.eye(width)
            self.mlp.fc1.weight[: 2 * width] = torch.cat([identity, -identity])
            self.mlp.fc1.bias[: 2 * width] = 0
            self.mlp.fc2.weight[:, : 2 * width] = torch.cat([identity, -identity], dim=1)
            self.mlp.fc2.weight[:, 2 * width :] *= 0.1
            self.mlp.fc2.bias.zero_()

    def queries(self, tokens: Tensor) -> Tensor:
        """Normed queries, which are the keys too: (B, genes, d) to (B, genes, d)."""
        out: Tensor = self.q_norm(self.q(tokens))
        return out

    def attention(self, g: Tensor) -> Tensor:
        """Softmaxed gene-gene map A.

        Parameters
        ----------
        g
            (B, genes, S, p/16, p/16) raw counts.

        Returns
        -------
        Tensor
            (B, genes, genes), rows sum to 1.
        """
        q = self.queries(g.flatten(2))
        return torch.softmax(q @ q.mT / q.shape[-1], dim=-1)

    def forward(self, g: Tensor) -> Tensor:
        """Map counts (B, genes, S, b, b) to gene features (B, b, b, M, genes), not upsampled."""
        batch, genes, slices, bins, _ = g.shape
        tokens = g.flatten(2)
        q = self.queries(tokens)
        mixed = self.mlp(self.norm2(self.proj(attend(q, q, self.v(tokens)))))
        grid = mixed.view(batch, genes, slices, bins, bins).permute(0, 3, 4, 2, 1).contiguous()
        out: Tensor = self.down_z(grid)
        return out


class GeneFeatures(nn.Module):
    """Gene-gene block and three more levels; its outputs do not depend on the diffusion time.

    Every level is returned *before* its nearest x2 upsampling, which makes a cache of them four
    times smaller (DESIGN 4.4); :func:`~napari_teramind.model.layers.upsample` gives f0..f3.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gene_gene = GeneGeneAttention(config)
        widths = (config.genes, *config.gene_channels)
        self.levels = nn.ModuleList(
            SliceConv(a, b, (1, 3, 3), config.image_slices) for a, b in pairwise(widths)
        )

    def forward(self, g: Tensor) -> list[Tensor]:
        """Map counts (B, genes, S, b, b) to features (B, b 2^k, b 2^k, M, channels_k), k = 0..3."""
        features = [self.gene_gene(g)]
        for conv in self.levels:
            # Upsampling commutes with SiLU: apply SiLU first, to a quarter of the values.
            features.append(conv(upsample(F.silu(features[-1]))))
        return features
