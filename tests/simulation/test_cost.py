"""What the user model and its simulator may cost, in seconds of one core on the real yelp log."""

import time

import pytest
import torch
from realdata import real_data

from mfgan.data.displays import prepare_displays
from mfgan.simulation.session import SessionRule
from mfgan.simulation.users import SimulatedUsers
from mfgan.training.user_model.config import load_settings
from mfgan.training.user_model.run import train_user_model

pytestmark = pytest.mark.slow


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_an_lstm_run_and_ten_thousand_users(tmp_path, one_thread):
    log = real_data("user-model/yelp.txt")
    data = prepare_displays(log, tmp_path / "data", format="displays-authors")
    start = time.process_time()
    settings = load_settings("paper")
    assert (settings.shannon.iterations, settings.shannon.batch_users) == (2000, 50)
    run = train_user_model(data, tmp_path / "run", settings)
    assert time.process_time() - start < 60
    draw = torch.Generator().manual_seed(0)
    users = SimulatedUsers(run.user(), 10_000, session=SessionRule("fixed", 20))
    start = time.process_time()
    for _ in range(20):
        done = users.step(torch.randint(1, data.num_items + 1, (10_000, 3), generator=draw)).done
    assert time.process_time() - start < 20
    assert bool(done.all())
