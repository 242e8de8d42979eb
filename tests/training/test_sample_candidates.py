"""Candidates: drawn from the generator's distribution, and never what must not be drawn."""

import numpy as np
import pytest
import torch

from mfgan.data.batch import JaggedBatch
from mfgan.errors import MfganError
from mfgan.training import candidates as module
from mfgan.training.candidates import choose_positions, draw_candidates

METHODS = ("multinomial", "gumbel", "top")


def fixed(hidden):
    """The item table of a generator whose hidden states are the logits themselves."""
    return torch.nn.functional.pad(torch.eye(hidden.shape[1], dtype=hidden.dtype), (0, 0, 1, 0))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(hidden, count, method, exclude=None, seed=0):
    return draw_candidates(
        hidden, fixed(hidden), count, method=method, rng=seeded(seed), exclude=exclude
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_excluded_item_and_item_0_are_never_drawn(method):
    hidden = torch.randn(600, 9, generator=seeded(1))
    exclude = torch.randint(1, 10, (600,), generator=seeded(2))
    hidden[torch.arange(600), exclude - 1] = 500.0  # the others are nothing beside it
    items = draw(hidden, 5, method, exclude).items
    assert items.min() >= 1
    assert items.max() <= 9
    assert not (items == exclude.unsqueeze(1)).any()


@pytest.mark.parametrize(
    ("method", "column"), [("multinomial", 0), ("multinomial", 2), ("gumbel", 0)]
)
def test_draws_follow_the_generators_distribution(method, column):
    hidden = torch.tensor([1.5, 0.0, -1.0, 0.5]).expand(60_000, -1)
    drawn = draw(hidden, 3, method).items[:, column]
    counts = torch.bincount(drawn, minlength=5)[1:].double()
    expected = 60_000 * hidden[0].double().softmax(0)
    assert float(((counts - expected).square() / expected).sum()) < 16.3  # chi², 3 degrees, p .001


def test_distinct_draws_follow_the_distribution_of_what_is_left():
    logits = torch.tensor([1.0, 0.0, 0.5])
    pairs = draw(logits.expand(60_000, -1), 2, "gumbel").items
    chance = logits.softmax(0).double()
    for first in range(3):
        for second in {0, 1, 2} - {first}:
            share = ((pairs[:, 0] == first + 1) & (pairs[:, 1] == second + 1)).double().mean()
            expected = chance[first] * chance[second] / (1 - chance[first])
            assert abs(share - expected) < 4.5 * (expected * (1 - expected) / 60_000) ** 0.5


@pytest.mark.parametrize("method", ["gumbel", "top"])
def test_draws_without_replacement_are_distinct(method):
    items = draw(torch.randn(50, 9, generator=seeded(1)), 8, method).items.sort(1).values
    assert torch.all(items.diff(dim=1) > 0)


def test_top_is_the_most_probable_first_and_chunks_do_not_show(monkeypatch):
    hidden = torch.randn(700, 9, generator=seeded(1))
    whole = draw(hidden, 4, "top")
    assert torch.equal(whole.items, hidden.topk(4, dim=1).indices + 1)
    monkeypatch.setattr(module, "logits_at_once", lambda device: 10)
    assert torch.equal(draw(hidden, 4, "top").items, whole.items)


@pytest.mark.parametrize("method", METHODS)
def test_log_probabilities_are_those_of_the_whole_distribution(method):
    hidden = torch.randn(20, 9, generator=seeded(1))
    found = draw(hidden, 3, method, exclude=torch.ones(20, dtype=torch.int64))
    torch.testing.assert_close(found.log_probs, hidden.log_softmax(1).gather(1, found.items - 1))


def test_impossible_items_are_not_drawn_at_the_ends_of_the_interval():
    hidden = torch.tensor([-1e4, 0.0, -1e4, 0.0, -1e4]).expand(300, -1)
    for point in (0.0, 1 - 2**-24):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module.torch, "rand", lambda *shape, p=point, **_: torch.full(shape, p))
            items = draw(hidden, 2, "multinomial").items
        assert set(items.unique().tolist()) == {2 if point == 0.0 else 4}


def test_too_few_items_are_an_error():
    hidden, exclude = torch.zeros(2, 3), torch.tensor([1, 2])
    assert draw(hidden, 9, "multinomial", exclude).items.shape == (2, 9)
    assert draw(hidden, 2, "top", exclude).items.shape == (2, 2)
    for method in ("top", "gumbel"):
        with pytest.raises(MfganError, match="3 a position need more items than the 2"):
            draw(hidden, 3, method, exclude)
    with pytest.raises(MfganError, match="1 a position need more items than the 0"):
        draw(torch.zeros(1, 1), 1, "multinomial", torch.tensor([1]))


def test_all_items_without_replacement_are_certain():
    found = draw(torch.randn(5, 4, generator=seeded()), 4, "gumbel")
    assert found.items.sort(1).values.tolist() == 5 * [[1, 2, 3, 4]]
    assert found.threshold.tolist() == 5 * [-np.inf]


def test_no_position_gives_no_candidate():
    found = draw(torch.zeros(0, 4), 3, "multinomial")
    assert found.items.shape == found.log_probs.shape == (0, 3)


def test_positions_are_distinct_within_sessions_and_evenly_drawn():
    batch = JaggedBatch.from_sequences([[1, 2, 3, 4, 5], [6], [7, 8, 9]], max_len=9)
    assert choose_positions(batch, 0, np.random.default_rng(0)).tolist() == [4, 5, 8]
    everything = choose_positions(batch, 9, np.random.default_rng(0))
    assert everything.tolist() == list(range(9))
    times = np.zeros(9)
    for seed in range(2000):
        chosen = choose_positions(batch, 2, np.random.default_rng(seed)).tolist()
        assert chosen == sorted(set(chosen))
        assert np.searchsorted([5, 6], chosen, "right").tolist() == [0, 0, 1, 2, 2]
        times[chosen] += 1
    assert times[5] == 2000
    assert np.all(np.abs(times[:5] / 2000 - 2 / 5) < 0.05)
    assert np.all(np.abs(times[6:] / 2000 - 2 / 3) < 0.05)
    again = choose_positions(batch, 2, np.random.default_rng(7))
    assert torch.equal(again, choose_positions(batch, 2, np.random.default_rng(7)))


@pytest.mark.parametrize("method", METHODS)
def test_broken_states_give_items_and_broken_probabilities(method):
    found = draw(torch.full((3, 70), torch.nan), 2, method)
    assert found.items.min() >= 1
    assert found.items.max() <= 70
    assert found.log_probs.isnan().all()
