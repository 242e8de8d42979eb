"""One row with one seed: train what is missing, evaluate, write the result."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.common import DATA as REAL_DATA
from bench.reproduce.rows import CORRECTED, DATA, POPULARITY, ROWS, Row, find_row, settings_of
from mfgan.config import load_config
from mfgan.console import Reporter
from mfgan.data.dataset import PreparedDataset
from mfgan.data.prepare import prepare
from mfgan.errors import MfganError
from mfgan.evaluation.baselines import ItemKNN, Popularity
from mfgan.evaluation.protocol import Scorer, evaluate
from mfgan.evaluation.scorers import CorrectedScorer, GeneratorScorer
from mfgan.files import write_json
from mfgan.training import Run, train

if TYPE_CHECKING:
    from mfgan.evaluation.result import Evaluation

PROTOCOLS = ("full", "sampled:100")
_EVALUATION_SEED = 0  # the drawn candidates are the same for every row and seed


def reproduce(
    name: str, data: str, seed: int, out: Path, *, threads: int, reporter: Reporter
) -> Path:
    """Train and evaluate one row; whatever of it is there already is kept.

    Args:
        name: The row.
        data: The data set.
        seed: Of the training.
        out: Where data, runs and results are.
        threads: Of the CPU.
        reporter: Shows the progress.

    Returns:
        The result's JSON file. Beside it lie metrics by user, a Parquet file a protocol.

    Raises:
        MfganError: There is no such row or data set, or the real data are missing.
    """
    dataset = prepared(data, out, reporter)
    row = find_row(name, DATA[data].judges or dataset.factor_names)
    stem = out / "results" / f"{data}-{name.replace(':', '-')}-{seed}"
    result = stem.with_suffix(".json")
    if result.exists():
        return result
    run = _trained(row, data, dataset, seed, out, threads, reporter) if row.stages else None
    scorer, max_len = _scorer(row, dataset, run)
    found = {
        protocol: evaluate(
            dataset,
            scorer,
            protocol=protocol,
            max_len=max_len,
            seed=_EVALUATION_SEED,
            reporter=reporter,
        )
        for protocol in PROTOCOLS
    }
    result.parent.mkdir(parents=True, exist_ok=True)
    for protocol, evaluation in found.items():
        evaluation.per_user.write_parquet(f"{stem}-{protocol.replace(':', '-')}.parquet")
    head = {"row": name, "title": row.title, "data": data, "seed": seed, "threads": threads}
    write_json(result, {**head, "seconds": _seconds(run), **_metrics(found)})
    return result


def prepared(data: str, out: Path, reporter: Reporter) -> PreparedDataset:
    """The prepared data set, made where it is not there yet."""
    if data not in DATA:
        raise MfganError(f"reproduce: data must be one of {', '.join(DATA)}, got {data!r}")
    source, path = DATA[data], out / "data" / data
    if path.exists():
        return PreparedDataset.open(path)
    found = REAL_DATA / source.source
    if not found.exists():
        raise MfganError(f"reproduce: {source.source} must be below MFGAN_DATA, found nothing")
    path.parent.mkdir(parents=True, exist_ok=True)
    width = source.co_occurrence
    return prepare(found, path, format=source.format, co_occurrence=width, reporter=reporter)


def _trained(
    row: Row,
    data: str,
    dataset: PreparedDataset,
    seed: int,
    out: Path,
    threads: int,
    reporter: Reporter,
) -> Run:
    start = None
    if row.start:
        start = _trained(ROWS[row.start], data, dataset, seed, out, threads, reporter).path
    overrides = [*settings_of(row, data), f"seed={seed}", f"threads={threads}"]
    config = load_config(row.preset, overrides=overrides)
    path = out / "runs" / f"{data}-{row.run}-{seed}"
    for stage in row.stages:
        begun = (path / "run.json").exists()
        train(
            dataset,
            path,
            config,
            stage=stage,
            init=None if begun else start,
            resume=begun,
            reporter=reporter,
        )
    return Run.open(path)


def _scorer(row: Row, dataset: PreparedDataset, run: Run | None) -> tuple[Scorer, int]:
    if run is None:
        longest = int(np.diff(dataset.offsets).max())
        baseline: Scorer = Popularity(dataset) if row.scored == POPULARITY else ItemKNN(dataset)
        return baseline, longest
    if row.scored != CORRECTED:
        generator = run.generator(row.scored)
        return GeneratorScorer(generator), generator.config.max_len
    generator, correction = run.generator(), run.correction()
    if correction is None:
        raise MfganError(f"{run.path}: must be calibrated, found no calibration")
    scorer = CorrectedScorer(generator, run.discriminators(), correction)
    return scorer, generator.config.max_len


def _seconds(run: Run | None) -> float:
    """Training time of a run and of those it started from."""
    if run is None:
        return 0.0
    own = [run.store(stage).progress() for stage in run.finished_stages]
    before = Run.open(run.init) if run.init else None
    return sum(progress.elapsed for progress in own if progress) + _seconds(before)


def _metrics(found: "dict[str, Evaluation]") -> dict[str, Any]:
    """Mean and interval over users of every metric, named with its protocol."""
    return {
        "metrics": {
            name: {"mean": value, "interval": evaluation.interval(name)}
            for evaluation in found.values()
            for name, value in evaluation.metrics.items()
        }
    }
