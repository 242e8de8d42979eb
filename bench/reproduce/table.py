"""The results of all rows and seeds as one table."""

from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import polars as pl

from bench.reproduce.rows import ROWS
from mfgan.evaluation.significance import holm, randomisation_test
from mfgan.files import read_json

COLUMNS = (
    *("HR@10", "NDCG@10", "MRR"),
    *("HR@10 (100 sampled)", "NDCG@10 (100 sampled)", "MRR (100 sampled)"),
)
# Student's t at 0.975 for 1, 2, … degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
METRIC = "NDCG@10"
_CONTROL = "control"  # of rows that are not in ``ROWS``: ablations


def table(out: Path) -> str:
    """Markdown: mean over seeds with its 95 % t interval, one table a data set.

    Args:
        out: Where ``reproduce`` wrote.

    Returns:
        The tables. The last column is Holm's corrected p of NDCG@10 against the control of the
        same generator and the same seeds, each user's difference being the mean over seeds.
    """
    results = [read_json(path) for path in sorted((out / "results").glob("*.json"))]
    by_data: dict[str, list[Any]] = defaultdict(list)
    for result in results:
        by_data[result["data"]].append(result)
    return "\n\n".join(_table(out, data, found) for data, found in by_data.items())


def _table(out: Path, data: str, results: list[Any]) -> str:
    rows: dict[str, list[Any]] = defaultdict(list)
    for result in results:
        rows[result["row"]].append(result)
    order = sorted(rows, key=lambda name: (list(ROWS).index(name) if name in ROWS else 99, name))
    chances = _chances(out, data, rows)
    lines = [
        f"| {data} | seeds | {' | '.join(COLUMNS)} | minutes | p against control |",
        "|---" * (len(COLUMNS) + 4) + "|",
    ]
    for name in order:
        found = rows[name]
        cells = [_cell([f["metrics"][column]["mean"] for f in found]) for column in COLUMNS]
        minutes = f"{mean(f['seconds'] for f in found) / 60:.0f}"
        chance = f"{chances[name]:.4f}" if name in chances else ""
        title = found[0]["title"]
        lines.append(f"| {title} | {len(found)} | {' | '.join(cells)} | {minutes} | {chance} |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    text = f"{mean(values):.4f}"
    if len(values) < 2:
        return text
    half = _T[min(len(values) - 1, len(_T)) - 1] * stdev(values) / len(values) ** 0.5
    return f"{text} ± {half:.4f}"


def _chances(out: Path, data: str, rows: dict[str, list[Any]]) -> dict[str, float]:
    """Corrected p-values of the rows that have seeds in common with their control."""
    seeds = {name: {result["seed"] for result in found} for name, found in rows.items()}
    names, chances = [], []
    for name in rows:
        control = ROWS[name].against if name in ROWS else _CONTROL
        common = sorted(seeds[name] & seeds.get(control, set()))
        if name == control or not common:
            continue
        gaps = [
            _by_user(out, data, name, seed) - _by_user(out, data, control, seed) for seed in common
        ]
        names.append(name)
        chances.append(float(randomisation_test(np.mean(gaps, axis=0)[:, None])[0]))
    return dict(zip(names, holm(chances), strict=True)) if names else {}


def _by_user(out: Path, data: str, name: str, seed: int) -> np.ndarray:
    path = out / "results" / f"{data}-{name.replace(':', '-')}-{seed}-full.parquet"
    return pl.read_parquet(path, columns=[METRIC])[METRIC].to_numpy()
