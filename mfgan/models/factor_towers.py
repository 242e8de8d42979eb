"""The towers of factor-specific discriminators: one with a factor axis, read out at the candidate.

A judgement looks at the history up to a position and at one candidate. Keys and values of the
history do not depend on the candidate, and with distances counted backwards from the candidate they
do not depend on the position either: they are made once an item, and ``factor_score`` gathers them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from mfgan.models import fixed
from mfgan.models.expanded import expanded_score
from mfgan.models.factor_block import FactorBlock
from mfgan.models.factor_embedding import FactorEmbedding, factor_rngs
from mfgan.ops import autocast, dropout_residual, factor_score

if TYPE_CHECKING:
    from mfgan.config import DiscriminatorConfig
    from mfgan.data.batch import JaggedBatch
    from mfgan.data.factors import Factor

_MOST_KEPT = 1 << 26  # numbers of all items' tables
_SCORE_SITES = 3  # places at which `factor_score` draws; the item vectors' dropout is the next


@dataclass(frozen=True)
class ItemTables:
    """What the first block needs of each item, ``(num_towers, num_rows, hidden_dim)`` each."""

    query: Tensor
    key: Tensor
    value: Tensor
    residual: Tensor


class FactorTowers(nn.Module):
    """One tower a factor.

    Args:
        config: Sizes and dropout.
        factors: Those that judge, in the order of the factor axis; there may be none.
        seed: Of the first weights. A factor's own do not depend on which others there are.
    """

    def __init__(
        self, config: "DiscriminatorConfig", factors: "Sequence[Factor]", *, seed: int = 0
    ) -> None:
        super().__init__()
        count, width = len(factors), config.hidden_dim
        self.config = config
        self.tower_names = tuple(factor.name for factor in factors)
        self.embedding = FactorEmbedding(factors, width, init_scale=width**-0.5)
        self.distance = nn.Parameter(torch.zeros(count, config.max_history + 1, width))
        ff_dim = max(1, round(config.ff_multiple * width))
        self.blocks = nn.ModuleList(
            FactorBlock(1 if config.shared else count, width, ff_dim)
            for _ in range(config.num_blocks)
        )
        self.head_weight = nn.Parameter(torch.zeros(count, width))
        self.head_bias = nn.Parameter(torch.zeros(count))
        self._reset_parameters(seed)

    @property
    def num_towers(self) -> int:
        """How many factors there are."""
        return len(self.tower_names)

    @property
    def _stack(self) -> list[FactorBlock]:
        blocks = cast("list[FactorBlock]", list(self.blocks))
        return [block.of_every_factor(self.num_towers) for block in blocks]

    def score(
        self,
        batch: "JaggedBatch",
        positions: Tensor,
        candidates: Tensor,
        *,
        rng: Tensor | None = None,
        site: int = 0,
        tables: ItemTables | None = None,
    ) -> Tensor:
        """As `Discriminators.forward`, ``(num_positions, num_candidates, num_towers)``."""
        history_rows, candidate_rows = batch.items, candidates
        if tables is None:
            rows, history_rows, candidate_rows = self._rows(batch.items, candidates)
            vectors = self._item_vectors(rows, rng, site + _SCORE_SITES)
            if len(self.blocks) > 1:
                return self.score_expanded(
                    vectors, batch, positions, history_rows, candidate_rows, rng=rng, site=site
                )
            tables = self._tables(vectors)
        block = self._stack[0]
        return factor_score(
            tables.query,
            tables.key,
            tables.value,
            tables.residual,
            self.distance @ block.key_weight.mT,
            self.distance @ block.value_weight.mT,
            block.out_weight,
            block.ff1_weight,
            block.ff1_bias,
            block.ff2_weight,
            block.ff2_bias,
            self.head_weight,
            self.head_bias,
            history_rows,
            candidate_rows,
            positions,
            batch.cu_seqlens,
            self.config.max_history,
            num_heads=self.config.num_heads,
            dropout_p=self.config.dropout,
            rng=rng,
            site=site,
        )

    def item_tables(self) -> ItemTables | None:
        """What judgements without dropout need of all items; good until a weight changes.

        None where there is no tower or more than one block, and where it would take over 256 MB.
        """
        numbers = 4 * self.num_towers * self.embedding.num_rows * self.config.hidden_dim
        if self.num_towers == 0 or len(self.blocks) > 1 or numbers > _MOST_KEPT:
            return None
        tables = self._tables(self.embedding(None))
        if not autocast.active(tables.query):
            return tables
        given = (tables.query, tables.key, tables.value, tables.residual)
        return ItemTables(*autocast.as_scored(*given))

    def score_expanded(
        self,
        vectors: Tensor,
        batch: "JaggedBatch",
        positions: Tensor,
        history_rows: Tensor,
        candidate_rows: Tensor,
        *,
        rng: Tensor | None = None,
        site: int = 0,
    ) -> Tensor:
        """The same judgements with every (position, candidate) written out as a sequence."""
        lengths = (batch.positions[positions] + 1).clamp(max=self.config.max_history)
        return expanded_score(
            vectors,
            self.distance,
            self._stack,
            self.head_weight,
            self.head_bias,
            history_rows,
            candidate_rows,
            positions,
            lengths,
            num_heads=self.config.num_heads,
            dropout_p=self.config.dropout,
            rng=rng,
            site=site,
        )

    def _item_vectors(self, rows: Tensor | None, rng: Tensor | None, site: int) -> Tensor:
        vectors: Tensor = self.embedding(rows)
        if rng is None or self.config.dropout == 0:
            return vectors
        # One mask an item and step, shared by all its places: the tables stay shared too.
        return dropout_residual(vectors, None, dropout_p=self.config.dropout, rng=rng, site=site)

    def _tables(self, vectors: Tensor) -> ItemTables:
        block = self._stack[0]
        placed = vectors + self.distance[:, :1]
        return ItemTables(
            query=torch.baddbmm(block.query_bias.unsqueeze(1), placed, block.query_weight.mT),
            key=vectors @ block.key_weight.mT,
            value=vectors @ block.value_weight.mT,
            residual=placed + block.out_bias.unsqueeze(1),
        )

    def _rows(self, items: Tensor, candidates: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """The items in play as table rows: all of the catalogue, or the distinct ones.

        Where sizes are fixed, there are as many rows as tokens and candidates; item 0 fills them.
        """
        catalogue, most = self.embedding.num_rows, items.numel() + candidates.numel()
        if catalogue <= most:
            return None, items, candidates
        in_play = torch.zeros(catalogue, dtype=torch.bool, device=items.device)
        in_play[items] = True
        in_play[candidates.flatten()] = True
        places = in_play.cumsum(0) - 1
        if fixed.fixed_sizes(items.device):
            # Items that are not in play all go to a last row, which is dropped.
            rows = items.new_zeros(most + 1)
            rows.scatter_(
                0, torch.where(in_play, places, most), torch.arange(catalogue, device=items.device)
            )
            return rows[:most], places[items], places[candidates]
        return in_play.nonzero().squeeze(1), places[items], places[candidates]

    def _reset_parameters(self, seed: int) -> None:
        rngs = factor_rngs(self.tower_names, seed)
        self.embedding.reset_parameters(rngs)
        width = self.config.hidden_dim
        with torch.no_grad():
            for factor, rng in enumerate(rngs):
                self.distance[factor].normal_(0.0, width**-0.5, generator=rng)
                for parameter in self.blocks.parameters():
                    if parameter.dim() == 3 and factor < len(parameter):
                        spread = (2.0 / sum(parameter.shape[1:])) ** 0.5
                        parameter[factor].normal_(0.0, spread, generator=rng)
                # Small, so that every judgement starts near the toss of a coin.
                self.head_weight[factor].normal_(0.0, 0.02, generator=rng)
