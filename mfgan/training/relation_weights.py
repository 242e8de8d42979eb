"""How much relations count in the generator's logits, before anybody judges."""

import numpy as np
import torch
from torch import Tensor, nn

from mfgan.data.batch import JaggedBatch
from mfgan.models.relation_tables import RelationTables
from mfgan.training.choice_fit import fit_choice
from mfgan.training.choices import choices, choosers
from mfgan.training.context import StageContext
from mfgan.training.relation_counts import count_generator_relations
from mfgan.training.seeds import derived_seed
from mfgan.training.stage import STAGE_IDS
from mfgan.training.validation import validate_generator

_CHOOSERS = 4  # what is drawn here; the adversarial stage draws nothing else by this number


class RelationSpans(nn.Module):
    """Stands where discriminators judge: what each relation says at each span of distance.

    Args:
        relations: Counted ones.
    """

    def __init__(self, relations: RelationTables) -> None:
        super().__init__()
        self._relations = relations

    def forward(self, batch: JaggedBatch, positions: Tensor, candidates: Tensor) -> Tensor:
        """``(num_positions, num_candidates, 9 num_relations)``, without weights."""
        return self._relations.sums(batch, positions, candidates).flatten(2)


def begin_with_relations(context: StageContext) -> None:
    """Count the relations of the run's generator and, where no stage has, weigh them.

    Their weights are those of a conditional logit: beside the generator's own logit, which weighs
    1, they make validation items the likeliest choice among its best, as the stage ``calibrate``
    weighs discriminators. At training positions likelihood could not tell: the counts hold what
    came next there, and the generator knows it by heart. Beside a generator that says no more than
    chance there they stay 0, and so they do where validation ranks no better with them.

    Args:
        context: The run's; ``adversarial.relation_weights`` says whether they are fitted. Where
            there are more users than ``calibrate.users``, the run's seed alone draws them: the
            adversarial stage and its control begin with the same weights.

    Raises:
        MfganError: There are no validation items to fit to.
    """
    config, generator = context.config, context.generator()
    term = generator.relations
    if term is None:
        return
    weighed = not term.is_empty
    count_generator_relations(context)
    if weighed or config.adversarial.relation_weights == "zero":
        return
    dataset, limits = context.dataset, config.calibrate
    seed = derived_seed(config.seed, STAGE_IDS["adversarial"])
    users = choosers(dataset, limits.users, np.random.default_rng([seed, _CHOOSERS]))
    fit = fit_choice(*choices(generator, RelationSpans(term), dataset, users, limits.top_k))
    if not fit.is_sure_of_first:
        context.reporter.note(
            "relations: on validation items the generator says no more than chance; beside it "
            "nothing can be weighed, and relations weigh 0"
        )
        return
    alone = _validated(context)
    with torch.no_grad():
        term.weight.copy_(fit.relative(fit.weights).view_as(term.weight) / term.scale)
    together = _validated(context)
    if together <= alone:
        context.reporter.note(
            f"relations: validation ranks no better with them, {together:.4f} of {alone:.4f}, and "
            "they weigh 0"
        )
        with torch.no_grad():
            term.weight.zero_()


def _validated(context: StageContext) -> float:
    return validate_generator(context, context.generator())[context.config.selection.metric]
