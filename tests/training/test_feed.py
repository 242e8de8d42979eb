"""Inputs made ahead: in order, errors where they belong, and a thread that ends."""

import threading
import time

import pytest
import torch

from mfgan.data.batch import JaggedBatch
from mfgan.training.feed import Feed, StepInput


class HostMover:
    """Moves nothing, and tells in which thread it was asked."""

    def __init__(self):
        self.senders, self.receivers = set(), set()

    def send(self, given):
        self.senders.add(threading.current_thread().name)
        return given

    def receive(self, sent):
        self.receivers.add(threading.current_thread().name)
        return sent


def numbered(number):
    return StepInput(JaggedBatch.from_sequences([[number + 1]], max_len=1), tokens=number)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "feed"]


@pytest.mark.parametrize("mover", [None, HostMover()], ids=["in turn", "ahead"])
@pytest.mark.parametrize(("first", "end"), [(0, 7), (3, 5), (4, 4)])
def test_in_order_and_complete(mover, first, end):
    with Feed(numbered, first, end, mover) as feed:
        assert [given.tokens for given in feed] == list(range(first, end))
    assert not threads()


def test_another_thread_makes_and_the_asking_one_receives():
    mover = HostMover()
    with Feed(numbered, 0, 3, mover) as feed:
        list(feed)
    assert mover.senders == {"feed"}
    assert mover.receivers == {threading.current_thread().name}


def test_a_few_are_ready_before_they_are_asked_for_and_no_more():
    made = []

    def make(number):
        made.append(number)
        return numbered(number)

    with Feed(make, 0, 50, HostMover()) as feed:
        it = iter(feed)
        assert next(it).tokens == 0
        deadline = time.monotonic() + 20
        while len(made) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)
        # One asked for, two ready, one waiting for its place.
        assert made == [0, 1, 2, 3]
    assert not threads()


@pytest.mark.parametrize("mover", [None, HostMover()], ids=["in turn", "ahead"])
def test_an_error_comes_where_its_input_is_asked_for(mover):
    def make(number):
        if number == 2:
            raise ValueError("batch 2: must be whole, got half")
        return numbered(number)

    with Feed(make, 0, 5, mover) as feed:
        it = iter(feed)
        assert [next(it).tokens, next(it).tokens] == [0, 1]
        with pytest.raises(ValueError, match="batch 2"):
            next(it)
    assert not threads()


def test_leaving_early_ends_the_thread():
    def interrupted():
        with Feed(numbered, 0, 1000, HostMover()) as feed:
            for given in feed:
                if given.tokens == 5:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not threads()


def test_all_tensors_move_but_the_offsets():
    batch = JaggedBatch.from_sequences([[1, 2], [3]], targets=[[2, 4], [5]], max_len=2)
    given = StepInput(batch, {"positions": torch.tensor([1])}, tokens=3)
    moved = given.to(torch.device("meta"))
    assert moved.tokens == 3
    assert moved.drawn["positions"].is_meta
    assert [x.is_meta for x in moved.tensors()].count(False) == 1
    assert moved.batch.offsets.device.type == "cpu"
