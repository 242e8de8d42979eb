"""How far the discriminators' word can be taken: weights in the ranking, and calibrated chances."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from mfgan.files import sha256_of, write_json
from mfgan.models.correction import CALIBRATION_FILE, Correction, FactorCorrection
from mfgan.models.discriminator import Discriminators
from mfgan.models.frozen_judges import FrozenJudges
from mfgan.models.generator import Generator
from mfgan.training.chance_fit import fit_chance, held_out_error
from mfgan.training.choice_fit import fit_choice, fit_sure_choice
from mfgan.training.choices import choices, choosers
from mfgan.training.judging import calibration_error
from mfgan.training.stage import OneShotStage
from mfgan.training.trials import heldout_trials

_BATCH = 256
_CANDIDATES, _USERS = range(2)


class CalibrateStage(OneShotStage):
    """Leaves ``calibration.json``: a ``Correction`` fitted on validation items.

    Where selection is off, validation items are not looked at and there is no such file.
    """

    name: ClassVar[str] = "calibrate"

    def run(self, directory: Path) -> None:
        """Fit on the validation items of up to ``calibrate.users`` users."""
        context = self.context
        if not context.config.selection.enabled:
            context.reporter.note("calibrate: nothing to do, selection is off")
            return
        settings, dataset = context.config.calibrate, context.dataset
        users = choosers(dataset, settings.users, self.numpy_at(_USERS))
        generator, discriminators = context.generator(), context.discriminators()
        features, chosen = choices(
            generator, FrozenJudges(discriminators), dataset, users, settings.top_k
        )
        names = discriminators.factor_names
        fit = (fit_sure_choice if settings.only_sure else fit_choice)(features, chosen)
        alone = fit_choice(features[..., :1], chosen)
        weights, errors = fit.relative(fit.weights), fit.relative(fit.errors)
        logits = self._trials(generator, discriminators, users)
        factors = [
            FactorCorrection(
                name,
                float(weights[place]),
                float(errors[place]),
                fit_chance(logits[..., place]),
                held_out_error(logits[..., place]),
                float(calibration_error(logits[..., place])),
            )
            for place, name in enumerate(names)
        ]
        gain = fit.log_likelihood - alone.log_likelihood
        fitted_to = {name: sha256_of(path) for name, path in context.sources.items()}
        found = Correction(tuple(factors), settings.top_k, len(chosen), gain, fitted_to)
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / CALIBRATION_FILE, found.to_dict())

    @torch.inference_mode()
    def _trials(
        self, generator: Generator, discriminators: Discriminators, users: np.ndarray
    ) -> Tensor:
        trials = heldout_trials(
            generator,
            self.context.dataset,
            self.context.config.sample,
            users=users,
            batch_size=_BATCH,
            rng=self.generator_at(_CANDIDATES),
        )
        return torch.cat([discriminators(t.batch, t.positions, t.items).cpu() for t in trials])
