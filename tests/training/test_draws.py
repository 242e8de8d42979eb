"""Random numbers from a counter: even, the same however they are cut, new with every step."""

import pytest
import torch

from mfgan.training.candidates import draw_candidates
from mfgan.training.draws import counter, exponential, fill_counter, integers, uniform

CPU = torch.device("cpu")
COUNTER = counter(5, 1 << 40, CPU)
LIKE = torch.zeros(())


@pytest.mark.parametrize("draw", [uniform, exponential])
def test_rows_do_not_depend_on_how_they_are_cut(draw):
    whole = draw(COUNTER, 0, 9, 4, LIKE)
    parts = [draw(COUNTER, first, 3, 4, LIKE) for first in (0, 3, 6)]
    assert torch.equal(torch.cat(parts), whole)
    later = fill_counter(COUNTER.clone(), 5, 7)
    assert not torch.equal(draw(later, 0, 9, 4, LIKE), whole)


def test_uniform_and_exponential_are_what_they_say():
    even = uniform(COUNTER, 0, 400, 500, LIKE)
    assert even.min() >= 0
    assert even.max() < 1
    counts = torch.histc(even, bins=20, min=0, max=1)
    assert (counts - 10_000).abs().max() < 5 * 10_000**0.5
    noise = exponential(COUNTER, 0, 400, 500, LIKE)
    assert noise.min() > 0
    assert noise.isfinite().all()
    above = [float((noise > bound).double().mean()) for bound in (0.1, 1.0, 5.0)]
    wanted = torch.exp(-torch.tensor([0.1, 1.0, 5.0])).tolist()
    assert above == pytest.approx(wanted, abs=4e-3)


def test_whole_numbers_stay_below_their_end():
    drawn = integers(COUNTER, 7, 100, 300)
    counts = torch.bincount(drawn.flatten(), minlength=7)
    assert len(counts) == 7
    assert (counts - 30_000 / 7).abs().max() < 5 * (30_000 / 7) ** 0.5


@pytest.mark.parametrize("method", ["multinomial", "gumbel"])
def test_candidates_from_a_counter_follow_the_generator(method, monkeypatch):
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    table = torch.cat([torch.zeros(1, 4), torch.diag(logits)])
    hidden = torch.ones(20_000, 4)
    draw = draw_candidates(hidden, table, 1, method=method, rng=COUNTER)
    shares = torch.bincount(draw.items[:, 0], minlength=5)[1:] / len(hidden)
    torch.testing.assert_close(shares, logits.softmax(0), rtol=0, atol=0.015)
    monkeypatch.setattr("mfgan.training.candidates.logits_at_once", lambda device: 40)
    again = draw_candidates(hidden[:100], table, 1, method=method, rng=COUNTER)
    assert torch.equal(again.items, draw.items[:100])
