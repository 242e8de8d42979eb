"""Relations counted without the users of one fold, for the discriminators' steps on these."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from mfgan.data.relations import count_relation
from mfgan.models.relation_judges import RelationJudges, Table
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
        self._everyone = self._counted(context, self._judges, users)
        self._others = [
            self._counted(context, self._judges, np.setdiff1d(users, part)) for part in parts
        ]
        self._judges.take(self._everyone)

    @staticmethod
    def _counted(
        context: StageContext, judges: RelationJudges, users: npt.NDArray[np.int64]
    ) -> dict[str, Table]:
        return {
            name: judges.laid_out(count_relation(name, context.dataset, users))
            for name in judges.names
        }

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
