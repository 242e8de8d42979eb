"""The results of all rows and seeds as one table."""

from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import polars as pl

from bench.reproduce.rows import ROWS, against
from mfgan.errors import MfganError
from mfgan.evaluation.seeds import over_seeds
from mfgan.evaluation.significance import holm, randomisation_test
from mfgan.files import read_json

COLUMNS = (
    "HR@10",
    "NDCG@10",
    "MRR",
    "HR@10 (100 sampled)",
    "NDCG@10 (100 sampled)",
    "MRR (100 sampled)",
)
METRIC = "NDCG@10"


def table(out: Path) -> str:
    """Markdown: means over seeds with their 95 % t intervals.

    Args:
        out: Where ``reproduce`` wrote.

    Returns:
        For each data set a table for each row that others are tested against: the control, that
        of the generators without factors, and what ablations change. The last column is the p of
        NDCG@10 over the seeds in common, each user's difference being the mean over them, by
        Holm's correction over the table. Behind them NDCG@10 seed by seed, where a row has more
        than one.
    """
    results = [read_json(path) for path in sorted((out / "results").glob("*.json"))]
    by_data: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        by_data[result["data"]][result["row"]].append(result)
    parts = []
    for data, rows in by_data.items():
        _check(data, rows)
        families = _families(rows)
        parts += [
            _table(out, data, reference, family, rows) for reference, family in families.items()
        ]
        parts += _seed_by_seed(
            data, [rows[name] for family in families.values() for name in family]
        )
    return "\n\n".join(parts)


def _check(data: str, rows: dict[str, list[Any]]) -> None:
    """Refuse means over results that are not of one data set, or of a row not of one setting.

    Raises:
        MfganError: They are not.
    """
    fingerprints = {found["made_of"]["fingerprint"] for row in rows.values() for found in row}
    if len(fingerprints) > 1:
        raise MfganError(
            f"{data}: results must be of one data set, got {len(fingerprints)} fingerprints; "
            "leave some out or choose another --out"
        )
    for name, row in rows.items():
        if len({tuple(found["made_of"]["settings"]) for found in row}) > 1:
            raise MfganError(f"{data}: all seeds of {name} must have the same settings, got others")


def _families(rows: dict[str, list[Any]]) -> dict[str, list[str]]:
    """Names of rows by what they are tested against, both in the order of ``ROWS``."""
    known = list(ROWS)
    order = sorted(rows, key=lambda name: (known.index(name) if name in ROWS else 99, name))
    found: dict[str, list[str]] = defaultdict(list)
    for name in order:
        found[against(name)].append(name)
    return {reference: found[reference] for reference in sorted(found, key=known.index)}


def _table(
    out: Path, data: str, reference: str, family: list[str], rows: dict[str, list[Any]]
) -> str:
    chances = _chances(out, data, reference, family, rows)
    title = ROWS[reference].title
    lines = [
        f"| {data} | seeds | {' | '.join(COLUMNS)} | minutes | p against {title} |",
        "|---" * (len(COLUMNS) + 4) + "|",
    ]
    if reference not in family and reference in rows:
        # Beside the others' seeds alone.
        seeds = {result["seed"] for name in family for result in rows[name]}
        lines.append(_line([found for found in rows[reference] if found["seed"] in seeds], ""))
    for name in family:
        lines.append(_line(rows[name], f"{chances[name]:.4f}" if name in chances else ""))
    return "\n".join(lines)


def _seed_by_seed(data: str, rows: list[list[Any]]) -> list[str]:
    """A table of those rows that have more than one seed; none where none has."""
    seeds = sorted({result["seed"] for found in rows if len(found) > 1 for result in found})
    if not seeds:
        return []
    lines = [
        f"| {data}, {METRIC} by seed | {' | '.join(map(str, seeds))} |",
        "|---" * (len(seeds) + 1) + "|",
    ]
    for found in rows:
        of_seed = {result["seed"]: f"{result['metrics'][METRIC]['mean']:.4f}" for result in found}
        if len(of_seed) > 1:
            cells = " | ".join(of_seed.get(seed, "") for seed in seeds)
            lines.append(f"| {found[0]['title']} | {cells} |")
    return ["\n".join(lines)]


def _line(found: list[Any], chance: str) -> str:
    cells = [
        _cell(
            [result["metrics"][column]["mean"] for result in found if column in result["metrics"]]
        )
        for column in COLUMNS
    ]
    minutes = f"{mean(result['seconds'] for result in found) / 60:.0f}"
    return f"| {found[0]['title']} | {len(found)} | {' | '.join(cells)} | {minutes} | {chance} |"


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    middle, (_, high) = over_seeds(values)
    return f"{middle:.4f}" if len(values) < 2 else f"{middle:.4f} ± {high - middle:.4f}"


def _chances(
    out: Path, data: str, reference: str, family: list[str], rows: dict[str, list[Any]]
) -> dict[str, float]:
    """Corrected p-values of the rows that have seeds in common with what they are against."""
    seeds = {name: {result["seed"] for result in found} for name, found in rows.items()}
    names, chances = [], []
    for name in family:
        common = sorted(seeds[name] & seeds.get(reference, set()))
        if name == reference or not common:
            continue
        gaps = [
            _by_user(out, data, name, seed) - _by_user(out, data, reference, seed)
            for seed in common
        ]
        names.append(name)
        chances.append(float(randomisation_test(np.mean(gaps, axis=0)[:, None])[0]))
    return dict(zip(names, holm(chances), strict=True)) if names else {}


def _by_user(out: Path, data: str, name: str, seed: int) -> np.ndarray:
    path = out / "results" / f"{data}-{name.replace(':', '-')}-{seed}-full.parquet"
    return pl.read_parquet(path, columns=[METRIC])[METRIC].to_numpy()
