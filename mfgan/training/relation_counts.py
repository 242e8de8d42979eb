"""Relations of all users, and without those of one fold for the discriminators' steps on these."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from mfgan.data.relations import count_relation
from mfgan.models.discriminator import Discriminators
from mfgan.models.relation_tables import RelationTables, Table
from mfgan.training.context import StageContext


class FoldedRelations:
    """Gives the run's discriminators their relations, and for a while those of other users.

    Args:
        context: The run's; its discriminators take the relations of all users.
        parts: The users of each fold; relations need two folds or more.
    """

    def __init__(self, context: StageContext, parts: Sequence[npt.NDArray[np.int64]]) -> None:
        self._judges = context.discriminators().relations
        if self._judges is None:
            return
        users = np.arange(context.dataset.num_users)
        context.reporter.note(f"counting {', '.join(self._judges.names)}")
        self._everyone = _counted(context, self._judges, users)
        self._others = [
            _counted(context, self._judges, np.setdiff1d(users, part)) for part in parts
        ]
        self._judges.take(self._everyone)

    @contextmanager
    def without(self, fold: int) -> Iterator[None]:
        """Within it the discriminators judge by what the users of the other folds had."""
        if self._judges is None:
            yield
            return
        self._judges.take(self._others[fold])
        try:
            yield
        finally:
            self._judges.take(self._everyone)


def count_generator_relations(context: StageContext) -> None:
    """Give the run's generator its relations, of all users: those of the judges where they are
    theirs as well, which need not be counted again."""
    term, judges = context.generator().relations, context.models.get("discriminators")
    if term is None:
        return
    known: dict[str, Table] = {}
    if isinstance(judges, Discriminators) and judges.relations is not None:
        theirs = judges.relations
        known = {} if theirs.is_empty else {name: theirs.table(name) for name in theirs.names}
    if absent := [name for name in term.names if name not in known]:
        context.reporter.note(f"counting {', '.join(absent)}")
        known |= _counted(context, term, np.arange(context.dataset.num_users), absent)
    term.take(known)


def _counted(
    context: StageContext,
    tables: RelationTables,
    users: npt.NDArray[np.int64],
    names: Sequence[str] | None = None,
) -> dict[str, Table]:
    return {
        name: tables.laid_out(count_relation(name, context.dataset, users))
        for name in names or tables.names
    }
