"""One row with one seed: train what is missing, evaluate, write the result."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.reproduce.data import Ground
from bench.reproduce.rows import CORRECTED, POPULARITY, ROWS, Row, find_row, settings_of
from mfgan.config import load_config
from mfgan.console import Reporter
from mfgan.data.dataset import PreparedDataset
from mfgan.data.sampling import evaluation_negatives
from mfgan.errors import MfganError
from mfgan.evaluation.baselines import ItemKNN, Popularity
from mfgan.evaluation.protocol import Scorer, evaluate
from mfgan.evaluation.scorers import CorrectedScorer, GeneratorScorer
from mfgan.files import read_json, write_json
from mfgan.training import Run, train

if TYPE_CHECKING:
    from mfgan.evaluation.result import Evaluation

_SAMPLED = 100
PROTOCOLS = ("full", f"sampled:{_SAMPLED}")
_EVALUATION_SEED = 0  # the drawn candidates are the same for every row and seed


def reproduce(
    name: str, ground: Ground, seed: int, out: Path, *, threads: int, reporter: Reporter
) -> Path:
    """Train and evaluate one row; whatever of it is there already is kept.

    Args:
        name: The row.
        ground: What it is trained on.
        seed: Of the training.
        out: Where runs and results are.
        threads: Of the CPU.
        reporter: Shows the progress.

    Returns:
        The result's JSON file, without sampled metrics where a user leaves too few items to be
        drawn. Beside it lie metrics by user, a Parquet file a protocol.

    Raises:
        MfganError: There is no such row, or it is there and was made of other data or settings.
    """
    row = find_row(name, ground.judges)
    stem = out / "results" / f"{ground.name}-{name.replace(':', '-')}-{seed}"
    result = stem.with_suffix(".json")
    made_of = {
        "fingerprint": ground.dataset.fingerprint,
        "settings": list(settings_of(row, ground)),
    }
    if result.exists():
        if read_json(result).get("made_of") != made_of:
            raise MfganError(f"{result}: was made of other data or settings; choose another --out")
        return result
    run = _trained(row, ground, seed, out, threads, reporter) if row.stages else None
    scorer, max_len = _scorer(row, ground.dataset, run)
    found = {
        protocol: evaluate(
            ground.dataset,
            scorer,
            protocol=protocol,
            max_len=max_len,
            seed=_EVALUATION_SEED,
            reporter=reporter,
        )
        for protocol in _protocols(ground.dataset)
    }
    result.parent.mkdir(parents=True, exist_ok=True)
    for protocol, evaluation in found.items():
        evaluation.per_user.write_parquet(f"{stem}-{protocol.replace(':', '-')}.parquet")
    head = {"row": name, "title": row.title, "data": ground.name, "seed": seed, "threads": threads}
    tail = {"seconds": _seconds(run), **_metrics(found)}
    write_json(result, {**head, "made_of": made_of, **tail})
    return result


def _protocols(dataset: PreparedDataset) -> tuple[str, ...]:
    """Both, or full ranking alone where somebody leaves too few items to be drawn."""
    try:
        evaluation_negatives(dataset, "test", _SAMPLED, _EVALUATION_SEED)
    except MfganError:
        return PROTOCOLS[:1]
    return PROTOCOLS


def _trained(
    row: Row, ground: Ground, seed: int, out: Path, threads: int, reporter: Reporter
) -> Run:
    start = None
    if row.start:
        start = _trained(ROWS[row.start], ground, seed, out, threads, reporter).path
    overrides = [*settings_of(row, ground), f"seed={seed}", f"threads={threads}"]
    config = load_config(row.preset, overrides=overrides)
    path = out / "runs" / f"{ground.name}-{row.run}-{seed}"
    for stage in row.stages:
        begun = (path / "run.json").exists()
        train(
            ground.dataset,
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
