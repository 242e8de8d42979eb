"""hide_seen: what was had is hidden, nothing else is, on a kernel and without one."""

import numpy as np
import pytest
import torch

from mfgan.ops import hide_seen, library, reference_hide_seen

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
LENGTHS = (3, 0, 5, 1, 70)
EARLIER = (0, 2, 4, 0, 9)
ITEMS = 40

needs_kernel = pytest.mark.skipif(
    "cpu" not in library.devices("hide_seen"), reason="the CPU library is not built"
)


def sessions():
    draws = torch.Generator().manual_seed(0)
    items = torch.randint(0, ITEMS + 1, (sum(LENGTHS),), generator=draws)
    earlier = torch.randint(1, ITEMS + 1, (sum(EARLIER),), generator=draws)
    bounds = torch.tensor([0, *np.cumsum(LENGTHS)], dtype=torch.int32)
    return items, bounds, max(LENGTHS), earlier, torch.tensor([0, *np.cumsum(EARLIER)])


def rows_of(count, dtype=torch.float32):
    draws = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, sum(LENGTHS), (count,), generator=draws)
    kept = torch.randint(0, ITEMS + 1, (count,), generator=draws)
    return torch.randn(count, ITEMS, generator=draws).to(dtype), tokens, kept


def by_hand(scores, tokens, kept, value):
    items, bounds, _, earlier, earlier_bounds = sessions()
    found = scores.clone()
    for row, (token, keep) in enumerate(zip(tokens.tolist(), kept.tolist(), strict=True)):
        session = next(s for s in range(len(LENGTHS)) if bounds[s] <= token < bounds[s + 1])
        had = set(items[bounds[session] : token + 1].tolist())
        had |= set(earlier[earlier_bounds[session] : earlier_bounds[session + 1]].tolist())
        for item in had - {0, keep}:
            found[row, item - 1] = value
    return found


@pytest.mark.parametrize("value", [-torch.inf, -1e4])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_was_had_is_hidden_and_nothing_else(dtype, value):
    scores, tokens, kept = rows_of(300, dtype)
    wanted = by_hand(scores, tokens, kept, value)
    items, bounds, longest, earlier, earlier_bounds = sessions()
    plain = scores.clone()
    hide_seen(scores, tokens, kept, items, bounds, longest, earlier, earlier_bounds, value=value)
    assert torch.equal(scores, wanted)
    given = (items, bounds, longest, earlier, earlier_bounds)
    reference_hide_seen.hide_seen(plain, tokens, kept, *given, value=value)
    assert torch.equal(plain, wanted)


def test_columns_beside_the_scores_are_left_alone():
    scores, tokens, kept = rows_of(50)
    padded = torch.nn.functional.pad(scores, (0, 24), value=7.0)
    hide_seen(padded[:, :ITEMS], tokens, kept, *sessions())
    assert torch.equal(padded[:, :ITEMS], by_hand(scores, tokens, kept, -torch.inf))
    assert (padded[:, ITEMS:] == 7).all()


def test_no_rows_and_nothing_earlier():
    items, bounds, longest, _, _ = sessions()
    nothing = items[:0], torch.zeros(len(LENGTHS) + 1, dtype=torch.int64)
    scores = torch.zeros(0, ITEMS)
    hide_seen(scores, items[:0], items[:0], items, bounds, longest, *nothing)
    scores = torch.zeros(1, ITEMS)
    hide_seen(scores, torch.tensor([0]), torch.tensor([0]), items, bounds, longest, *nothing)
    assert scores.isinf().sum() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": torch.tensor([79])}, "tokens must be from 0 to 78, got 79"),
        ({"kept": torch.tensor([41])}, "kept must be from 0 to 40, got 41"),
        ({"kept": torch.tensor([1, 2])}, r"kept must be \(1,\), got \(2,\)"),
        ({"items": torch.full((79,), 41)}, "items must be from 0 to 40, got 41"),
        ({"earlier": torch.full((15,), -1)}, "earlier must be from 0 to 40, got -1"),
        ({"earlier_offsets": torch.tensor([0, 0, 9, 6, 6, 15])}, "must rise from 0 to 15"),
        ({"cu_seqlens": torch.tensor([0, 3, 3, 8, 9, 80]).int()}, "must rise from 0 to 79"),
    ],
)
@needs_kernel
def test_what_would_reach_foreign_memory_is_an_error(change, message):
    items, bounds, longest, earlier, earlier_bounds = sessions()
    given = {"tokens": torch.tensor([4]), "kept": torch.tensor([0]), "items": items}
    given |= {"cu_seqlens": bounds, "max_seqlen": longest, "earlier": earlier}
    given |= {"earlier_offsets": earlier_bounds}
    with pytest.raises(ValueError, match=message):
        hide_seen(torch.zeros(1, ITEMS), **(given | change))


def test_a_wrong_dtype_is_an_error():
    scores, tokens, kept = rows_of(2)
    with pytest.raises(TypeError, match="tokens must be int64, got int32"):
        hide_seen(scores, tokens.int(), kept, *sessions())


@needs_kernel
def test_opcheck():
    scores, tokens, kept = rows_of(9)
    items, bounds, _, earlier, earlier_bounds = sessions()
    given = (scores, tokens, kept, items, bounds, earlier, earlier_bounds, -1.0)
    torch.library.opcheck(torch.ops.mfgan.hide_seen.default, given)
