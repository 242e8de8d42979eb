"""The iterations of a stage: train, validate, keep the best, write checkpoints, resume."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mfgan.console import SILENT, Reporter
from mfgan.data.displays.batch import EventBatch
from mfgan.evaluation.choice import click_hits
from mfgan.files import atomic_file
from mfgan.training.log import read_rows
from mfgan.training.user_model.checkpoint import (
    BEST,
    Weights,
    resume_stage,
    save_stage,
    set_weights,
    weights_of,
)
from mfgan.training.user_model.stages import Stage

Validate = Callable[[], dict[str, float]]


def validator(stage: Stage, batch: EventBatch) -> Validate:
    """A function that judges the stage's user on a validation batch.

    Args:
        stage: The stage.
        batch: All validation events.

    Returns:
        Gives ``loss``, ``P@1`` and ``P@2``.
    """

    @torch.no_grad()
    def validate() -> dict[str, float]:
        model = stage.user.chooser
        model.eval()
        utilities = model(batch)
        model.train()
        loss = stage.losses(utilities, batch).mean()
        hits = click_hits(utilities, batch)[batch.clicks >= 0].mean(0)
        return {"loss": float(loss), "P@1": float(hits[0]), "P@2": float(hits[1])}

    return validate


class Best:
    """The best weights by each of loss, P@1 and P@2; the first of equals."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.iterations: dict[str, int] = {}
        self.weights: dict[str, Weights] = {}

    def offer(self, found: dict[str, float], iteration: int, stage: Stage) -> None:
        """Keep the weights where one of the values is better than all before."""
        copy: Weights | None = None
        for name in BEST:
            key = name.removeprefix("best-")
            value = -found[key] if key == "loss" else found[key]
            if math.isfinite(value) and value > self.values.get(name, -math.inf):
                copy = copy or weights_of(stage.models)
                self.values[name], self.iterations[name] = value, iteration
                self.weights[name] = copy


def run_stage(
    stage: Stage,
    validate: Validate,
    path: Path,
    *,
    validate_every: int,
    checkpoint_every: int,
    resume: bool,
    log: Path,
    reporter: Reporter = SILENT,
    stop_at: int | None = None,
) -> Best:
    """Run a stage to its end.

    Args:
        stage: What to do; its models end with the weights of best validation loss.
        validate: Judges the models.
        path: ``checkpoints/<stage>``.
        validate_every: Iterations between validations.
        checkpoint_every: Iterations between checkpoints.
        resume: Go on from the checkpoint at ``path``, bit for bit on the CPU.
        log: A line of JSON a validation is appended here.
        reporter: Where progress is shown.
        stop_at: Stop at this iteration and leave a checkpoint, for tests.

    Returns:
        The best weights.
    """
    best, done = _begun(stage, path) if resume else (Best(), 0)
    for model in stage.models.values():
        model.train()
    rows: list[dict[str, Any]] = []
    found: dict[str, float] = {}
    end = stage.iterations if stop_at is None else min(stop_at, stage.iterations)
    with reporter.task(stage.name, stage.iterations) as task:
        task.advance(done)
        if done == 0:
            best.offer(validate(), 0, stage)
        for iteration in range(done, end):
            trained = stage.step(iteration)
            count = iteration + 1
            if count % validate_every == 0 or count == stage.iterations:
                found = validate()
                best.offer(found, count, stage)
                validation = {f"validation {name}": value for name, value in found.items()}
                rows.append({"stage": stage.name, "iteration": count, **trained, **validation})
            task.advance(1, f"loss {found['loss']:.4f}" if found else "")
            if count % checkpoint_every == 0 and count < end:
                # The log first: rows behind the checkpoint that is gone on from are written anew.
                _append(log, rows, stage.name, done)
                _save(stage, path, best, count)
                rows, done = [], count
        _append(log, rows, stage.name, done)
        _save(stage, path, best, end)
    if stop_at is None and best.weights:
        set_weights(stage.models, best.weights["best-loss"], str(path))
    return best


def _begun(stage: Stage, path: Path) -> tuple[Best, int]:
    """What a checkpoint has: the best so far and the iterations done; the stage goes on there."""
    state, weights = resume_stage(path, models=stage.models, optimizers=stage.optimizers)
    best = Best()
    best.values, best.iterations = dict(state["best_values"]), dict(state["best_iterations"])
    best.weights = weights
    return best, state["iteration"]


def _save(stage: Stage, path: Path, best: Best, iteration: int) -> None:
    state = {
        "stage": stage.name,
        "iteration": iteration,
        "finished": iteration >= stage.iterations,
        "best_values": best.values,
        "best_iterations": best.iterations,
    }
    save_stage(
        path, models=stage.models, optimizers=stage.optimizers, best=best.weights, state=state
    )


def _append(log: Path, rows: list[dict[str, Any]], stage: str, after: int) -> None:
    """Append rows, in place of those of iterations that are being done again."""
    written = read_rows(log) if log.exists() else []
    kept = [row for row in written if row["stage"] != stage or row["iteration"] <= after]
    with atomic_file(log) as handle:
        handle.writelines(json.dumps(row).encode() + b"\n" for row in (*kept, *rows))
