"""VecSet: a shape as a set of latent vectors, asked for signed distance and class at any position."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor, nn

from shapestore.train.models.attention import Attention, Block, CrossAttention
from shapestore.train.models.bottleneck import NoBottleneck, NormalisedBottleneck
from shapestore.train.models.embedding import PointEmbedding, one_hot
from shapestore.train.models.latents import FarthestLatents, LearnedLatents
from shapestore.train.models.settings import Normalised, VecSetSettings, Whole

LIKENESS: Final = 3.0
"""How closely attention begins: of 256 latent vectors of `vecset-tiny` about 14 have half of a query's weight."""


class VecSet(nn.Module):
    """Autoencoder of labelled surfaces (Zhang et al., "3DShape2VecSet", SIGGRAPH 2023; its successor VecSetX, 2025).

    Latent vectors gather what they need from the embedded surface points by one cross-attention, pass a bottleneck
    and self-attention blocks, and are read by one cross-attention from embedded queries. The head is zero at first:
    an untrained model gives 0 for every distance and every logit.

    Where latent vectors are points of the shape and none is squeezed through a bottleneck, they begin as these points'
    embeddings, and attention as likeness of positions: queries read the points around them from the first step on.
    Otherwise attention begins uniform, and has to find its neighbours.

    Parameters
    ----------
    settings
        Sizes and variants.
    seed
        Of the initial weights, which depend on nothing else.
    """

    def __init__(self, settings: VecSetSettings, seed: int = 0) -> None:
        super().__init__()
        width, heads = settings.width, settings.heads
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.point_embedding = PointEmbedding(width, settings.classes)
            self.query_embedding = PointEmbedding(width)
            self.latents = (
                LearnedLatents(settings.latents, width)
                if settings.start == "learnable"
                else FarthestLatents(settings.latents)
            )
            self.gather = Block(width, heads)
            self.bottleneck = (
                NormalisedBottleneck(width, settings.bottleneck.channels)
                if isinstance(settings.bottleneck, Normalised)
                else NoBottleneck()
            )
            self.blocks = nn.ModuleList(Block(width, heads) for _ in range(settings.depth))
            self.decoder = (Block if settings.decoder == "block" else CrossAttention)(width, heads)
            self.head_norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, 1 + settings.classes)
            if isinstance(self.latents, FarthestLatents) and isinstance(self.bottleneck, NoBottleneck):
                self._begin_local()
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def _begin_local(self) -> None:
        self.query_embedding.begin_as(self.point_embedding)
        for attention in (self.gather.attention, self.decoder.attention):
            attention.begin_alike(LIKENESS)
        for block in (self.gather, *self.blocks):
            block.begin_as_identity()

    @property
    def settings(self) -> VecSetSettings:
        """The settings in effect, read from the modules as they are now.

        Raises
        ------
        ValueError
            Modules disagree, so that no settings describe the model.
        """
        attentions = [part for part in self.modules() if isinstance(part, Attention)]
        bottleneck = self.bottleneck
        return VecSetSettings(
            classes=_common("classes", (self.point_embedding.features, self.head.out_features - 1)),
            start="learnable" if isinstance(self.latents, LearnedLatents) else "fps",
            latents=self.latents.count,
            width=_common("width", (part.to_out.out_features for part in attentions)),
            heads=_common("heads", (part.heads for part in attentions)),
            depth=len(self.blocks),
            bottleneck=Normalised(channels=bottleneck.norm.normalized_shape[0])
            if isinstance(bottleneck, NormalisedBottleneck)
            else Whole(),
            decoder="block" if isinstance(self.decoder, Block) else "attention",
        )

    def encode(self, points: Tensor, labels: Tensor) -> Tensor:
        """What is kept of each shape.

        Parameters
        ----------
        points
            (n, s, 3) float32 surface points, normalised units.
        labels
            (n, s) int8 class codes; 0 where none is known.

        Returns
        -------
        (n, m, c) Tensor
            m latent vectors of c channels: those of the bottleneck, or the width of the model without one.
        """
        embedded = self.point_embedding(points, one_hot(labels, self.point_embedding.features))
        vectors = self.gather(self.latents(points, embedded), embedded)
        return self.bottleneck.encode(vectors)

    def expand(self, latents: Tensor) -> Tensor:
        """(n, m, c) latents as the (n, m, width) vectors that queries read: worked out once for any queries."""
        vectors = self.latents.restore(self.bottleneck.decode(latents))
        for block in self.blocks:
            vectors = block(vectors)
        return vectors

    def read(self, vectors: Tensor, queries: Tensor, *, second_order: bool = False) -> Tensor:
        """Distance and logits at queries, each worked out on its own.

        Parameters
        ----------
        vectors
            (n, m, width) from `expand`.
        queries
            (n, q, 3) float32 positions, normalised units.
        second_order
            Whether gradients with respect to the queries will themselves be differentiated. That takes twice the
            time and heads * m values a query.

        Returns
        -------
        (n, q, 1 + classes) Tensor
            Channel 0 is the signed distance to the union of all classes, negative inside; the others are the
            logits of classes 1 and up.
        """
        read = self.decoder(self.query_embedding(queries), vectors, second_order=second_order)
        answers: Tensor = self.head(self.head_norm(read))
        return answers

    def decode(self, latents: Tensor, queries: Tensor, *, second_order: bool = False) -> Tensor:
        """`read` of what `expand` makes of (n, m, c) latents: (n, q, 1 + classes)."""
        return self.read(self.expand(latents), queries, second_order=second_order)

    def forward(self, points: Tensor, labels: Tensor, queries: Tensor, sloped: Tensor | None = None) -> Tensor:
        """`decode` of what `encode` makes of the points: (n, q, 1 + classes).

        `sloped` are (n, k, 3) further queries, those whose gradients will be differentiated: their k answers come
        first. They are apart, so that the others are spared what that costs.
        """
        vectors = self.expand(self.encode(points, labels))
        answers = self.read(vectors, queries)
        return answers if sloped is None else torch.cat([self.read(vectors, sloped, second_order=True), answers], 1)


def _common(name: str, values: Iterable[int]) -> int:
    """The one value that all have."""
    found = set(values)
    if len(found) != 1:
        raise ValueError(f"parts of the model differ in {name}: {sorted(found)}")
    return found.pop()
