"""Whether the parts of the generator's scores hold: against what scores lose without each part."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mfgan.explain.dealt import DealtAnew, dealt_items
from mfgan.explain.ranks import Floats, mean_over, rank_correlation
from mfgan.explain.score_parts import generator_parts
from mfgan.models.correction import best_unseen
from mfgan.models.generator import Generator

if TYPE_CHECKING:
    from mfgan.data.batch import JaggedBatch

PART, RANDOM, LOGIT = "score part", "random", "logit"


def score_parts_held(
    generator: Generator,
    batches: "Sequence[JaggedBatch]",
    *,
    k: int,
    top_k: int,
    deals: int,
    rng: np.random.Generator,
) -> list[tuple[str, str, Floats]]:
    """Rank correlations of parts with drops, over the parts of each recommendation.

    A part is taken away by dealing it anew among all items, in the history as in the candidates:
    what an item's logit then loses of its lead over an average candidate is the measured part.

    Args:
        generator: Whose recommendations; without dropout.
        batches: Sessions to recommend for.
        k: Recommendations of each.
        top_k: Candidates that the average is over.
        deals: How often a part is dealt anew; a drop is the mean over them.
        rng: Of all draws.

    Returns:
        Claim, what was measured, and ``(num_sessions,)`` correlations; nothing where the generator
        has no factors, and so no parts to compare.
    """
    if len(generator.part_names) == 1:
        return []
    told = [_Told(generator, batch, k, top_k) for batch in batches]
    drops = [torch.zeros_like(one.parts) for one in told]
    for part in range(len(generator.part_names)):
        for _ in range(deals):
            with _dealt_anew(generator, part, rng):
                for one, drop in zip(told, drops, strict=True):
                    drop[..., part] += (one.lead - one.lead_by(generator)) / deals
    claims = {
        PART: [one.parts for one in told],
        RANDOM: [torch.from_numpy(rng.random(tuple(one.parts.shape))) for one in told],
    }
    return [
        (
            claim,
            LOGIT,
            np.concatenate(
                [
                    mean_over(rank_correlation(claimed, drop), one.there)
                    for claimed, drop, one in zip(values, drops, told, strict=True)
                ]
            ),
        )
        for claim, values in claims.items()
    ]


class _Told:
    """Recommendations of a batch, and what their logits are said to be made of."""

    def __init__(self, generator: Generator, batch: "JaggedBatch", k: int, top_k: int) -> None:
        self._batch = batch
        hidden = generator(batch, last_only=True)
        relations = generator.relation_scores(batch, batch.last_tokens())
        scores = generator.logits(hidden, relations)
        best, self._items = best_unseen(scores, batch, max(k, top_k))
        self._chances, self._num_items = best.softmax(1), k
        self.there = best[:, :k].isfinite()
        items = self._items[:, :k]
        self.parts = generator_parts(generator, hidden, relations, items, best, self._items)
        self.lead = self.lead_by(generator)

    def lead_by(self, generator: Generator) -> Tensor:
        """``(num_sessions, k)``: logits beyond that of an average candidate, by some generator."""
        hidden = generator(self._batch, last_only=True)
        relations = generator.relation_scores(self._batch, self._batch.last_tokens())
        logits = generator.logit_parts(hidden, self._items, relations).sum(-1)
        usual = (self._chances * logits).sum(1, keepdim=True)
        return logits[:, : self._num_items] - usual


@contextmanager
def _dealt_anew(generator: Generator, part: int, rng: np.random.Generator) -> Iterator[None]:
    """The generator with one part of its logits dealt anew, for as long as this lasts."""
    own, factors, relations = (
        generator.item_embedding,
        generator.factor_embedding,
        generator.relations,
    )
    owners = dealt_items(len(own), rng)
    first_relation = 1 + len(generator.factor_names)
    if part == 0:
        generator.item_embedding = nn.Parameter(own[torch.from_numpy(owners)], requires_grad=False)
    elif part < first_relation and factors is not None:
        each = _one_dealt(owners, part - 1, len(generator.factor_names))
        generator.factor_embedding = DealtAnew(factors, each)  # type: ignore[assignment]
    elif relations is not None:
        each = _one_dealt(owners, part - first_relation, len(relations.names))
        relations.dealt(torch.from_numpy(each))
    try:
        yield
    finally:
        generator.item_embedding, generator.factor_embedding = own, factors
        if relations is not None:
            relations.dealt(None)


def _one_dealt(owners: np.ndarray, which: int, count: int) -> np.ndarray:
    """``(count, len(owners))``: one of several dealt anew, every other its own."""
    each = np.tile(np.arange(len(owners)), (count, 1))
    each[which] = owners
    return each
