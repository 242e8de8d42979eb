"""A run whose stages are finished though nobody trained them, for tests of what uses a run."""

import json

import torch

from mfgan.config import DiscriminatorConfig, GeneratorConfig, RunConfig
from mfgan.data.relations import count_relation
from mfgan.files import write_json
from mfgan.models.chance import ChanceCurve
from mfgan.models.correction import CALIBRATION_FILE, Correction, FactorCorrection
from mfgan.models.discriminator import Discriminators
from mfgan.models.generator import Generator
from mfgan.training.checkpoint import Best, Progress
from mfgan.training.run import Run

CONFIG = RunConfig(
    generator=GeneratorConfig(hidden_dim=8, max_len=10, init_scale=1.0),
    discriminator=DiscriminatorConfig(hidden_dim=8, max_history=6, sharpness=2.0),
)
WEIGHTS = (0.5, 2.0, -1.0, 0.3, 1.0, 0.25)  # of the factors, where a run is calibrated
ALL_STAGES = ("pretrain-generator", "pretrain-discriminator", "adversarial")


def finished_run(path, dataset, *, stages=ALL_STAGES, seed=0, config=CONFIG):
    """Make a run directory; every stage has weights of its own, drawn from the seed."""
    run = Run.create(path, dataset, config, None)
    factors = [dataset.factor(name) for name in dataset.factor_names]
    for place, stage in enumerate(stages):
        models = {}
        if stage != "pretrain-discriminator":
            models["generator"] = related(
                Generator(
                    config.generator, dataset.num_items, factors=factors, seed=10 * seed + place
                ),
                dataset,
            )
        if stage in ("pretrain-discriminator", "adversarial"):
            longest = min(config.discriminator.max_history, config.generator.max_len)
            own = config.discriminator.model_copy(update={"max_history": longest})
            judges = Discriminators(own, factors, seed=10 * seed + place)
            judges.head_weight.data.mul_(50)  # otherwise every judgement is near a coin's toss
            models["discriminators"] = judges
        _save(run, stage, models)
        _log(run, stage)
    return run


def related(generator, dataset):
    """The generator with its relations counted and of weights that are not 0, if it has any."""
    term = generator.relations
    if term is not None:
        term.take({name: term.laid_out(count_relation(name, dataset)) for name in term.names})
        draws = torch.Generator().manual_seed(1)
        term.weight.data.normal_(0, 1 / term.scale, generator=draws)
    return generator


AS_IT_IS = ChanceCurve((0.0, 1.0), (0.0, 1.0))


def calibrated(run, chance=AS_IT_IS, weights=WEIGHTS):
    """The run with a calibration of known weights and one curve of all factors."""
    names = run.discriminators().factor_names
    parts = zip(names, weights, strict=False)
    factors = tuple(FactorCorrection(name, b, 0.1, chance, 0.01, 0.02) for name, b in parts)
    directory = run.stage_directory("calibrate")
    directory.mkdir(parents=True)
    write_json(directory / CALIBRATION_FILE, Correction(factors, 12, 30, 0.1).to_dict())
    run.store("calibrate").save(Progress(finished=True), {}, {})
    return run


def _save(run, stage, models):
    store, best = run.store(stage), Best(step=3, epoch=1, value=0.5)
    store.save_best(best, {name: model.state_dict() for name, model in models.items()})
    store.save(Progress(step=3, epoch=3, best=best, finished=True), models, {})


def _log(run, stage):
    rng = torch.Generator().manual_seed(len(stage))
    with open(run.metrics_path, "a") as handle:
        for epoch in range(1, 2 if stage == "pretrain-discriminator" else 4):
            values = torch.rand(6, generator=rng).tolist()
            row = {"stage": stage, "epoch": epoch, "step": epoch, "elapsed": 3725.0 * epoch}
            row |= {"model": "generator", "loss": values[0], "learning_rate": 0.001}
            if stage != "pretrain-generator":
                row |= {"reward": values[1], "loss/id": values[2], "loss/genre": values[3]}
            if stage != "pretrain-discriminator":
                row["validation"] = {"HR@10": values[4], "NDCG@10": values[5], "NDCG@20": 9.0}
            handle.write(json.dumps(row) + "\n")
