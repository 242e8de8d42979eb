import numpy as np
from made_displays import make

from mfgan.data.displays.batch import EventStore, ranges


def naive(data):
    """Context and history of every event, event by event in plain Python."""
    rows, histories = [], []
    for user in range(data.num_users):
        clicks, shown = [], []
        for event in range(*data.user_offsets[user : user + 2]):
            items = data.items[slice(*data.offsets[event : event + 2])].tolist()
            histories.append(list(clicks))
            for item in items:
                last = bool(clicks) and clicks[-1] == item
                rows.append([np.log1p(clicks.count(item)), last, np.log1p(shown.count(item))])
            shown += items
            if data.clicks[event] >= 0:
                clicks.append(items[data.clicks[event]])
    return np.array(rows, np.float32), histories


def test_context_and_histories_equal_the_naive_ones(tmp_path):
    data = make(tmp_path)
    context, histories = naive(data)
    store = EventStore(data)
    np.testing.assert_allclose(store.context, context, rtol=1e-6)
    users = np.array([7, 0, 29, 13])
    batch = store.batch(users)
    events, _ = ranges(data.user_offsets[users], np.diff(data.user_offsets)[users])
    bounds = batch.history.cu_seqlens.numpy()
    for place, event in enumerate(events):
        token = int(batch.states[place])
        owner = np.searchsorted(bounds, token, side="right") - 1
        seen = batch.history.items[bounds[owner] : token + 1].tolist()
        assert seen == [0, *histories[event]]
        rows = slice(*batch.offsets[place : place + 2].tolist())
        there = slice(*data.offsets[event : event + 2])
        assert batch.items[rows].tolist() == data.items[there].tolist()
        assert np.array_equal(
            batch.places[rows].numpy(), np.arange(*data.offsets[event : event + 2])
        )
        click = int(batch.clicks[place])
        assert (click - rows.start if click >= 0 else -1) == data.clicks[event]
    assert np.array_equal(batch.history.lengths, np.diff(bounds))


def test_ranges_of_nothing():
    within, owner = ranges(np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert len(within) == len(owner) == 0
    within, owner = ranges(np.array([5, 9]), np.array([0, 2]))
    assert within.tolist() == [9, 10]
    assert owner.tolist() == [1, 1]
