"""The six models of the comparison that the package's users ask about, over seeds and data sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfgan.console import SILENT, Reporter
from mfgan.data.displays.batch import EventStore
from mfgan.data.displays.dataset import DisplayDataset
from mfgan.evaluation.choice import (
    ECE,
    LOG_LIKELIHOOD,
    METRICS,
    evaluate_choice,
    floors,
    judged_users,
)
from mfgan.evaluation.seeds import over_seeds
from mfgan.files import read_json, write_json
from mfgan.training.user_model.config import load_settings
from mfgan.training.user_model.run import UserModelRun, train_user_model

_CELL, _RESULT = "cell.json", "compare.json"


@dataclass(frozen=True)
class Variant:
    """One model of the comparison.

    Args:
        name: What it is called in the table.
        overrides: Its settings over the preset.
        init: The variant whose Shannon stage it begins at.
    """

    name: str
    overrides: tuple[str, ...]
    init: str | None = None


_ADVERSARIAL = "objective=adversarial-l2"
_NORM = "model.batch_norm=true"
VARIANTS = (
    Variant("64-64", ("model.hidden=[64,64]",)),
    Variant("32-64-32", ("model.hidden=[32,64,32]",)),
    Variant("64-64, batch norm", ("model.hidden=[64,64]", _NORM)),
    Variant("L2 after 64-64", ("model.hidden=[64,64]", _ADVERSARIAL), "64-64"),
    Variant(
        "L2 after batch norm",
        ("model.hidden=[64,64]", _NORM, _ADVERSARIAL),
        "64-64, batch norm",
    ),
    Variant(
        "L2, no pre-training",
        (
            "model.hidden=[64,64]",
            "adversarial.policy.hidden=[64,64]",
            _ADVERSARIAL,
            "warm_start=false",
        ),
    ),
)
# The checkpoint whose weights each figure is taken from: that which validation chose for it.
CHECKPOINT_OF = {
    LOG_LIKELIHOOD: "best-loss",
    "P@1": "best-P@1",
    "P@2": "best-P@2",
    ECE: "best-loss",
}


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter == "-" else "_" for letter in name)


def evaluate_run(run: UserModelRun, part: str = "test") -> dict[str, dict[str, Any]]:
    """Each metric with its interval over events, from the checkpoint that is chosen for it.

    Args:
        run: A finished run.
        part: ``test``, ``validation`` or ``train``.

    Raises:
        MfganError: Nobody is in that part.
    """
    store = EventStore(run.dataset)
    users = judged_users(run.dataset, part)
    found = {
        name: evaluate_choice(store.batches(users), run.user(name), seed=run.settings.seed)
        for name in dict.fromkeys(CHECKPOINT_OF.values())
    }
    return {
        metric: {
            "value": found[checkpoint].metrics[metric],
            "interval": list(found[checkpoint].intervals[metric]),
            "checkpoint": checkpoint,
        }
        for metric, checkpoint in CHECKPOINT_OF.items()
    }


def compare_models(
    datasets: Mapping[str, DisplayDataset],
    out: str | Path,
    *,
    preset: str = "tuned",
    overrides: Sequence[str] = (),
    seeds: Sequence[int] = range(5),
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Train and test every variant; what is done already in ``out`` is not done again.

    Args:
        datasets: Prepared displays by name.
        out: Directory of the runs and of ``compare.json``.
        preset: Settings that all variants share.
        overrides: Over the preset, under each variant's own.
        seeds: Of the weights and batches.
        reporter: Where progress is shown.

    Returns:
        What ``compare.json`` holds: cells, floors, summary and conclusions.

    Raises:
        MfganError: A data set has no validation or no test users.
    """
    out = Path(out)
    for dataset in datasets.values():
        for part in ("validation", "test"):
            judged_users(dataset, part)
    cells: list[dict[str, Any]] = []
    with reporter.task("compare", len(datasets) * len(VARIANTS) * len(seeds)) as task:
        for name, dataset in datasets.items():
            for seed in seeds:
                for variant in VARIANTS:
                    cells.append(_cell(out / name, dataset, variant, seed, preset, overrides))
                    cells[-1]["dataset"] = name
                    task.advance(1, f"{name} {variant.name} seed {seed}")
    result = {
        "preset": preset,
        "overrides": list(overrides),
        "seeds": list(seeds),
        "cells": cells,
        "floors": {name: _floors(dataset) for name, dataset in datasets.items()},
        "summary": {name: _summary(name, cells) for name in datasets},
    }
    result["conclusions"] = {
        name: conclusions([cell for cell in cells if cell["dataset"] == name]) for name in datasets
    }
    write_json(out / _RESULT, result)
    return result


def _cell(
    out: Path,
    dataset: DisplayDataset,
    variant: Variant,
    seed: int,
    preset: str,
    overrides: Sequence[str],
) -> dict[str, Any]:
    def path_of(name: str) -> Path:
        return out / _slug(name) / f"seed-{seed}"

    path = path_of(variant.name)
    settings = load_settings(preset, overrides=[*overrides, *variant.overrides, f"seed={seed}"])
    if (path / _CELL).exists():
        cell: dict[str, Any] = read_json(path / _CELL)
        if cell["settings"] == settings.model_dump(mode="json"):
            return cell
    run = train_user_model(
        dataset,
        path,
        settings,
        init=path_of(variant.init) if variant.init else None,
        resume=(path / "run.json").exists(),
    )
    cell = {
        "model": variant.name,
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
        "validation": evaluate_run(run, "validation"),
        "test": evaluate_run(run, "test"),
    }
    write_json(path / _CELL, cell)
    return cell


def _floors(dataset: DisplayDataset) -> dict[str, Any]:
    store, users = EventStore(dataset), dataset.users("test")
    return {
        name: evaluate_choice(store.batches(users), scorer).to_dict()
        for name, scorer in floors(dataset, dataset.users("train")).items()
    }


def _summary(name: str, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and interval over seeds by model, and the model that validation chooses."""
    table: dict[str, Any] = {}
    for variant in VARIANTS:
        mine = [c for c in cells if c["dataset"] == name and c["model"] == variant.name]
        table[variant.name] = {
            part: {metric: _over_seeds(mine, part, metric) for metric in METRICS}
            for part in ("validation", "test")
        }
    chosen = max(table, key=lambda model: table[model]["validation"]["P@1"]["mean"])
    return {"models": table, "chosen on validation by P@1": chosen}


def _over_seeds(cells: Sequence[Mapping[str, Any]], part: str, metric: str) -> dict[str, Any]:
    mean, interval = over_seeds([cell[part][metric]["value"] for cell in cells])
    return {"mean": mean, "interval": list(interval)}


@dataclass(frozen=True)
class _Claim:
    text: str
    metric: str
    more: tuple[str, ...]
    less: tuple[str, ...]


_CLAIMS = (
    _Claim(
        "Shannon pre-training is essential: L2 after it chooses better than L2 without",
        "P@1",
        ("L2 after 64-64",),
        ("L2, no pre-training",),
    ),
    _Claim(
        "Adversarial fine-tuning adds to Shannon pre-training",
        "P@1",
        ("L2 after 64-64", "L2 after batch norm"),
        ("64-64", "64-64, batch norm"),
    ),
    _Claim("Batch normalisation helps", "P@1", ("64-64, batch norm",), ("64-64",)),
    _Claim("A deeper utility (32-64-32) helps", "P@1", ("32-64-32",), ("64-64",)),
)


def conclusions(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each claim with the difference that decides it, paired by seed, on test.

    A claim holds where the 95 % interval of the difference lies above 0, is wrong where it lies
    below, and is undecided else.
    """
    found = []
    values = {(c["model"], c["seed"]): c["test"] for c in cells}
    for claim in _CLAIMS:
        differences = [
            values[more, seed][claim.metric]["value"] - values[less, seed][claim.metric]["value"]
            for more, less in zip(claim.more, claim.less, strict=True)
            for seed in sorted({cell["seed"] for cell in cells})
        ]
        mean, (low, high) = over_seeds(differences)
        verdict = "holds" if low > 0 else "is wrong" if high < 0 else "is undecided"
        found.append(
            {
                "claim": claim.text,
                "metric": claim.metric,
                "difference": mean,
                "interval": [low, high],
                "verdict": verdict,
            }
        )
    return found
