"""Where a run stands: its stages beside baselines and controls, over the same users."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mfgan.console import SILENT, Reporter
from mfgan.errors import MfganError
from mfgan.evaluation.baselines import ItemKNN, Popularity
from mfgan.evaluation.protocol import Scorer, evaluate
from mfgan.evaluation.result import Evaluation
from mfgan.evaluation.scorers import CorrectedScorer, GeneratorScorer
from mfgan.evaluation.significance import Comparison, compare
from mfgan.models.correction import Correction
from mfgan.training.run import Run
from mfgan.training.stages import CONTROL_STAGE, STAGE_NAMES

if TYPE_CHECKING:
    from mfgan.data.dataset import PreparedDataset, Split

Kind = Literal["baseline", "stage", "control", "corrected"]
WITH_DISCRIMINATORS = "with discriminators"
COMPARED = ("HR@10", "NDCG@10", "MRR")


@dataclass(frozen=True)
class Contender:
    """One recommender of the table.

    Args:
        name: What the table calls it.
        kind: ``baseline`` (not trained), ``stage`` of the run, ``control``, or ``corrected``: the
            generator's ranking with the discriminators' judgements in it.
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
    names = generator_stages(run)
    chosen = stage or _headline(run, names)
    if chosen not in names:
        run.weights("generator", chosen)  # names a stage that is not finished, or not known
        raise MfganError(f"{run.path}: stage {chosen} must have trained the generator, it has not")
    contest = _Contest(run.dataset, split, protocol, seed, device, reporter)
    others = list(contest.baselines()) if baselines else []
    for name in names:
        if name != chosen:
            kind: Kind = "control" if name == CONTROL_STAGE else "stage"
            others.append(contest.stage(run, name, kind, name))
    for given in controls:
        control = given if isinstance(given, Run) else Run.open(given)
        control.check_dataset(run.dataset)
        name = _headline(control, generator_stages(control))
        others.append(contest.stage(control, name, "control", f"{control.path} ({name})"))
    if stage is None and (correction := run.correction()) is not None:
        others.append(contest.corrected(run, correction))
    ours = contest.stage(run, chosen, "stage", chosen)
    table = {other.name: other.evaluation for other in others}
    comparisons = compare(ours.evaluation, table, metrics=COMPARED, seed=seed)
    return Standing(ours, tuple(others), tuple(comparisons))


@dataclass(frozen=True)
class _Contest:
    """The terms on which all contenders of one table are evaluated."""

    dataset: "PreparedDataset"
    split: "Split"
    protocol: str
    seed: int
    device: str
    reporter: Reporter

    def baselines(self) -> Iterator[Contender]:
        longest = int(np.diff(self.dataset.offsets).max())
        yield self._contender("popularity", "baseline", Popularity(self.dataset), 1)
        yield self._contender("item-kNN", "baseline", ItemKNN(self.dataset), longest)

    def stage(self, run: Run, stage: str, kind: Kind, label: str) -> Contender:
        generator = run.generator(stage).to(self.device)
        scorer = GeneratorScorer(generator, device=self.device)
        return self._contender(label, kind, scorer, generator.config.max_len)

    def corrected(self, run: Run, correction: Correction) -> Contender:
        generator = run.generator().to(self.device)
        judges = run.discriminators()
        scorer = CorrectedScorer(generator, judges, correction, device=self.device)
        return self._contender(WITH_DISCRIMINATORS, "corrected", scorer, generator.config.max_len)

    def _contender(self, name: str, kind: Kind, scorer: Scorer, max_len: int) -> Contender:
        self.reporter.note(f"{name} ({kind})")
        found = evaluate(
            self.dataset,
            scorer,
            split=self.split,
            protocol=self.protocol,
            max_len=max_len,
            seed=self.seed,
            reporter=self.reporter,
        )
        return Contender(name, kind, found)


def generator_stages(run: Run) -> list[str]:
    """The finished stages that left a generator, in order."""
    return [stage for stage in STAGE_NAMES if stage in run.finished_stages and _trains(run, stage)]


def _trains(run: Run, stage: str) -> bool:
    return run.store(stage).weights_of("generator") is not None


def _headline(run: Run, names: list[str]) -> str:
    if not names:
        raise MfganError(f"{run.path}: a generator must have been trained, found no finished stage")
    # Continued likelihood comes last of the stages, but beside the adversarial one it is a control.
    return "adversarial" if "adversarial" in names else names[-1]
