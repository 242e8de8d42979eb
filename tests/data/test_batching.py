"""Training and history batches against sessions cut one by one."""

from itertools import pairwise

import numpy as np
import pytest
from made import made_dataset

from mfgan.data.batching import TrainingBatches, history_batches
from mfgan.errors import MfganError

MAX_LEN = 5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("made"), min_len=1)


def sessions_of(batches):
    """{user: (inputs, targets, timestamps)} over all the batches, each user once."""
    found = {}
    for batch in batches:
        for s, user in enumerate(batch.users.tolist()):
            part = slice(int(batch.offsets[s]), int(batch.offsets[s + 1]))
            assert user not in found
            assert batch.positions[part].tolist() == list(range(part.stop - part.start))
            columns = (batch.items, batch.targets, batch.timestamps)
            found[user] = [None if c is None else c[part].tolist() for c in columns]
    return found


@pytest.mark.parametrize("order", ["shuffled", "by-length"])
@pytest.mark.parametrize("size", [{"batch_size": 7}, {"token_budget": 20}, {"token_budget": 1}])
def test_every_session_once_with_targets_shifted_by_one(dataset, size, order):
    batches = TrainingBatches(dataset, max_len=MAX_LEN, seed=3, order=order, **size).epoch(0)
    found = sessions_of(batches)
    for user in range(dataset.num_users):
        history = dataset.train_history(user).tolist()
        if len(history) < 2:
            assert user not in found
            continue
        start = int(dataset.offsets[user]) + max(len(history) - MAX_LEN - 1, 0)
        end = int(dataset.offsets[user]) + len(history) - 1
        inputs, targets, timestamps = found[user]
        assert inputs == history[-MAX_LEN - 1 : -1]
        assert targets == history[-MAX_LEN:][-len(inputs) :]
        assert timestamps == dataset.timestamps[start:end].tolist()
    for batch in batches:
        limit = size.get("token_budget", 7 * MAX_LEN)
        assert batch.total_tokens <= limit or batch.num_sessions == 1
        assert batch.num_sessions <= size.get("batch_size", dataset.num_users)


def test_a_batch_depends_on_seed_epoch_and_index_alone(dataset):
    def items(seed, epoch, index):
        batches = TrainingBatches(dataset, max_len=MAX_LEN, batch_size=8, seed=seed)
        return batches.epoch(epoch)[index].items.tolist()

    epoch = TrainingBatches(dataset, max_len=MAX_LEN, batch_size=8, seed=1).epoch(2)
    list(epoch)
    assert epoch[3].items.tolist() == items(1, 2, 3) == epoch[3 - len(epoch)].items.tolist()
    assert items(1, 2, 3) != items(1, 3, 3)
    assert items(1, 2, 3) != items(2, 2, 3)
    assert [b.items.tolist() for b in epoch[1:3]] == [items(1, 2, 1), items(1, 2, 2)]
    with pytest.raises(IndexError, match="must be within"):
        epoch[len(epoch)]


def test_batches_by_length_hold_sessions_of_like_length(dataset):
    batches = TrainingBatches(dataset, max_len=99, batch_size=6, seed=0, order="by-length")
    spans = sorted(
        (int(b.offsets.diff().min()), int(b.offsets.diff().max())) for b in batches.epoch(0)
    )
    assert all(high <= low for (_, high), (low, _) in pairwise(spans))


@pytest.mark.parametrize("max_len", [1, 2, 3, 7])
def test_windows_cover_each_training_part_once_and_move(dataset, max_len):
    batches = TrainingBatches(dataset, max_len=max_len, batch_size=7, seed=5, history="windows")
    cuts, sessions = {}, set()
    for epoch in range(8):
        inputs, targets = {}, {}
        for batch in batches.epoch(epoch):
            assert batch.max_seqlen <= max_len
            assert batch.offsets.diff().min() >= 1
            for s, user in enumerate(batch.users.tolist()):
                part = slice(int(batch.offsets[s]), int(batch.offsets[s + 1]))
                assert batch.positions[part].tolist() == list(range(part.stop - part.start))
                times = batch.timestamps[part].tolist()
                assert times == sorted(times)
                inputs.setdefault(user, []).extend(batch.items[part].tolist())
                targets.setdefault(user, []).extend(batch.targets[part].tolist())
        found = batches.sessions(epoch)
        sessions.add(len(found))
        for user in range(dataset.num_users):
            history = dataset.train_history(user).tolist()
            if len(history) < 2:
                assert user not in inputs
                continue
            starts, ends = found.starts[found.users == user], found.ends[found.users == user]
            first = int(dataset.offsets[user])
            assert starts[0] == first
            assert starts[1:].tolist() == ends[:-1].tolist()
            assert len(starts) == -(-(len(history) - 1) // max_len)
            assert sorted(inputs[user]) == sorted(history[:-1])
            assert sorted(targets[user]) == sorted(history[1:])
            cuts.setdefault(user, set()).add(tuple(starts - first))
    assert len(sessions) == 1
    assert max_len == 1 or max(len(found) for found in cuts.values()) > 1


def test_some_users_only(dataset):
    chosen = np.array([9, 4, 11])
    batches = TrainingBatches(dataset, max_len=MAX_LEN, batch_size=2, seed=0, users=chosen)
    long_enough = {u for u in chosen.tolist() if dataset.train_end[u] >= 2}
    assert set(sessions_of(batches.epoch(0))) == long_enough


def test_without_targets_sessions_reach_the_end_of_the_training_part(dataset):
    batches = TrainingBatches(dataset, max_len=MAX_LEN, batch_size=7, seed=3, targets=False)
    found = sessions_of(batches.epoch(0))
    histories = {user: dataset.train_history(user).tolist() for user in range(dataset.num_users)}
    assert 1 in map(len, histories.values())  # a single interaction is enough here
    assert {user: inputs for user, (inputs, targets, _) in found.items()} == {
        user: history[-MAX_LEN:] for user, history in histories.items() if history
    }
    assert all(targets is None for _, targets, _ in found.values())
    longest_first = sorted((max(0, len(h) - MAX_LEN) for h in histories.values()), reverse=True)
    assert batches.most_earlier(2 * MAX_LEN) == sum(longest_first[:2]) > 0


@pytest.mark.parametrize("split", ["validation", "test", "all"])
def test_histories_come_in_order_and_end_before_the_target(dataset, split):
    users = np.arange(dataset.num_users) if split == "all" else dataset.target_users(split)
    users = users[::-1]
    batches = list(history_batches(dataset, users, split, max_len=MAX_LEN, batch_size=7))
    assert np.concatenate([b.users for b in batches]).tolist() == users.tolist()
    assert {b.num_sessions for b in batches[:-1]} == {7}
    found = sessions_of(batches)
    for user in users.tolist():
        inputs, targets, _ = found[user]
        assert inputs == dataset.history(user, split)[-MAX_LEN:].tolist()
        assert targets is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_len": 0, "batch_size": 1}, "max_len must be at least 1, got 0"),
        ({"batch_size": 1, "token_budget": 1}, "either batch_size or token_budget"),
        ({}, "either batch_size or token_budget"),
        ({"batch_size": 0}, "must hold at least 1, got 0"),
        ({"token_budget": -4}, "must hold at least 1, got -4"),
        ({"batch_size": 1, "users": [0, 99]}, "within 0..39, got 99"),
        ({"batch_size": 1, "users": [-1]}, "within 0..39, got -1"),
        ({"batch_size": 1, "users": []}, "at least 2 training interactions"),
        (
            {"batch_size": 1, "history": "windows", "targets": False},
            "history must be 'last' without targets, got 'windows'",
        ),
        ({"batch_size": 1, "order": "sorted"}, "order must be"),
        ({"batch_size": 1, "history": "all"}, "history must be 'last' or 'windows', got 'all'"),
    ],
)
def test_what_cannot_be_batched_is_refused(dataset, arguments, message):
    with pytest.raises(MfganError, match=message):
        TrainingBatches(dataset, **({"max_len": 5, "seed": 0} | arguments))


def test_histories_that_cannot_be_had_are_refused(dataset):
    short = int(np.flatnonzero(dataset.test < 0)[0])
    for users, split, sizes, message in [
        ([short], "test", {}, f"user 'u{short:04d}' has no test target"),
        ([0], "train", {}, "must be 'validation' or 'test', got 'train'"),
        ([0], "all", {"max_len": 0}, "must be at least 1, got 0 and 4"),
        ([400], "all", {}, "within 0..39, got 400"),
    ]:
        with pytest.raises(MfganError, match=message):
            next(
                history_batches(
                    dataset, np.array(users), split, **({"max_len": 3, "batch_size": 4} | sizes)
                )
            )
