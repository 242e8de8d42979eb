"""relation_sums: each span of distance has what its items say, on a kernel and without one."""

import pytest
import torch
from made_relation import ITEMS, LENGTHS, by_hand, relation, sessions

from mfgan.ops import library, reference_relation_sums, relation_sums
from mfgan.ops.reference_relation_sums import SPANS

needs_kernel = pytest.mark.skipif(
    "cpu" not in library.devices("relation_sums"), reason="the CPU library is not built"
)


def asked(count=60, each=7):
    draws = torch.Generator().manual_seed(1)
    positions = torch.randint(0, sum(LENGTHS), (count,), generator=draws)
    positions[:2] = torch.tensor([0, sum(LENGTHS) - 1])
    return positions, torch.randint(0, ITEMS + 1, (count, each), generator=draws)


@pytest.mark.parametrize("max_history", [1, 6, 64, 65, 200])
def test_each_span_has_what_its_items_say(max_history):
    dense, parts = relation()
    positions, candidates = asked()
    wanted = by_hand(dense, positions, candidates, max_history)
    given = (*parts, *sessions(), positions, candidates)
    assert wanted[..., : 1 if max_history == 1 else 3].abs().sum() > 0
    torch.testing.assert_close(relation_sums(*given, max_history=max_history), wanted)
    plain = reference_relation_sums.relation_sums(*given, max_history=max_history)
    torch.testing.assert_close(plain, wanted)


def test_lookups_in_small_parts_are_the_same(monkeypatch):
    _, parts = relation()
    given = (*parts, *sessions(), *asked())
    whole = reference_relation_sums.relation_sums(*given, max_history=80)
    monkeypatch.setattr(reference_relation_sums, "_AT_ONCE", 50)
    again = reference_relation_sums.relation_sums(*given, max_history=80)
    torch.testing.assert_close(again, whole)


def test_a_candidate_named_twice_is_judged_twice():
    _, parts = relation()
    positions, candidates = asked()
    candidates[:, 3] = candidates[:, 0]
    sums = relation_sums(*parts, *sessions(), positions, candidates, max_history=50)
    assert sums[:, 3].abs().sum() > 0
    assert torch.equal(sums[:, 3], sums[:, 0])


def test_nothing_counted_and_nobody_asked():
    _, (offsets, columns, values) = relation()
    positions, candidates = asked()
    empty = (torch.zeros_like(offsets), columns[:0], values[:0])
    assert not relation_sums(*empty, *sessions(), positions, candidates, max_history=9).any()
    nobody = (positions[:0], candidates[:0])
    sums = relation_sums(offsets, columns, values, *sessions(), *nobody, max_history=9)
    assert sums.shape == (0, 7, len(SPANS))


@needs_kernel
def test_the_number_of_threads_changes_nothing():
    _, parts = relation()
    given = (*parts, *sessions(), *asked(500, 20))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = relation_sums(*given, max_history=50)
        torch.set_num_threads(2)
        assert torch.equal(relation_sums(*given, max_history=50), one)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": torch.tensor([sum(LENGTHS)])}, "positions must be from 0 to 98, got 99"),
        ({"candidates": torch.tensor([[ITEMS + 1]])}, "candidates must be from 0 to 30, got 31"),
        ({"candidates": torch.tensor([[1], [2]])}, r"candidates must be \(1, num_candidates\)"),
        ({"items": torch.full((99,), -1)}, "items must be from 0 to 30, got -1"),
        ({"max_history": 0}, "max_history must be 1 or more, got 0"),
        ({"values": torch.zeros(3)}, r"values must be \("),
        ({"cu_seqlens": torch.tensor([0, 50], dtype=torch.int32)}, "cu_seqlens must"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    _, (offsets, columns, values) = relation()
    items, bounds, longest = sessions()
    given = {
        "offsets": offsets,
        "columns": columns,
        "values": values,
        "items": items,
        "cu_seqlens": bounds,
        "max_seqlen": longest,
        "positions": torch.tensor([4]),
        "candidates": torch.tensor([[1]]),
        "max_history": 5,
    }
    with pytest.raises(ValueError, match=f"relation_sums: {message}"):
        relation_sums(**(given | change))


@needs_kernel
def test_rows_that_do_not_rise_are_refused_by_the_kernel():
    _, (offsets, columns, values) = relation()
    positions, candidates = asked()
    offsets[2] = offsets[-1] + 5
    with pytest.raises(ValueError, match="offsets must rise from 0 to"):
        relation_sums(offsets, columns, values, *sessions(), positions, candidates, max_history=5)


def test_another_dtype_is_refused():
    _, (offsets, columns, values) = relation()
    positions, candidates = asked()
    with pytest.raises(TypeError, match="relation_sums: values must be float32, got float64"):
        relation_sums(
            offsets, columns, values.double(), *sessions(), positions, candidates, max_history=5
        )
