"""Where a run stands: its stages beside baselines and controls, over the same users."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mfgan.console import SILENT, Reporter
from mfgan.errors import MfganError
from mfgan.evaluation.baselines import ItemKNN, Popularity
from mfgan.evaluation.protocol import evaluate
from mfgan.evaluation.result import Evaluation
from mfgan.evaluation.scorers import GeneratorScorer
from mfgan.evaluation.significance import Comparison, compare
from mfgan.training.run import Run
from mfgan.training.stages import CONTROL_STAGE, STAGE_NAMES

if TYPE_CHECKING:
    from mfgan.data.dataset import PreparedDataset, Split

Kind = Literal["baseline", "stage", "control"]
COMPARED = ("HR@10", "NDCG@10", "MRR")


@dataclass(frozen=True)
class Contender:
    """One recommender of the table.

    Args:
        name: What the table calls it.
        kind: ``baseline`` (not trained), ``stage`` of the run, or ``control``.
        evaluation: How it did.
    """

    name: str
    kind: Kind
    evaluation: Evaluation


@dataclass(frozen=True)
class Standing:
    """A run's recommender and what it is to be measured against.

    Args:
        ours: The one in question.
        others: Baselines first, then other stages, then controls.
        comparisons: Ours against each other one, corrected by Holm over all of them.
    """

    ours: Contender
    others: tuple[Contender, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def contenders(self) -> list[Contender]:
        """All of them, ours last."""
        return [*self.others, self.ours]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: our evaluation's fields, then ``others`` and ``comparisons``."""
        return {
            "name": self.ours.name,
            **self.ours.evaluation.to_dict(),
            "others": [
                {"name": other.name, "kind": other.kind, **other.evaluation.to_dict()}
                for other in self.others
            ],
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
        }


def standing(
    run: Run | str | Path,
    *,
    split: "Split" = "test",
    protocol: str = "full",
    stage: str | None = None,
    controls: Sequence[Run | str | Path] = (),
    baselines: bool = True,
    device: str = "cpu",
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> Standing:
    """Evaluate a run's generator beside baselines, its other stages and control runs.

    Args:
        run: The run, or its directory.
        split: ``test`` or ``validation``.
        protocol: ``full`` or ``sampled:n``.
        stage: The stage in question. Where None, the adversarial one if it is finished, else the
            last that trained the generator.
        controls: Other runs of the same data set.
        baselines: Whether popularity and item-kNN take part.
        device: Where generators compute.
        seed: Of drawn candidates, bootstrap and tests.
        reporter: Shows the progress.

    Returns:
        The standing.

    Raises:
        MfganError: No stage has trained a generator, or a control is of another data set.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    dataset = run.dataset
    names = generator_stages(run)
    chosen = stage or _headline(run, names)
    if chosen not in names:
        run.weights("generator", chosen)  # names a stage that is not finished, or not known
        raise MfganError(f"{run.path}: stage {chosen} must have trained the generator, it has not")

    def contender(name: str, kind: Kind, scorer: Any, max_len: int) -> Contender:
        reporter.note(f"{name} ({kind})")
        found = evaluate(
            *(dataset, scorer),
            split=split,
            protocol=protocol,
            max_len=max_len,
            seed=seed,
            reporter=reporter,
        )
        return Contender(name, kind, found)

    def trained(source: Run, name: str, kind: Kind, label: str) -> Contender:
        generator = source.generator(name).to(device)
        scorer = GeneratorScorer(generator, device=device)
        return contender(label, kind, scorer, generator.config.max_len)

    others = []
    if baselines:
        others += [contender(*row) for row in _baselines(dataset)]
    for name in names:
        if name != chosen:
            others.append(trained(run, name, "control" if name == CONTROL_STAGE else "stage", name))
    for given in controls:
        control = given if isinstance(given, Run) else Run.open(given)
        control.check_dataset(dataset)
        name = _headline(control, generator_stages(control))
        others.append(trained(control, name, "control", f"{control.path} ({name})"))
    ours = trained(run, chosen, "stage", chosen)
    table = {other.name: other.evaluation for other in others}
    comparisons = compare(ours.evaluation, table, metrics=COMPARED, seed=seed)
    return Standing(ours, tuple(others), tuple(comparisons))


def generator_stages(run: Run) -> list[str]:
    """The finished stages that left a generator, in order."""
    return [stage for stage in STAGE_NAMES if stage in run.finished_stages and _trains(run, stage)]


def _trains(run: Run, stage: str) -> bool:
    path = run.store(stage).best_path()
    return path is not None and (path / "generator.safetensors").exists()


def _headline(run: Run, names: list[str]) -> str:
    if not names:
        raise MfganError(f"{run.path}: a generator must have been trained, found no finished stage")
    # Continued likelihood comes last of the stages, but beside the adversarial one it is a control.
    return "adversarial" if "adversarial" in names else names[-1]


def _baselines(dataset: "PreparedDataset") -> Iterator[tuple[str, Kind, Any, int]]:
    longest = int(np.diff(dataset.offsets).max())
    yield "popularity", "baseline", Popularity(dataset), 1
    yield "item-kNN", "baseline", ItemKNN(dataset), longest
