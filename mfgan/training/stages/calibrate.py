"""How far the discriminators' word can be taken: weights in the ranking, and calibrated chances."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from mfgan.data.batching import history_batches
from mfgan.data.dataset import PreparedDataset
from mfgan.errors import MfganError
from mfgan.files import write_json
from mfgan.models.correction import (
    CALIBRATION_FILE,
    Correction,
    FactorCorrection,
    best_unseen,
)
from mfgan.models.discriminator import Discriminators
from mfgan.models.generator import Generator
from mfgan.training.calibration import fit_chance, fit_choice, held_out_error
from mfgan.training.judging import calibration_error, heldout_trials
from mfgan.training.stage import OneShotStage

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
        users = np.flatnonzero(dataset.validation > 0)
        if len(users) < 2:
            raise MfganError(
                f"{dataset.path}: at least 2 users must have a validation target with a history, "
                f"found {len(users)}; set selection.enabled = false"
            )
        if 0 < settings.users < len(users):
            users = np.sort(self.numpy_at(_USERS).choice(users, settings.users, replace=False))
        generator, discriminators = context.generator(), context.discriminators()
        features, chosen = choices(generator, discriminators, dataset, users, settings.top_k)
        names = discriminators.factor_names
        fit = fit_choice(features, chosen)
        alone = fit_choice(features[..., :1], chosen)
        scale = fit.weights[0].clamp_min(1e-3)
        logits = self._trials(generator, discriminators, users)
        factors = [
            FactorCorrection(
                name,
                float(fit.weights[1 + place] / scale),
                float(fit.errors[1 + place] / scale),
                *fit_chance(logits[..., place]),
                held_out_error(logits[..., place]),
                float(calibration_error(logits[..., place])),
            )
            for place, name in enumerate(names)
        ]
        gain = fit.log_likelihood - alone.log_likelihood
        found = Correction(tuple(factors), settings.top_k, len(chosen), gain)
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


@torch.inference_mode()
def choices(
    generator: Generator,
    discriminators: Discriminators,
    dataset: PreparedDataset,
    users: np.ndarray,
    top_k: int,
) -> tuple[Tensor, Tensor]:
    """The validation items among the generator's best unseen ones, and what is said of all these.

    Args:
        generator: Who ranks.
        discriminators: Who judges.
        dataset: Both models'.
        users: ``(n,)`` user_idx with a validation target.
        top_k: Alternatives a user.

    Returns:
        ``(num_choices, top_k, 1 + num_factors)`` the generator's logit and every ``y_j``, and
        ``(num_choices,)`` int64 the alternative that was real. Users whose real item is not among
        theirs are left out.

    Raises:
        MfganError: All are.
    """
    features, chosen, first = [], [], 0
    device, max_len = generator.item_embedding.device, generator.config.max_len
    targets = torch.from_numpy(dataset.items[dataset.offsets[users] + dataset.validation[users]])
    for packed in history_batches(dataset, users, "validation", max_len=max_len, batch_size=_BATCH):
        batch = packed.to(device)
        mine = slice(first, first + batch.num_sessions)
        first += batch.num_sessions
        scores = generator.logits(generator(batch, last_only=True))
        best, items = best_unseen(scores, batch, top_k)
        real = items == targets[mine].to(device).unsqueeze(1)
        logits = discriminators(batch, batch.last_tokens(), items)
        found = real.any(1)
        features.append(torch.cat([best.unsqueeze(-1), logits], -1)[found].float().cpu())
        chosen.append(real[found].long().argmax(1).cpu())
    if not sum(len(part) for part in chosen):
        raise MfganError(
            f"calibrate: some validation item must be among the generator's best {top_k}, found "
            "none; train it longer or raise calibrate.top_k"
        )
    return torch.cat(features), torch.cat(chosen)
