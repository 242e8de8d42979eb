"""The generator's figures on the validation split, by which stages choose weights."""

import numpy as np

from mfgan.evaluation.protocol import evaluate
from mfgan.evaluation.scorers import GeneratorScorer
from mfgan.models.generator import Generator
from mfgan.training.context import StageContext
from mfgan.training.preconditions import check_selection
from mfgan.training.seeds import derived_seed

_USERS = 102  # tells this use of the run's seed from every other one


def validate_generator(context: StageContext, generator: Generator) -> dict[str, float]:
    """Rank every item for the validation users.

    Args:
        context: The run's; ``selection.users`` says how many users there are to be.
        generator: The model.

    Returns:
        Metrics by name, full ranking.

    Raises:
        MfganError: The selection metric is none of them, or the data set validates nobody.
    """
    selection = context.config.selection
    check_selection(context.dataset, selection)
    users = context.dataset.target_users("validation")
    if 0 < selection.users < len(users):
        rng = np.random.default_rng(derived_seed(context.config.seed, _USERS))
        users = np.sort(rng.choice(users, selection.users, replace=False))
    scorer = GeneratorScorer(generator, device=context.device)
    max_len = generator.config.max_len
    found = evaluate(context.dataset, scorer, split="validation", max_len=max_len, users=users)
    return dict(found.metrics)
