"""What the rows are trained on: the data sets of the table, or one of your own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.common import DATA as REAL_DATA
from mfgan.config import RunConfig, load_config
from mfgan.console import Reporter
from mfgan.data.dataset import PreparedDataset
from mfgan.data.prepare import prepare
from mfgan.errors import MfganError
from mfgan.names import ID


@dataclass(frozen=True)
class Data:
    """A data set of the table.

    Args:
        source: Below the folder of real data.
        format: Of ``mfgan prepare``.
        settings: Overrides of the preset ``tuned`` on these data; ``paper`` has the published ones.
        judges: Factors that judge; an id's discriminator would learn its training positions by
            heart.
        co_occurrence: Width of the vectors of that factor.
    """

    source: str
    format: str
    settings: tuple[str, ...]
    judges: tuple[str, ...]
    co_occurrence: int = 64


# Faster where the processor has such products, and of equal accuracy (docs/experiments.md).
COMMON = ("precision=bf16",)
# Where items have few interactions: more dropout, cosine logits, weight decay.
_SPARSE = (
    *COMMON,
    "generator.max_len=50",
    "generator.dropout=0.5",
    "generator.attention_dropout=0.2",
    "generator.normalize=true",
    "generator.temperature=0.07",
    "pretrain_generator.epochs=16",
    "pretrain_generator.optimizer.weight_decay=0.1",
)
DATA = {
    "ml-1m": Data(
        source="ml-1m/sasrec.txt.gz",
        format="ml-1m",
        settings=(
            *COMMON,
            "generator.factors=['genre', 'director', 'actors', 'year']",
            "pretrain_discriminator.batch_size=16",
        ),
        judges=(
            "genre",
            "director",
            "actors",
            "year",
            "popularity",
            "rating_board",
            "graph_vector",
            "co_occurrence",
        ),
    ),
    "beauty": Data(
        source="amazon/s3rec_Beauty.txt.gz",
        format="sequences",
        settings=(*_SPARSE, "generator.factors=['attributes']"),
        judges=("attributes", "popularity", "co_occurrence"),
    ),
    # Without an item table, and with the settings of the log above: nothing was searched here.
    "games": Data(
        source="amazon/sasrec_Video.txt.gz",
        format="sequences",
        settings=_SPARSE,
        judges=("popularity", "co_occurrence"),
    ),
    # As the demo has it: more passes over few and short batches.
    "ml-100k": Data(
        source="ml-100k",
        format="ml-100k",
        settings=(
            *COMMON,
            "pretrain_generator.epochs=30",
            "generator.max_len=100",
            "pretrain_discriminator.batch_size=16",
        ),
        judges=("genre", "year", "popularity", "co_occurrence"),
    ),
}


@dataclass(frozen=True)
class Ground:
    """What rows are trained on.

    Args:
        name: Runs and results are called by it.
        dataset: The prepared data set.
        settings: Overrides of the preset ``tuned``.
        judges: Factors that judge in the rows that are no ablations.
    """

    name: str
    dataset: PreparedDataset
    settings: tuple[str, ...]
    judges: tuple[str, ...]

    def config(self, *settings: str) -> RunConfig:
        """The preset ``tuned`` as the data set has it, with further settings."""
        return load_config("tuned", overrides=[*self.settings, *settings])


def ground(data: str, out: Path, reporter: Reporter, settings: Sequence[str] = ()) -> Ground:
    """A data set of the table, made where it is not there yet, or one of your own.

    Args:
        data: A name of the table, or a folder that ``mfgan prepare`` made. On the latter the preset
            ``tuned`` is as it is, and all factors but the id judge.
        out: Where data, runs and results are.
        reporter: Shows the progress.
        settings: Further overrides of the preset, for data of your own.

    Raises:
        MfganError: There is no such data set or folder, the real data are missing, or further
            settings are given for a data set of the table.
    """
    if data in DATA:
        if settings:
            raise MfganError(f"reproduce: {data} has its own settings, got {', '.join(settings)}")
        known = DATA[data]
        return Ground(data, prepared(data, out, reporter), known.settings, known.judges)
    folder = Path(data)
    if not folder.is_dir():
        raise MfganError(
            f"reproduce: data must be one of {', '.join(DATA)}, or a folder that mfgan prepare made,"
            f" got {data!r}"
        )
    name, dataset = folder.resolve().name, PreparedDataset.open(folder)
    if name in DATA:
        raise MfganError(f"reproduce: a folder must not be called as a data set is, got {name!r}")
    judges = tuple(factor for factor in dataset.factor_names if factor != ID)
    return Ground(name, dataset, (*COMMON, *settings), judges)


def prepared(data: str, out: Path, reporter: Reporter) -> PreparedDataset:
    """A data set of the table, made where it is not there yet.

    Raises:
        MfganError: The real data are missing.
    """
    source, path = DATA[data], out / "data" / data
    if path.exists():
        return PreparedDataset.open(path)
    found = REAL_DATA / source.source
    if not found.exists():
        raise MfganError(f"reproduce: {source.source} must be below MFGAN_DATA, found nothing")
    path.parent.mkdir(parents=True, exist_ok=True)
    width = source.co_occurrence
    return prepare(found, path, format=source.format, co_occurrence=width, reporter=reporter)
