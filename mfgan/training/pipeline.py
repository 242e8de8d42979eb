"""``train``: the stages of a run, one after the other, each from its newest checkpoint."""

import ctypes
import sys
from pathlib import Path

import torch

from mfgan.config import Objective, RunConfig, load_config
from mfgan.console import SILENT, Reporter
from mfgan.data.dataset import PreparedDataset
from mfgan.device import find_device
from mfgan.errors import MfganError
from mfgan.files import exclusive
from mfgan.training.checkpoint import Progress
from mfgan.training.context import MODELS, StageContext
from mfgan.training.log import MetricsLog
from mfgan.training.loop import run_training
from mfgan.training.preconditions import check_stages
from mfgan.training.run import Run
from mfgan.training.stage import OneShotStage, TrainingStage
from mfgan.training.stages import CONTROL_STAGE, STAGE_NAMES, stage_class, stages_of
from mfgan.training.start import load_start, take_start

# mallopt's names in malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

# What may change when a run goes on: none of it changes a weight.
_FREE = {
    "device",
    "threads",
    "cuda_graph",
    "objective",
    "checkpoint_seconds",
    "keep_checkpoints",
    "tensorboard",
}
# Settings that only one stage reads may change until that stage has begun.
_OWNERS = {
    "sample": ("sample", "pretrain-discriminator", "adversarial", "calibrate"),
    "pretrain_generator": ("pretrain-generator", "cross-fit", "continue-mle"),
    "pretrain_discriminator": ("pretrain-discriminator", "adversarial"),
    "discriminator": ("pretrain-discriminator", "adversarial"),
    "adversarial": ("adversarial", "continue-mle"),
    "calibrate": ("adversarial", "continue-mle", "calibrate"),
    "cross_fit": ("cross-fit", "pretrain-discriminator"),
}


def train(
    dataset: PreparedDataset | str | Path,
    run: str | Path,
    config: RunConfig | None = None,
    *,
    stage: str = "all",
    objective: Objective | None = None,
    init: str | Path | None = None,
    resume: bool = False,
    reporter: Reporter = SILENT,
) -> Run:
    """Train into a run directory.

    Args:
        dataset: A prepared data set, or its directory.
        run: The run directory. It must be new, or hold earlier stages only, or be gone on with.
        config: Settings; the ``tuned`` preset where None, or with ``resume`` those of the run.
        stage: ``all`` or the name of one.
        objective: Replaces ``config.objective``.
        init: Another run of the same data set whose weights to start from.
        resume: Go on from the newest checkpoints; finished stages are left alone.
        reporter: Where progress goes.

    Returns:
        The run.

    Raises:
        MfganError: The directory is in use, holds another run, or a setting does not fit.

    Example:
        >>> train("data/ml-1m", "runs/mle", load_config(), objective="mle")
    """
    path = Path(run)
    if not isinstance(dataset, PreparedDataset):
        dataset = PreparedDataset.open(dataset)
    if resume and not (path / "run.json").exists():
        raise MfganError(f"{path}: must be a run to --resume, found none")
    if path.exists() and not (path / "run.json").exists() and _holds_anything(path):
        raise MfganError(f"{path}: must be a run directory or new, found other files in it")
    if config is None:
        config = Run.open(path).config if resume else load_config()
    if objective is not None:
        config = config.model_copy(update={"objective": objective})
    stages, device = stages_of(stage, config), find_device(config.device)
    check_stages(dataset, config, stages)
    with exclusive(path):
        opened = _claim(path, dataset, config, stages, init, resume)
        take_start(opened)
        _prepare_process(config)
        context = StageContext(dataset, config, device, reporter=reporter)
        for name in stages:
            if opened.needs(name):
                _hand_on(context, opened, name)
                _run_stage(name, context, opened)
    return opened


def _holds_anything(path: Path) -> bool:
    return not path.is_dir() or any(entry.name != ".lock" for entry in path.iterdir())


def _claim(
    path: Path,
    dataset: PreparedDataset,
    config: RunConfig,
    stages: list[str],
    init: str | Path | None,
    resume: bool,
) -> Run:
    if not (path / "run.json").exists():
        start = None if init is None else str(Path(init).resolve())
        if start is not None:
            Run.open(start).check_dataset(dataset)
        return Run.create(path, dataset, config, start)
    run = Run.open(path)
    run.check_dataset(dataset)
    begun = [stage for stage in STAGE_NAMES if run.has_begun(stage)]
    if init is not None:
        raise MfganError(f"{path}: must be a new run to start with --init, found one already there")
    if not resume and (again := [stage for stage in stages if stage in begun]):
        raise MfganError(
            f"{path}: already holds stage {again[0]}; go on with --resume or choose another --run"
        )
    for name in run.config.differences(config):
        owners = _OWNERS.get(name.partition(".")[0], STAGE_NAMES)
        if name not in _FREE and any(stage in begun for stage in owners):
            raise MfganError(f"{path}: {name} must be what the run was begun with, got another")
    run.write_config(config)
    return run


def _prepare_process(config: RunConfig) -> None:
    if config.threads:
        torch.set_num_threads(config.threads)
    if sys.platform == "linux":
        # glibc hands blocks above a threshold straight back to the kernel, and every step would
        # fault the same pages in again; 32 MiB is the largest threshold that it takes.
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_MMAP_THRESHOLD, 1 << 25)
            libc.mallopt(_M_TRIM_THRESHOLD, 1 << 30)


def _hand_on(context: StageContext, run: Run, stage: str) -> None:
    """Give the models what the stages before ``stage`` left, ``--init`` the first of them."""
    context.models.clear()
    context.sources.clear()
    if stage == "calibrate":
        _load_from(run, context)  # what the run is used with
    else:
        if run.start is not None:
            load_start(run.start, context)
        # Continued likelihood stands in the adversarial stage's place, not after it.
        aside = "adversarial" if stage == CONTROL_STAGE else CONTROL_STAGE
        for before in STAGE_NAMES[: STAGE_NAMES.index(stage)]:
            if before != aside:
                _load_stage(run, before, context)
    needed = [] if stage in ("pretrain-generator", "cross-fit") else ["generator"]
    needed += ["discriminators"] if stage in ("adversarial", "calibrate") else []
    for model in needed:
        if model not in context.models:
            raise MfganError(
                f"{run.path}: stage {stage} must find a trained {model.rstrip('s')}, found none; "
                "run the stages before it or pass --init"
            )


def _load_from(run: Run, context: StageContext) -> None:
    for model in MODELS:
        if path := run.weights(model):
            context.load_model(model, path)


def _load_stage(run: Run, stage: str, context: StageContext) -> None:
    store = run.store(stage)
    for model in MODELS:
        if path := store.weights_of(model):
            context.load_model(model, path)
    if stage == "cross-fit" and (path := store.best_path()):
        context.load_folds(path, seed=context.config.seed)


def _run_stage(name: str, context: StageContext, run: Run) -> None:
    stage = stage_class(name)(context)
    store = run.store(name)
    if isinstance(stage, OneShotStage):
        stage.run(run.stage_directory(name))
        store.save(Progress(finished=True), {}, {})
    elif isinstance(stage, TrainingStage):
        folder = run.path / "tensorboard" if context.config.tensorboard else None
        log = MetricsLog(run.metrics_path, tensorboard=folder)
        run_training(
            stage,
            store,
            log,
            checkpoint_seconds=context.config.checkpoint_seconds,
            reporter=context.reporter,
        )
        log.close()
