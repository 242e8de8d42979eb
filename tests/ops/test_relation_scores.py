"""Relation scores of all items: each has what its history says, and gradients are of just that."""

import pytest
import torch
from made_relation import ITEMS, by_hand, relation, sessions

from mfgan.ops import add_relation_scores, library, reference_relation_scores, relation_projections
from mfgan.ops.reference_relation_sums import SPANS

needs_kernel = pytest.mark.skipif(
    "cpu" not in library.devices("add_relation_scores"), reason="the CPU library is not built"
)
EVERY = torch.arange(1, ITEMS + 1)


def positions(count=40):
    total = len(sessions()[0])
    chosen = torch.randint(0, total, (count,), generator=torch.Generator().manual_seed(3))
    chosen[:2] = torch.tensor([0, total - 1])
    return chosen


def weights():
    return torch.linspace(-1, 2, len(SPANS))


def numbers(count=40, dtype=torch.float32):
    draws = torch.Generator().manual_seed(5)
    return torch.randn(count, ITEMS, generator=draws, dtype=dtype)


@pytest.mark.parametrize("max_history", [1, 6, 200])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_item_gets_the_weighted_sums(max_history, dtype):
    dense, parts = relation()
    sums = by_hand(dense, positions(), EVERY.expand(40, -1), max_history)
    scores = numbers(dtype=dtype)
    wanted = scores + (sums * weights()).sum(-1)
    add_relation_scores(
        scores, *parts, *sessions(), positions(), weights(), max_history=max_history
    )
    torch.testing.assert_close(scores, wanted.to(dtype), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("max_history", [1, 6, 200])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_projections_are_the_gradient_of_the_weights(max_history, dtype):
    dense, parts = relation()
    sums = by_hand(dense, positions(), EVERY.expand(40, -1), max_history).to(dtype)
    given = numbers(dtype=dtype)
    found = relation_projections(given, *parts, *sessions(), positions(), max_history=max_history)
    assert found.dtype == torch.float32
    wanted = (sums * given.unsqueeze(-1)).sum(1).float()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@needs_kernel
def test_rows_may_lie_apart():
    _, parts = relation()
    wide = torch.cat([numbers(), torch.full((40, 3), 7.0)], 1)
    plain = numbers()
    for scores in (wide[:, :ITEMS], plain):
        add_relation_scores(scores, *parts, *sessions(), positions(), weights(), max_history=9)
    assert torch.equal(wide[:, :ITEMS], plain)
    assert (wide[:, ITEMS:] == 7).all()
    apart = [
        relation_projections(given, *parts, *sessions(), positions(), max_history=9)
        for given in (wide[:, :ITEMS], plain)
    ]
    assert torch.equal(*apart)


@needs_kernel
def test_kernel_and_definition_agree():
    _, parts = relation()
    given = (*parts, *sessions(), positions())
    kernel, definition = numbers(), numbers()
    add_relation_scores(kernel, *given, weights(), max_history=70)
    reference_relation_scores.add_relation_scores(definition, *given, weights(), max_history=70)
    torch.testing.assert_close(kernel, definition, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        relation_projections(kernel, *given, max_history=70),
        reference_relation_scores.relation_projections(kernel, *given, max_history=70),
        rtol=1e-5,
        atol=1e-4,
    )


@pytest.mark.parametrize("module", [None, reference_relation_scores], ids=["entry", "definition"])
def test_nothing_is_said_by_an_empty_relation_or_for_no_position(module):
    add, project = add_relation_scores, relation_projections
    if module is not None:
        add, project = module.add_relation_scores, module.relation_projections
    _, parts = relation()
    nothing = (torch.zeros(ITEMS + 2, dtype=torch.int64), parts[1][:0], parts[2][:0])
    scores = numbers()
    add(scores, *nothing, *sessions(), positions(), weights(), max_history=5)
    assert torch.equal(scores, numbers())
    found = project(scores, *nothing, *sessions(), positions(), max_history=5)
    assert torch.equal(found, torch.zeros(40, len(SPANS)))
    nobody = positions()[:0]
    add(scores[:0], *parts, *sessions(), nobody, weights(), max_history=5)
    assert project(scores[:0], *parts, *sessions(), nobody, max_history=5).shape == (0, len(SPANS))


@needs_kernel
def test_bits_are_the_same_on_any_number_of_threads():
    _, parts = relation()
    given = (*parts, *sessions(), positions())
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            scores = numbers()
            add_relation_scores(scores, *given, weights(), max_history=70)
            found.append((scores, relation_projections(scores, *given, max_history=70)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"scores": numbers(39)}, r"scores must be \(40, 30\), got \(39, 30\)"),
        ({"scores": numbers().long()}, "scores"),
        ({"weight": weights()[1:]}, r"weight must be \(9,\), got \(8,\)"),
        ({"positions": positions().int()}, "positions"),
        ({"positions": positions() + 99}, "positions"),
        ({"items": sessions()[0] + 1}, "items"),
        ({"columns": relation()[1][1].long()}, "columns"),
        ({"values": relation()[1][2][1:]}, "values"),
        ({"max_history": 0}, "max_history must be 1 or more, got 0"),
    ],
)
def test_what_does_not_fit_is_told(change, complaint):
    offsets, columns, values = relation()[1]
    items, bounds, longest = sessions()
    given = {
        "scores": numbers(),
        "offsets": offsets,
        "columns": columns,
        "values": values,
        "items": items,
        "cu_seqlens": bounds,
        "max_seqlen": longest,
        "positions": positions(),
        "weight": weights(),
        "max_history": 5,
    }
    with pytest.raises((ValueError, TypeError, RuntimeError), match=complaint):
        add_relation_scores(**{**given, **change})


@needs_kernel
def test_operators_keep_the_contract_of_torch():
    _, parts = relation()
    items, bounds, _ = sessions()
    given = (*parts, items, bounds, positions())
    ops = torch.ops.mfgan
    torch.library.opcheck(ops.add_relation_scores.default, (numbers(), *given, weights(), 5))
    torch.library.opcheck(ops.relation_projections.default, (numbers(), *given, 5))
