"""What the generator proposes at places of the training histories, as a table."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from mfgan.config import SampleConfig
from mfgan.console import SILENT, Reporter
from mfgan.data.batching import Sessions, TrainingBatches
from mfgan.data.columns import (
    ITEM_ID,
    LOG_PROBABILITY,
    NEXT_ITEM_ID,
    POSITION,
    RANK,
    USER_ID,
)
from mfgan.data.dataset import PreparedDataset
from mfgan.files import atomic_file
from mfgan.models.generator import Generator
from mfgan.training.seeds import derived_seed
from mfgan.training.stage import OneShotStage
from mfgan.training.trials import draw_trials

if TYPE_CHECKING:
    import polars as pl

SAMPLES_FILE = "samples.parquet"
_USERS_AT_ONCE = 256
_DRAWS = 211  # tells this use of a seed from every other one


class SampleStage(OneShotStage):
    """Leaves ``samples.parquet`` in the run: candidates at every user's last training position.

    For inspection. The discriminators' training draws its own at each step, so that they never
    see the same ones twice.
    """

    name: ClassVar[str] = "sample"

    def run(self, directory: Path) -> None:
        """Draw for every user as the run's settings say."""
        context = self.context
        write_samples(
            context.dataset,
            context.generator(),
            directory / SAMPLES_FILE,
            context.config.sample.model_copy(update={"positions": 0}),
            seed=self.seed,
            reporter=context.reporter,
        )


def write_samples(
    dataset: PreparedDataset,
    generator: Generator,
    out: Path,
    settings: SampleConfig,
    *,
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Write the generator's candidates at training positions to a Parquet file, atomically.

    A row is a candidate: ``user_id``; ``position``, the place in the user's history that it is
    for, from 0; ``rank`` from 1, in the order of drawing or by falling probability for ``top``;
    ``item_id``; ``log_probability`` of the item among all items; and ``next_item_id``, what the
    user really had at that place. Ids are those of the log, as text. Items of validation and test
    are not looked at.

    Args:
        dataset: The prepared data set.
        generator: Who proposes, without dropout.
        out: The file.
        settings: How many candidates, which, and at how many positions a user.
        seed: Of positions and candidates.
        reporter: Shows the progress.

    Returns:
        ``rows``, ``users`` and ``positions`` written.

    Raises:
        MfganError: The catalogue has too few items.
    """
    batches = TrainingBatches(
        dataset, max_len=generator.config.max_len, batch_size=_USERS_AT_ONCE, seed=seed
    )
    sessions, rows = batches.sessions(0), 0
    with (
        reporter.task("sample", len(sessions)) as task,
        atomic_file(out) as handle,
        _parquet_writer(handle) as write,
    ):
        for first in range(0, len(sessions), _USERS_AT_ONCE):
            chosen = sessions[np.arange(first, min(first + _USERS_AT_ONCE, len(sessions)))]
            frame = _draw(generator, batches, chosen, settings, [seed, _DRAWS, first])
            write(frame)
            rows += frame.height
            task.advance(len(chosen))
    return {
        "rows": rows,
        "users": len(sessions),
        "positions": rows // settings.num_candidates,
    }


def _draw(
    generator: Generator,
    batches: TrainingBatches,
    chosen: Sessions,
    settings: SampleConfig,
    seeds: list[int],
) -> "pl.DataFrame":
    import polars as pl

    dataset = batches.dataset
    batch = batches.pack(chosen).to(generator.item_embedding.device)
    trials = draw_trials(
        generator,
        batch,
        settings,
        numpy_rng=np.random.default_rng(seeds),
        rng=torch.Generator().manual_seed(derived_seed(*seeds)),
    )
    count = settings.num_candidates
    positions = trials.positions.cpu().numpy()
    lengths = batch.offsets.diff().numpy()
    owner = np.repeat(np.arange(len(chosen)), lengths)[positions]
    users = chosen.users[owner]
    # A session is the end of the training part, whose last interaction is its last target.
    places = dataset.train_end[users] - lengths[owner] + batch.positions.cpu().numpy()[positions]
    items = trials.items.cpu().numpy()
    return pl.DataFrame(
        {
            USER_ID: dataset.user_ids.take(np.repeat(users, count)),
            POSITION: np.repeat(places, count),
            RANK: np.tile(np.arange(1, count + 1, dtype=np.int32), len(positions)),
            ITEM_ID: dataset.item_ids.take(items[:, 1:].ravel()),
            LOG_PROBABILITY: trials.log_probs.float().cpu().numpy().ravel(),
            NEXT_ITEM_ID: dataset.item_ids.take(np.repeat(items[:, 0], count)),
        }
    )


@contextmanager
def _parquet_writer(handle: Any) -> Iterator[Any]:
    """Writes frames of one schema to an open file, a row group each."""
    import pyarrow.parquet as pq

    writers: list[Any] = []

    def write(frame: "pl.DataFrame") -> None:
        table = frame.to_arrow()
        if not writers:
            writers.append(pq.ParquetWriter(handle, table.schema, compression="zstd"))
        writers[0].write_table(table)

    try:
        yield write
    finally:
        for writer in writers:
            writer.close()
