"""All discriminators: a tower for each factor, a sum over the history for each relation."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mfgan.errors import MfganError
from mfgan.models.combination import combine
from mfgan.models.factor_embedding import named_factors
from mfgan.models.factor_towers import FactorTowers, ItemTables
from mfgan.models.relation_judges import RelationJudges
from mfgan.models.relation_tables import check_catalogue
from mfgan.names import ID, RELATIONS

if TYPE_CHECKING:
    from mfgan.config import DiscriminatorConfig
    from mfgan.data.batch import JaggedBatch
    from mfgan.data.factors import Factor

_RELATIONS = "relations."


class Discriminators(FactorTowers):
    """All factors' and relations' discriminators, the relations' behind the factors'.

    Args:
        config: Sizes and dropout.
        factors: What there is to judge by; ``config.factors`` chooses among them by name.
        seed: Of the first weights. A factor's own do not depend on which others there are.

    Raises:
        MfganError: No factor, or ``config.factors`` names one that is not there or a relation that
            the catalogue is too large for.
    """

    def __init__(
        self, config: "DiscriminatorConfig", factors: "Sequence[Factor]", *, seed: int = 0
    ) -> None:
        towers, relations = chosen_judges(config, factors)
        super().__init__(config, towers, seed=seed)
        self.relations: RelationJudges | None = None
        if relations:
            reach = config.relation_history
            self.relations = RelationJudges(relations, factors[0].num_items, reach)
        self.factor_names = (*(factor.name for factor in towers), *relations)
        learned = config.combination == "learned"
        self.mixture = nn.Parameter(torch.zeros(len(self.factor_names))) if learned else None

    @property
    def num_factors(self) -> int:
        """How many discriminators there are."""
        return len(self.factor_names)

    def forward(
        self,
        batch: "JaggedBatch",
        positions: Tensor,
        candidates: Tensor,
        *,
        rng: Tensor | None = None,
        site: int = 0,
        tables: ItemTables | None = None,
    ) -> Tensor:
        """Judge candidates for the place after some positions.

        Args:
            batch: The sessions.
            positions: ``(num_positions,)`` int64 token index in the batch; a judgement's history is
                the session's tokens up to and including it, the last ``max_history`` of them, and
                of relations the last ``relation_history``.
            candidates: ``(num_positions, num_candidates)`` int64 item_idx.
            rng: ``(2,)`` int64 seed and step of the dropout; None for none.
            site: The first place of this call that draws.
            tables: What ``item_tables`` made, where nothing is dropped; None makes what is needed.

        Returns:
            ``(num_positions, num_candidates, num_factors)`` logits of "the real next item".
        """
        parts = []
        if self.num_towers:
            parts.append(
                self.score(batch, positions, candidates, rng=rng, site=site, tables=tables)
            )
        if self.relations is not None:
            parts.append(self.relations(batch, positions, candidates))
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

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
        penalty = 0.5 * self.head_weight.square().sum(dim=1)
        if self.relations is None:
            return penalty
        return torch.cat([penalty, 0.5 * self.relations.weight.square().sum(dim=1)])

    def factor_slices(self, factor: int) -> dict[str, slice]:
        """Which rows of each parameter are one factor's own; what factors share is nobody's."""
        names = [name for name, _ in self.named_parameters() if name != "mixture"]
        if factor >= self.num_towers:
            row = slice(factor - self.num_towers, factor - self.num_towers + 1)
            return {name: row for name in names if name.startswith(_RELATIONS)}
        rows = {
            name: slice(factor, factor + 1)
            for name in names
            if not name.startswith(_RELATIONS)
            and not (self.config.shared and name.startswith("blocks."))
        }
        own = {f"embedding.{name}": part for name, part in self.embedding.slices(factor).items()}
        return {**rows, **own}

    def load_factor(self, factor: int, state: Mapping[str, Tensor]) -> None:
        """Take one factor's weights from a ``state_dict``, and leave the others as they are."""
        parameters = dict(self.named_parameters())
        with torch.no_grad():
            for name, rows in self.factor_slices(factor).items():
                parameters[name][rows] = state[name][rows]


def chosen_judges(
    config: "DiscriminatorConfig", factors: "Sequence[Factor]"
) -> "tuple[list[Factor], tuple[str, ...]]":
    """The factors and the relations that judge, each in the order of the factor axis.

    Args:
        config: Names them.
        factors: What there is to judge by.

    Raises:
        MfganError: There are none, one of them is not there, or there are too many items for one.
    """
    names = judge_names(config, [factor.name for factor in factors])
    own = {factor.name for factor in factors}
    towers = [name for name in names if name in own or name not in RELATIONS]
    relations = names[len(towers) :]
    found = named_factors("discriminators", towers, factors)
    check_catalogue("discriminator.factors", relations, factors[0].num_items if factors else 0)
    return found, relations


def judge_names(config: "DiscriminatorConfig", factors: Sequence[str]) -> tuple[str, ...]:
    """Who judges, in the order of the factor axis: factors, then relations.

    Args:
        config: Names them.
        factors: Names of the factors there are. One that is called as a relation is comes first.

    Raises:
        MfganError: There are none.
    """
    names = config.factors or tuple(factors)
    if config.factors == "all":
        names = tuple(name for name in factors if name != ID)
    if not names:
        raise MfganError("discriminators: at least one factor must be there, got none")
    is_relation = {name: name in RELATIONS and name not in factors for name in names}
    return tuple(sorted(is_relation, key=is_relation.__getitem__))
