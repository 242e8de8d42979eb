"""Epochs over batches: steps, validation, checkpoints. The same for every training stage."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from mfgan.console import SILENT, Reporter, Task
from mfgan.errors import MfganError
from mfgan.training.checkpoint import CheckpointStore, Progress
from mfgan.training.feed import CudaMover, Feed, StepInput
from mfgan.training.log import MetricsLog
from mfgan.training.replay import ReplayedStep, Sizes, padded, recorder_of
from mfgan.training.selection import Selection
from mfgan.training.stage import StepOutput, TrainingStage
from mfgan.training.tally import Tally


def run_training(
    stage: TrainingStage,
    store: CheckpointStore,
    log: MetricsLog,
    *,
    checkpoint_seconds: float = 60.0,
    reporter: Reporter = SILENT,
) -> Progress:
    """Run a stage to its end, from its newest checkpoint where there is one.

    When this returns, the stage's models hold the weights that it hands on: the best of validation,
    or the last ones where selection is off.

    Args:
        stage: What to train.
        store: Its checkpoints.
        log: Where the curves go.
        checkpoint_seconds: Time between two checkpoints within or between epochs.
        reporter: Where progress goes.

    Returns:
        Where the stage ended.

    Raises:
        MfganError: The loss is no longer finite, or a checkpoint does not fit.
    """
    return _Loop(stage, store, log, checkpoint_seconds).run(reporter)


def train_step(
    stage: TrainingStage,
    batch: Any,
    *,
    epoch: int,
    step: int,
    drawn: Mapping[str, Tensor] | None = None,
) -> tuple[StepOutput, Tensor]:
    """Forward, backward and the optimizer's move on one batch.

    Args:
        stage: What to train.
        batch: An element of ``stage.batches(epoch)``.
        epoch: From 0; it says which optimizer moves.
        step: Steps of the stage before this one; draws derive from it.
        drawn: The stage's ``host_draws`` for this step; None makes them now.

    Returns:
        What the step found, and the norm of all gradients before clipping, a scalar tensor.
    """
    optimizer = stage.optimizers[stage.optimizer_of(epoch)]
    optimizer.zero_grad()
    output = stage.step(batch, epoch=epoch, step=step, drawn=drawn)
    output.loss.backward()  # type: ignore[no-untyped-call]
    return output, optimizer.step()


class _Loop:
    def __init__(
        self, stage: TrainingStage, store: CheckpointStore, log: MetricsLog, interval: float
    ) -> None:
        self.stage, self.store, self.log, self.interval = stage, store, log, interval
        self.progress = store.restore(stage.models, stage.optimizers) or Progress()
        self.selection = Selection(stage, self.progress)
        self.saved_at = time.monotonic()
        self.before = self.progress.elapsed
        self.started = time.monotonic()
        device = stage.context.device
        self.mover = CudaMover(device) if device.type == "cuda" else None
        self.replayed: ReplayedStep | None = None
        self.sizes: Sizes | None = None

    def run(self, reporter: Reporter) -> Progress:
        progress, stage = self.progress, self.stage
        if stage.context.config.cuda_graph:
            self._begin_replaying()
        closed = progress.epoch if self.store.exists() else -1
        self.log.rewind(stage.name, epoch=closed, step=progress.step)
        if not progress.finished:
            if self.selection.wants_start:
                self.log.write({**self._place(), **self.selection.validate()})
                self._save()
            with reporter.task(stage.name, stage.num_epochs) as task:
                task.advance(progress.epoch)
                while progress.epoch < stage.num_epochs and not progress.finished:
                    self._epoch(task)
            self.selection.finish()
            progress.finished = True
            self._save()
        if best := self.store.best_path():
            stage.load(best)
        return progress

    def _epoch(self, task: Task) -> None:
        progress, stage = self.progress, self.stage
        batches = stage.batches(progress.epoch)
        tally = Tally(progress.sums)
        begun, tokens = time.monotonic(), 0
        with Feed(self._maker(batches), progress.batch, len(batches), self.mover) as feed:
            for given in feed:
                tokens += self._step(given, tally)
                task.advance(0, f"step {progress.batch}/{len(batches)}")
                if time.monotonic() - self.saved_at >= self.interval:
                    progress.sums = tally.sums()
                    self._save()
        means = tally.means(len(batches))
        if not math.isfinite(means["loss"]):
            raise MfganError(
                f"{stage.name}: loss must be finite, got {means['loss']} in epoch "
                f"{progress.epoch + 1}; lower learning_rate or set clip_norm"
            )
        name = stage.optimizer_of(progress.epoch)
        seconds = time.monotonic() - begun
        progress.epoch, progress.batch, progress.sums = progress.epoch + 1, 0, {}
        row: dict[str, Any] = {
            "model": name,
            **means,
            "learning_rate": stage.optimizers[name].learning_rate,
            "tokens_per_second": tokens / max(seconds, 1e-9),
        }
        status = f"loss {means['loss']:.4f}"
        if self.selection.is_due:
            row |= self.selection.validate()
            metric = stage.selection_metric
            status += f" {metric} {row['validation'][metric]:.4f}"
            status += " (best)" if row["best"] else ""
        self.log.write({**self._place(), **row})
        task.advance(1, status)
        if time.monotonic() - self.saved_at >= self.interval:
            self._save()

    def _maker(self, batches: Sequence[Any]) -> Callable[[int], StepInput]:
        """Makes the input of a batch; in another thread it may be, so nothing here moves on."""
        stage, sizes, epoch = self.stage, self.sizes, self.progress.epoch
        first_step = self.progress.step - self.progress.batch

        def make(number: int) -> StepInput:
            batch = batches[number]
            tokens = batch.total_tokens if sizes else 0
            batch = padded(batch, sizes) if sizes else batch
            drawn = stage.host_draws(batch, epoch=epoch, step=first_step + number)
            return StepInput(batch, drawn, tokens)

        return make

    def _step(self, given: StepInput, tally: Tally) -> int:
        progress, stage = self.progress, self.stage
        place = {"epoch": progress.epoch, "step": progress.step}
        replayed = self._replayed_step(given, place)
        if replayed is None:
            output, norm = train_step(stage, given.batch, drawn=given.drawn, **place)
        else:
            output, norm = replayed
        tally.add({"loss": output.loss.detach(), "grad_norm": norm, **output.metrics})
        progress.step += 1
        progress.batch += 1
        return given.tokens or output.tokens

    def _begin_replaying(self) -> None:
        stage, sizes = self.stage, self.stage.fixed_sizes()
        record = recorder_of(stage.context.device)
        if record is None:
            sizes = f"device must be a GPU, got {stage.context.device}"
        if record is None or isinstance(sizes, str):
            stage.context.reporter.note(f"{stage.name}: cuda_graph is not used: {sizes}")
            return
        self.sizes, self.replayed = sizes, ReplayedStep(stage, record)

    def _replayed_step(
        self, given: StepInput, place: dict[str, int]
    ) -> tuple[StepOutput, Tensor] | None:
        """The step from its recording; None where there is to be none."""
        if self.replayed is None:
            return None
        stage = self.stage
        try:
            output = self.replayed(given, **place)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            stage.context.reporter.note(f"{stage.name}: cuda_graph is not used: {reason}")
            self.replayed.close()
            self.replayed = self.sizes = None
            return None
        return output, stage.optimizers[stage.optimizer_of(place["epoch"])].step()

    def _place(self) -> dict[str, Any]:
        self.progress.elapsed = self.before + time.monotonic() - self.started
        return {
            "stage": self.stage.name,
            "epoch": self.progress.epoch,
            "step": self.progress.step,
            "elapsed": round(self.progress.elapsed, 3),
        }

    def _save(self) -> None:
        for name, value in self.progress.sums.items():
            if not math.isfinite(value):
                raise MfganError(
                    f"{self.stage.name}: {name} must be finite, got {value} by step "
                    f"{self.progress.step}; lower learning_rate or set clip_norm"
                )
        self._place()
        if self.selection.unsaved and self.progress.best is not None:
            self.store.save_best(self.progress.best, self.selection.unsaved)
            self.selection.unsaved = {}
        self.store.save(self.progress, self.stage.models, self.stage.optimizers)
        self.saved_at = time.monotonic()
