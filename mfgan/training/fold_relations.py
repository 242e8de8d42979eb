"""Relations counted without the users of one fold, for the discriminators' steps on these."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from mfgan.data.relations import Relation, count_relation
from mfgan.training.context import StageContext


class FoldedRelations:
    """Gives the run's discriminators their relations, and for a while those of other users.

    Args:
        context: The run's; its discriminators take the relations of all users.
        parts: The users of each fold; relations need two folds or more.
    """

    def __init__(self, context: StageContext, parts: Sequence[npt.NDArray[np.int64]]) -> None:
        self._judges = context.discriminators().relations
        self._everyone: Mapping[str, Relation] = {}
        self._others: list[Mapping[str, Relation]] = []
        if self._judges is None:
            return
        dataset, names = context.dataset, self._judges.names
        users = np.arange(dataset.num_users)
        context.reporter.note(f"counting {', '.join(names)}")
        self._everyone = {name: count_relation(name, dataset) for name in names}
        self._others = [
            {name: count_relation(name, dataset, np.setdiff1d(users, part)) for name in names}
            for part in parts
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
