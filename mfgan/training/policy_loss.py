"""The generator's loss in the adversarial stage, over all items, a few positions at a time.

Likelihood, policy gradient, anchor and entropy need the same logits; their gradients are made
together while these are at hand, so that ``(total_tokens, num_items)`` is never held.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mfgan.models.relation_term import RelationScores
from mfgan.models.seen import Seen
from mfgan.training.chunks import even_chunks, logits_at_once
from mfgan.training.full_softmax import HIDDEN, LogitBlock, choices_loss

# So many choices of a row are told one by one; the gradient of more is scattered among its logits.
_FEW = 4


@dataclass(frozen=True)
class PolicyTerms:
    """What the loss is made of, besides the generator's own states; nothing here has a gradient.

    Args:
        targets: ``(n,)`` int64, the real next item of each position; None where nobody knows it.
        mle_weight: Weight of the negative log-likelihood of ``targets``; 0 without them.
        items: ``(n, num_samples)`` int64, the items that the policy gradient is about.
        coefficients: ``(n, num_samples)``; 0 leaves a sample out.
        anchor_hidden: ``(n, hidden_dim)`` states of the generator that this one started as.
        anchor_table: ``(num_items + 1, hidden_dim)``, that generator's items.
        anchor_weight: Weight of the divergence ``KL(G || G_anchor)``; 0 needs no anchor.
        entropy_weight: Weight of the entropy, which the loss then rewards.
        seen: What each position's session has had: both distributions are over the rest and the
            target.
        relations: What relations add to each position's logits; the loss has a gradient in their
            weights as well.
        anchor_relations: What they add to those of the anchor.
    """

    targets: Tensor | None
    mle_weight: float
    items: Tensor
    coefficients: Tensor
    anchor_hidden: Tensor | None = None
    anchor_table: Tensor | None = None
    anchor_weight: float = 0.0
    entropy_weight: float = 0.0
    seen: Seen | None = None
    relations: RelationScores | None = None
    anchor_relations: RelationScores | None = None


@dataclass(frozen=True)
class PolicyLoss:
    """The loss and, detached, the means over positions of what it consists of.

    Without targets ``nll`` is 0.
    """

    loss: Tensor
    nll: Tensor
    entropy: Tensor
    divergence: Tensor


def policy_loss(
    hidden: Tensor,
    item_table: Tensor,
    terms: PolicyTerms,
    *,
    precision: torch.dtype = torch.float32,
) -> PolicyLoss:
    """Mean over positions of the adversarial stage's loss::

        mle_weight * -log G(target) - sum_k c_k log G(i_k)
            + anchor_weight * KL(G || G_anchor) - entropy_weight * H(G)

    Args:
        hidden: ``(n, hidden_dim)``; the logit of item ``i`` is ``hidden . item_table[i]``.
        item_table: ``(num_items + 1, hidden_dim)``; row 0 is no item.
        terms: The rest.
        precision: ``torch.bfloat16`` rounds what goes into matrix products and what comes out of
            them, but with an anchor: a divergence is a small difference of large logits.

    Returns:
        The loss, differentiable in ``hidden``, ``item_table`` and the weights of relations once,
        and its parts.

    Raises:
        ValueError: A weight of likelihood without targets, or of an anchor without one.
    """
    if terms.mle_weight and terms.targets is None:
        raise ValueError("policy_loss: mle_weight must come with targets, got none")
    others = terms.anchor_weight or terms.entropy_weight or terms.relations is not None
    if not others and terms.items.shape[1] <= _FEW:
        return _likelihood_of_few(hidden, item_table, terms, precision)
    if terms.anchor_weight:
        precision = torch.float32
    weight = None if terms.relations is None else terms.relations.term.weight
    parts = _PolicyLoss.apply(  # type: ignore[no-untyped-call]
        hidden, item_table, weight, terms, precision
    )
    return PolicyLoss(*parts)


def _likelihood_of_few(
    hidden: Tensor, item_table: Tensor, terms: PolicyTerms, precision: torch.dtype
) -> PolicyLoss:
    """The same of likelihoods alone: their gradient is the softmax itself but for a few items."""
    count = max(1, len(hidden))
    choices, weights = terms.items, terms.coefficients.to(hidden.dtype) / count
    if terms.targets is not None:
        choices = torch.cat([terms.targets[:, None], choices], 1)
        weights = torch.cat([torch.full_like(weights[:, :1], terms.mle_weight / count), weights], 1)
    found = choices_loss(
        hidden,
        item_table,
        choices,
        weights,
        precision=precision,
        seen=terms.seen,
        kept=terms.targets,
        entropy=True,
    )
    nothing = hidden.new_zeros(())
    nll = nothing if terms.targets is None else -found.log_probs[:, 0].sum() / count
    entropy = nothing if found.entropy is None else found.entropy.sum() / count
    return PolicyLoss(found.loss, nll, entropy, nothing)


class _PolicyLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        item_table: Tensor,
        weight: Tensor | None,
        terms: PolicyTerms,
        precision: torch.dtype,
    ) -> tuple[Tensor, ...]:
        needed = any(ctx.needs_input_grad)
        grad_hidden = torch.zeros_like(hidden) if needed else None
        grad_table = torch.zeros_like(item_table) if needed else None
        grad_weight = torch.zeros_like(weight) if needed and weight is not None else None
        # Sums over positions: loss, negative log-likelihood, entropy, divergence.
        sums = torch.zeros(4, dtype=hidden.dtype, device=hidden.device)
        items = item_table[1:]
        most = logits_at_once(hidden.device) // max(1, len(items))
        chunks = even_chunks(len(hidden), most)
        block = LogitBlock(hidden, items, chunks, precision)
        for part in chunks:
            logits = block.wide_logits(hidden[part])
            if terms.relations is not None:
                terms.relations.add_to(logits, part)
            grad = _chunk(logits, terms, part, sums)
            if grad_weight is not None and terms.relations is not None:
                grad_weight += terms.relations.weight_gradient(grad, part)
            if grad_hidden is not None and grad_table is not None:
                block.add_gradients(grad, hidden[part], grad_hidden[part], grad_table[1:])
        count = max(1, len(hidden))
        ctx.save_for_backward(grad_hidden, grad_table, grad_weight)
        ctx.count = count
        loss, nll, entropy, divergence = (sums / count).unbind()
        ctx.mark_non_differentiable(nll, entropy, divergence)
        return loss, nll, entropy, divergence

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_loss / ctx.count
        grads = (None if grad is None else grad * scale for grad in ctx.saved_tensors)
        return (*grads, None, None)


def _chunk(logits: Tensor, terms: PolicyTerms, part: slice, sums: Tensor) -> Tensor:
    """Add a few positions' share to ``sums``; returns their logits' gradient, maybe in place."""
    _hide(logits, terms, part)
    probs, total = _softmax(logits)
    targets = None if terms.targets is None else terms.targets[part].unsqueeze(1) - 1
    drawn, coefficients = terms.items[part] - 1, terms.coefficients[part].to(logits.dtype)
    nll = torch.zeros_like(total) if targets is None else total - logits.gather(1, targets)
    policy = (coefficients * (total - logits.gather(1, drawn))).sum(1, keepdim=True)
    negative_entropy = (probs * logits).sum(1, keepdim=True) - total
    # The gradient is probs * (level + slope * log probs - anchor_weight * log anchor) and what is
    # scattered below; normalisers and other numbers of a whole row gather in the level.
    slope = terms.entropy_weight + terms.anchor_weight
    level = terms.mle_weight + coefficients.sum(1, keepdim=True) - slope * total
    level = level - terms.entropy_weight * negative_entropy
    divergence = torch.zeros_like(nll)
    anchor = _anchor_logits(terms, part)
    if anchor is not None:
        anchor_total = _softmax(anchor)[1]
        divergence = negative_entropy - (probs * anchor).sum(1, keepdim=True) + anchor_total
        level = level + terms.anchor_weight * (anchor_total - divergence)
    if slope:
        grad = torch.add(level, logits, alpha=slope, out=logits)
        if anchor is not None:
            grad.sub_(anchor, alpha=terms.anchor_weight)
        grad.mul_(probs)
    else:
        grad = probs.mul_(level)
    if targets is not None:
        grad.scatter_add_(1, targets, torch.full_like(nll, -terms.mle_weight))
    grad.scatter_add_(1, drawn, -coefficients)
    loss = terms.mle_weight * nll + policy + terms.entropy_weight * negative_entropy
    loss = loss + terms.anchor_weight * divergence
    sums += torch.stack([loss.sum(), nll.sum(), -negative_entropy.sum(), divergence.sum()])
    return grad


def _anchor_logits(terms: PolicyTerms, part: slice) -> Tensor | None:
    if not terms.anchor_weight:
        return None
    if terms.anchor_hidden is None or terms.anchor_table is None:
        raise ValueError("policy_loss: anchor_weight must come with an anchor, got none")
    logits = terms.anchor_hidden[part] @ terms.anchor_table[1:].T
    if terms.anchor_relations is not None:
        terms.anchor_relations.add_to(logits, part)
    _hide(logits, terms, part)
    return logits


def _hide(logits: Tensor, terms: PolicyTerms, part: slice) -> None:
    if terms.seen is not None:
        kept = None if terms.targets is None else terms.targets[part]
        terms.seen.hide(logits, part, kept=kept, value=HIDDEN)


def _softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities, and the logarithm of the sum of exponentials, ``(n, 1)``."""
    probs = logits.softmax(1)
    # Taken from the largest probability, which never underflows: one pass less than logsumexp.
    return probs, logits.amax(1, keepdim=True) - probs.amax(1, keepdim=True).log()
