"""The generator: a causal self-attentive model of the next item (SASRec, with its options)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mfgan.models.factor_embedding import FactorEmbedding, factor_rngs, named_factors
from mfgan.models.layers import SHORTEST, Block, make_norm, unit_rows
from mfgan.models.relation_tables import check_catalogue
from mfgan.models.relation_term import RelationScores, RelationTerm
from mfgan.names import relations_of
from mfgan.ops import dropout_residual

if TYPE_CHECKING:
    from mfgan.config import GeneratorConfig
    from mfgan.data.batch import JaggedBatch
    from mfgan.data.factors import Factor

ITEM_ITSELF = "item itself"  # the part of a logit that no factor has


class Generator(nn.Module):
    """Scores every item as the next one after each token of packed sessions.

    The item embedding is tied with the output: the logit of item ``i`` after token ``t`` is
    ``hidden[t] · item_table[i]``. With ``config.factors`` an item's vector is the sum of its own
    and of one for each factor, so that items learn from others like them. With ``config.relations``
    a logit is that and what relations between items say (`RelationTerm`), once they are counted.

    Args:
        config: Sizes and options.
        num_items: Items of the data set; item 0 is reserved and never recommended.
        factors: What ``config.factors`` chooses among.
        seed: Initial weights follow from it alone.

    Raises:
        MfganError: ``config.factors`` names one that is not there, or ``config.relations`` one that
            the catalogue is too large for.

    Attributes:
        factor_names: The factors in the items' vectors.
        relations: The relations in the logits; None for none.

    Example:
        >>> generator = Generator(GeneratorConfig(hidden_dim=8), num_items=20)
        >>> generator.item_table.shape
        torch.Size([21, 8])
    """

    def __init__(
        self,
        config: "GeneratorConfig",
        num_items: int,
        *,
        factors: "Sequence[Factor]" = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.num_items = num_items
        # Whether looking items up gives their table a gradient of the rows read, not a whole one.
        self.sparse_gradients = False
        self.item_embedding = nn.Parameter(torch.empty(num_items + 1, config.hidden_dim))
        self.factor_embedding: FactorEmbedding | None = None
        if config.factors == "all":
            chosen = [factor for factor in factors if factor.is_attribute]
        else:
            chosen = named_factors("generator", config.factors, factors)
        self.factor_names = tuple(factor.name for factor in chosen)
        if chosen:
            width, scale = config.hidden_dim, config.init_scale
            self.factor_embedding = FactorEmbedding(chosen, width, init_scale=scale)
        self.position_embedding: nn.Parameter | None = None
        if config.positions != "none":
            self.position_embedding = nn.Parameter(torch.empty(config.max_len, config.hidden_dim))
        self.blocks = nn.ModuleList(Block(config, place) for place in range(config.num_blocks))
        self.final_norm = make_norm(config) if config.norm_place == "pre" else nn.Identity()
        self.relations: RelationTerm | None = None
        named = relations_of(config.relations, num_items)
        # As among judges, a factor that is called as a relation is comes first.
        if related := tuple(name for name in named if name not in self.factor_names):
            check_catalogue("generator.relations", related, num_items)
            self.relations = RelationTerm(related, num_items, config.max_len, config.hidden_dim)
        self._initialise(torch.Generator().manual_seed(seed))
        if self.factor_embedding is not None:
            self.factor_embedding.reset_parameters(factor_rngs(self.factor_names, seed))

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator) -> None:
        for name, parameter in self.named_parameters():
            if name.startswith(("factor_embedding", "relations")):
                continue  # these draw from their own or are 0, and the rest is as without them
            if name.endswith("embedding"):
                parameter.normal_(0, self.config.init_scale, generator=generator)
            elif parameter.ndim == 2 and name.endswith("weight"):
                nn.init.xavier_normal_(parameter, generator=generator)
            elif name.endswith("bias"):
                parameter.zero_()
        self.item_embedding[0] = 0

    @property
    def item_table(self) -> Tensor:
        """``(num_items + 1, hidden_dim)``: what hidden states are multiplied with."""
        vectors = self.item_embedding
        if self.factor_embedding is not None:
            vectors = vectors + self.factor_embedding().sum(0)
        return unit_rows(vectors) if self.config.normalize else vectors

    def _vectors_of(self, items: Tensor) -> Tensor:
        """``(num_tokens, hidden_dim)``: what is read of the items of a session."""
        factors = self.factor_embedding
        if factors is None:
            return F.embedding(items, self.item_embedding, sparse=self.sparse_gradients)
        if len(items) < self.num_items:
            # Few tokens of a large catalogue need not wait for the factors of all its items.
            by_factor: Tensor = factors(items)
            return F.embedding(items, self.item_embedding) + by_factor.sum(0)
        return F.embedding(items, self.item_embedding + factors().sum(0))

    def forward(
        self, batch: "JaggedBatch", *, rng: Tensor | None = None, last_only: bool = False
    ) -> Tensor:
        """Hidden states after each token.

        Args:
            batch: Packed sessions of at most ``max_len`` interactions.
            rng: ``(2,)`` int64 [seed, step] that dropout is drawn from; none for no dropout.
            last_only: Only the states after each session's last token, without dropout: the last
                block then works on few tokens.

        Returns:
            ``(total_tokens, hidden_dim)``, or with ``last_only`` ``(num_sessions, hidden_dim)``;
            temperature and normalisation are already in it.

        Raises:
            ValueError: A session is longer than ``max_len``, or ``last_only`` with dropout.
        """
        config = self.config
        if batch.max_seqlen > config.max_len:
            raise ValueError(
                f"generator: sessions must hold at most max_len {config.max_len} interactions, "
                f"got {batch.max_seqlen}"
            )
        if last_only and rng is not None:
            raise ValueError("generator: last_only must be without dropout, got an rng")
        embedded = self._vectors_of(batch.items)
        if self.position_embedding is not None:
            embedded = embedded + F.embedding(self._places(batch), self.position_embedding)
        dropout_p = config.dropout if rng is not None else 0.0
        x = dropout_residual(embedded, None, dropout_p=dropout_p, rng=rng, site=0)
        rows = batch.last_tokens() if last_only else None
        for place, block in enumerate(self.blocks, start=1):
            wanted = rows if place == len(self.blocks) else None
            x = block(x, batch.cu_seqlens, batch.max_seqlen, rng, wanted)
        x = self.final_norm(x)
        if config.normalize:
            x = unit_rows(x)
        return x / config.temperature if config.temperature != 1.0 else x

    def _places(self, batch: "JaggedBatch") -> Tensor:
        if self.config.positions == "start":
            return batch.positions
        ends = batch.cu_seqlens[1:].long()
        lengths = ends - batch.cu_seqlens[:-1]
        last = torch.repeat_interleave(ends - 1, lengths, output_size=batch.total_tokens)
        return last - torch.arange(batch.total_tokens, device=last.device)

    @property
    def part_names(self) -> tuple[str, ...]:
        """What a logit is the sum of: the item's own part, its factors', and its relations'."""
        related = self.relations.names if self.relations is not None else ()
        return (ITEM_ITSELF, *self.factor_names, *related)

    def logit_parts(
        self, hidden: Tensor, items: Tensor, relations: RelationScores | None = None
    ) -> Tensor:
        """What each part of an item's vector, and each relation, adds to the item's logit.

        Args:
            hidden: ``(n, hidden_dim)`` rows of what ``forward`` gave.
            items: ``(n, k)`` int64 item_idx.
            relations: What ``relation_scores`` gave of these rows; None for nothing.

        Returns:
            ``(n, k, len(part_names))``; a row adds up to the logit.
        """
        rows = items.flatten()
        vectors = F.embedding(rows, self.item_embedding).unsqueeze(0)
        if self.factor_embedding is not None:
            vectors = torch.cat([vectors, self.factor_embedding(rows)])
        if self.config.normalize:
            lengths = torch.linalg.vector_norm(vectors.sum(0), dim=-1, keepdim=True)
            vectors = vectors / lengths.clamp_min(SHORTEST)
        parts = torch.einsum(
            "nd,fnkd->nkf", hidden, vectors.view(len(vectors), *items.shape, vectors.shape[-1])
        )
        if self.relations is None:
            return parts
        silent = parts.new_zeros(*items.shape, len(self.relations.names))
        return torch.cat([parts, silent if relations is None else relations.parts(items)], -1)

    def relation_scores(self, batch: "JaggedBatch", tokens: Tensor) -> RelationScores | None:
        """What relations add to the logits after some tokens.

        Args:
            batch: The sessions.
            tokens: ``(n,)`` int64, places in the batch.

        Returns:
            That, or None where the generator has no relations or has counted none yet.
        """
        if self.relations is None or self.relations.is_empty:
            return None
        return self.relations.at(batch, tokens)

    def logits(self, hidden: Tensor, relations: RelationScores | None = None) -> Tensor:
        """Scores of all items.

        Args:
            hidden: ``(n, hidden_dim)`` rows of what ``forward`` gave.
            relations: What ``relation_scores`` gave of these rows; None for nothing. What they add
                has no gradient.

        Returns:
            ``(n, num_items + 1)``, column 0 minus infinity.
        """
        scores = hidden @ self.item_table.T
        scores[:, 0] = -torch.inf
        if relations is not None:
            relations.add_to(scores[:, 1:], slice(None))
        return scores

    def scores_after(self, batch: "JaggedBatch") -> Tensor:
        """Scores of all items after each session, without dropout.

        Args:
            batch: Packed sessions of at most ``max_len`` interactions.

        Returns:
            ``(num_sessions, num_items + 1)`` logits, relations counted in; column 0 minus infinity.
        """
        relations = self.relation_scores(batch, batch.last_tokens())
        return self.logits(self(batch, last_only=True), relations)
