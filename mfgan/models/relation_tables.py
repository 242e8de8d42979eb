"""Relations counted from a log, with a learned weight for each span of distance."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mfgan.errors import MfganError
from mfgan.names import MOST_SIMILAR, SIMILARITY
from mfgan.ops import relation_sums
from mfgan.ops.reference_relation_sums import (
    entries,
    entry_keys,
    histories,
    session_starts,
    spans_of,
)
from mfgan.ops.relation_sums import NUM_SPANS

if TYPE_CHECKING:
    from mfgan.data.batch import JaggedBatch
    from mfgan.data.relations import Relation

_PARTS = ("offsets", "columns", "values")
Table = tuple[Tensor, Tensor, Tensor]
"""A relation as ``relation_sums`` has it: offsets, columns and values."""


def check_catalogue(where: str, names: Sequence[str], num_items: int) -> None:
    """Complain, before anything is trained, of a relation that there are too many items for.

    Raises:
        MfganError: Similarity is named, and there are more than 20,000.
    """
    if SIMILARITY in names and num_items > MOST_SIMILAR:
        raise MfganError(
            f"{where}: similarity must be of at most {MOST_SIMILAR:,} items, got {num_items:,}"
        )


class RelationTables(nn.Module):
    """For each relation ``R`` what a history says for an item: ``sum_d w(d) R[s_d, i]``.

    ``s_d`` is the history's item at distance ``d`` from its end; ``w`` has a weight for each of the
    distances 0 to 3, 4-7, 8-15, 16-31, 32-63 and all beyond, and is learned. ``R`` is counted, kept
    with the weights, and empty before `take`.

    Args:
        names: The relations.
        num_items: Items of the catalogue.
        max_history: History tokens that are looked back on.
    """

    def __init__(self, names: Sequence[str], num_items: int, max_history: int) -> None:
        super().__init__()
        self.names = tuple(names)
        self.num_items, self.max_history = num_items, max_history
        self.weight = nn.Parameter(torch.zeros(len(self.names), NUM_SPANS))
        self._dealt: Tensor | None = None
        self._looked_up: dict[str, tuple[Tensor, int, Tensor]] = {}
        for name in self.names:
            for part, values in zip(_PARTS, self.no_table(), strict=True):
                self.register_buffer(f"{name}_{part}", values)

    def no_table(self) -> Table:
        """Of a relation that is not counted."""
        like = self.weight
        return (
            torch.zeros(self.num_items + 2, dtype=torch.int64, device=like.device),
            torch.zeros(0, dtype=torch.int32, device=like.device),
            torch.zeros(0, device=like.device),
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing is counted."""
        return not any(len(self.get_buffer(f"{name}_values")) for name in self.names)

    def table(self, name: str) -> Table:
        """A relation's, as it is now."""
        offsets, columns, values = (self.get_buffer(f"{name}_{part}") for part in _PARTS)
        return offsets, columns, values.float()

    def laid_out(self, counted: "Relation") -> Table:
        """Counts as a table, where the weights are."""
        arrays = (counted.offsets, counted.items, counted.values)
        offsets, columns, values = (
            torch.from_numpy(np.ascontiguousarray(array)).to(self.weight.device) for array in arrays
        )
        return offsets, columns, values

    def take(self, tables: Mapping[str, Table]) -> None:
        """Go by these tables from now on, one of each relation."""
        for name in self.names:
            for part, values in zip(_PARTS, tables[name], strict=True):
                setattr(self, f"{name}_{part}", values)

    def make_room(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        """Size the counts as those of a checkpoint, which are loaded next.

        Args:
            tensors: The checkpoint's, by name.
            prefix: Of this module's names there.
        """
        for name in self.names:
            for part in ("columns", "values"):
                there = tensors.get(f"{prefix}{name}_{part}")
                if there is not None and there.dim() == 1:
                    own = self.get_buffer(f"{name}_{part}")
                    setattr(self, f"{name}_{part}", own.new_zeros(len(there)))

    def dealt(self, owners: Tensor | None) -> None:
        """From now on `sums` gives every item the relations of another.

        Args:
            owners: ``(num_relations, num_items + 1)`` int64, whose; None for its own again.
        """
        self._dealt = owners

    def sums(self, batch: "JaggedBatch", positions: Tensor, candidates: Tensor) -> Tensor:
        """What the history of each position says for its candidates, by relation and span.

        Args:
            batch: The sessions.
            positions: ``(num_positions,)`` int64 token index.
            candidates: ``(num_positions, num_candidates)`` int64 item_idx.

        Returns:
            ``(num_positions, num_candidates, num_relations, 9)`` float32, without weights.
        """
        found = []
        for place, name in enumerate(self.names):
            history, judged = batch.items, candidates
            if self._dealt is not None:
                history, judged = self._dealt[place][history], self._dealt[place][judged]
            found.append(
                relation_sums(
                    *self.table(name),
                    history,
                    batch.cu_seqlens,
                    batch.max_seqlen,
                    positions,
                    judged,
                    max_history=self.max_history,
                )
            )
        return torch.stack(found, -2)

    def strongest(self, batch: "JaggedBatch", positions: Tensor, candidates: Tensor) -> Tensor:
        """Which item of the history says most for each candidate.

        Args:
            batch: The sessions.
            positions: ``(num_positions,)`` int64 token index.
            candidates: ``(num_positions, num_candidates)`` int64 item_idx.

        Returns:
            ``(num_positions, num_candidates, num_relations)`` int64 item_idx, 0 where none does.
        """
        reach = min(self.max_history, batch.max_seqlen)
        steps = torch.arange(reach, device=candidates.device)
        first = session_starts(batch.cu_seqlens, positions)
        had, spans = histories(batch.items, first, positions, steps), spans_of(steps)
        found = []
        for place, name in enumerate(self.names):
            values = self.table(name)[2]
            if not len(values):
                found.append(torch.zeros_like(candidates))
                continue
            said = entries(self._keys(name), values, self.num_items + 1, had, candidates)
            said = said * self.weight[place][spans][:, None]
            best, step = said.max(1)
            found.append(had.gather(1, step).masked_fill(best <= 0, 0))
        return torch.stack(found, -1)

    def _keys(self, name: str) -> Tensor:
        """Where the entries of a relation are looked up; made once for its counts."""
        offsets, columns, _ = self.table(name)
        known = self._looked_up.get(name)
        if known is None or known[0] is not columns or known[1] != columns._version:
            known = (columns, columns._version, entry_keys(offsets, columns))
            self._looked_up[name] = known
        return known[2]
