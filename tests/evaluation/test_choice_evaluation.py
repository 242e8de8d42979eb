import math

import numpy as np
import pytest
import torch
from made_displays import make
from realdata import real_data

from mfgan.data.displays import prepare_displays
from mfgan.data.displays.batch import EventStore
from mfgan.evaluation.choice import evaluate_choice, floors
from mfgan.models.choice import choose


@pytest.fixture
def data(tmp_path):
    displays = [(0, 0, [1, 2, 3], 2, 0), (1, 1, [1, 2, 3, 4], 3, 1), (2, 2, [1, 2], None, 2)]
    return make(tmp_path, displays)


def test_metrics_worked_out_by_hand(data):
    batch = EventStore(data).batch(np.arange(3))
    # Click on the middle of three; click tied with one other behind one better; no click.
    utilities = torch.tensor([1.0, 0.0, -1.0, 2.0, 0.5, 0.5, 0.0, 0.0, 0.0])

    def scorer(batch):
        return utilities, choose(utilities, batch.offsets, batch.events)

    found = evaluate_choice([batch], scorer)
    assert found.metrics["P@1"] == pytest.approx((0 + 0) / 2)
    assert found.metrics["P@2"] == pytest.approx((1 + 1 / 2) / 2)
    first = -math.log(1 + math.e + 1 + 1 / math.e)
    second = 0.5 - math.log(1 + math.e**2 + 2 * math.e**0.5 + 1)
    assert found.metrics["log-likelihood"] == pytest.approx((first + second - math.log(3)) / 3)
    low, high = found.intervals["log-likelihood"]
    assert low <= found.metrics["log-likelihood"] <= high
    assert sum(cell["rows"] for cell in found.reliability) == 9


def test_calibration_error_by_hand(data):
    batch = EventStore(data).batch(np.arange(1))

    def scorer(batch):
        choice = choose(torch.zeros(3), batch.offsets, batch.events)
        return torch.zeros(3), choice

    # Three rows of probability 1/4 in one bin, one clicked: |3/4 - 1| / 3.
    assert evaluate_choice([batch], scorer).metrics["ECE"] == pytest.approx(1 / 12)


def test_an_impossible_click_costs_a_bounded_likelihood(data):
    batch = EventStore(data).batch(np.arange(1))
    utilities = torch.tensor([9.0, 0.0, 0.0])

    def scorer(batch):
        return utilities, choose(utilities, batch.offsets, batch.events, rule="sparsemax")

    metrics = evaluate_choice([batch], scorer).metrics
    assert metrics["log-likelihood"] == pytest.approx(math.log(1e-6))
    assert metrics["P@2"] == pytest.approx(1 / 2)


@pytest.mark.parametrize(
    ("name", "random", "popularity"),
    [("yelp", (0.397, 0.636), (0.529, 0.703)), ("rsc", (0.490, 0.721), (0.513, 0.752))],
)
def test_floors_of_the_authors_data(tmp_path, name, random, popularity):
    source = real_data(f"user-model/{name}.txt")
    data = prepare_displays(source, tmp_path / name, format="displays-authors")
    batches = list(EventStore(data).batches(data.users("test")))
    wanted = {"random": random, "popularity": popularity}
    for floor, scorer in floors(data, data.users("train")).items():
        metrics = evaluate_choice(batches, scorer).metrics
        assert (round(metrics["P@1"], 3), round(metrics["P@2"], 3)) == wanted[floor]
        assert metrics["log-likelihood"] < 0
