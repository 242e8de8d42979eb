"""Factor-specific discriminators: one tower with a factor axis, read out at the candidate.

A judgement looks at the history up to a position and at one candidate. Keys and values of the
history do not depend on the candidate, and with distances counted backwards from the candidate they
do not depend on the position either: they are made once an item, and ``factor_score`` gathers them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from mfgan.errors import MfganError
from mfgan.models import fixed
from mfgan.models.combination import combine
from mfgan.models.expanded import expanded_score
from mfgan.models.factor_block import FactorBlock
from mfgan.models.factor_embedding import FactorEmbedding, factor_rngs, named_factors
from mfgan.ops import dropout_residual, factor_score

if TYPE_CHECKING:
    from mfgan.config import DiscriminatorConfig
    from mfgan.data.batch import JaggedBatch
    from mfgan.data.factors import Factor

_SCORE_SITES = 3  # places at which `factor_score` draws; the item vectors' dropout is the next


@dataclass(frozen=True)
class ItemTables:
    """What the first block needs of each item, ``(num_factors, num_rows, hidden_dim)`` each."""

    query: Tensor
    key: Tensor
    value: Tensor
    residual: Tensor


class Discriminators(nn.Module):
    """All factors' discriminators.

    Args:
        config: Sizes and dropout.
        factors: What there is to judge by; ``config.factors`` chooses among them by name.
        seed: Of the first weights. A factor's own do not depend on which others there are.

    Raises:
        MfganError: No factor, or ``config.factors`` names one that is not there.
    """

    def __init__(
        self, config: "DiscriminatorConfig", factors: "Sequence[Factor]", *, seed: int = 0
    ) -> None:
        super().__init__()
        chosen = choose_factors(config, factors)
        count, width = len(chosen), config.hidden_dim
        self.config = config
        self.factor_names = tuple(factor.name for factor in chosen)
        self.embedding = FactorEmbedding(chosen, width, init_scale=width**-0.5)
        self.distance = nn.Parameter(torch.zeros(count, config.max_history + 1, width))
        ff_dim = max(1, round(config.ff_multiple * width))
        self.blocks = nn.ModuleList(
            FactorBlock(1 if config.shared else count, width, ff_dim)
            for _ in range(config.num_blocks)
        )
        self.head_weight = nn.Parameter(torch.zeros(count, width))
        self.head_bias = nn.Parameter(torch.zeros(count))
        learned = config.combination == "learned"
        self.mixture = nn.Parameter(torch.zeros(count)) if learned else None
        self._reset_parameters(seed)

    @property
    def num_factors(self) -> int:
        """How many discriminators there are."""
        return len(self.factor_names)

    @property
    def _stack(self) -> list[FactorBlock]:
        blocks = cast("list[FactorBlock]", list(self.blocks))
        return [block.of_every_factor(self.num_factors) for block in blocks]

    def forward(
        self,
        batch: "JaggedBatch",
        positions: Tensor,
        candidates: Tensor,
        *,
        rng: Tensor | None = None,
        site: int = 0,
    ) -> Tensor:
        """Judge candidates for the place after some positions.

        Args:
            batch: The sessions.
            positions: ``(num_positions,)`` int64 token index in the batch; a judgement's history is
                the session's tokens up to and including it, the last ``max_history`` of them.
            candidates: ``(num_positions, num_candidates)`` int64 item_idx.
            rng: ``(2,)`` int64 seed and step of the dropout; None for none.
            site: The first place of this call that draws.

        Returns:
            ``(num_positions, num_candidates, num_factors)`` logits of "the real next item".
        """
        rows, history_rows, candidate_rows = self._rows(batch.items, candidates)
        vectors = self._item_vectors(rows, rng, site + _SCORE_SITES)
        if len(self.blocks) > 1:
            return self.score_expanded(
                vectors, batch, positions, history_rows, candidate_rows, rng=rng, site=site
            )
        block = self._stack[0]
        tables = self._tables(vectors)
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

    def combine(self, logits: Tensor) -> Tensor:
        """The factors' common judgement ``Q``, as the configuration combines them.

        Args:
            logits: ``(..., num_factors)``.

        Returns:
            ``(...)``, between 0 and 1.
        """
        return combine(logits, sharpness=self.config.sharpness, mixture=self.mixture)

    def head_penalty(self) -> Tensor:
        """``(num_factors,)`` half the squared length of each head, for its L2 penalty."""
        return 0.5 * self.head_weight.square().sum(dim=1)

    def factor_slices(self, factor: int) -> dict[str, slice]:
        """Which rows of each parameter are one factor's own; what factors share is nobody's."""
        rows = {
            name: slice(factor, factor + 1)
            for name, _ in self.named_parameters()
            if name != "mixture" and not (self.config.shared and name.startswith("blocks."))
        }
        own = {f"embedding.{name}": part for name, part in self.embedding.slices(factor).items()}
        return {**rows, **own}

    def load_factor(self, factor: int, state: Mapping[str, Tensor]) -> None:
        """Take one factor's weights from a ``state_dict``, and leave the others as they are."""
        parameters = dict(self.named_parameters())
        with torch.no_grad():
            for name, rows in self.factor_slices(factor).items():
                parameters[name][rows] = state[name][rows]

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
        rngs = factor_rngs(self.factor_names, seed)
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


def choose_factors(config: "DiscriminatorConfig", factors: "Sequence[Factor]") -> "list[Factor]":
    """The factors that the configuration names, in its order; all of them where it names none.

    Raises:
        MfganError: A name that is not among ``factors``, or nothing to choose from.
    """
    names = config.factors or tuple(factor.name for factor in factors)
    if not names:
        raise MfganError("discriminators: at least one factor must be there, got none")
    return named_factors("discriminators", names, factors)
