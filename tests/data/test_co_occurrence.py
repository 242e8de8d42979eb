import numpy as np
import polars as pl
import pytest

from mfgan.data.co_occurrence import co_occurrence_factor
from mfgan.data.prepare import prepare
from mfgan.errors import MfganError


def made_log(num_users=60, num_items=20, seed=0):
    rng = np.random.default_rng(seed)
    histories = [rng.integers(1, num_items, rng.integers(3, 9)) for _ in range(num_users)]
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in histories])])
    return np.concatenate(histories).astype(np.int32), offsets.astype(np.int64)


def plain(items, offsets, train_end, num_items, dim):
    """The same by a dense matrix and a library's decomposition."""
    matrix = np.zeros((len(train_end), num_items + 1))
    for user, end in enumerate(train_end):
        np.add.at(matrix[user], items[offsets[user] : offsets[user] + end], 1.0)
    weights = 1 / np.sqrt(matrix.sum(0) + 5)
    _, values, right = np.linalg.svd(matrix * weights, full_matrices=False)
    vectors = right[:dim].T * values[:dim]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-9)


def test_vectors_are_those_of_a_plain_decomposition():
    items, offsets = made_log()
    train_end = np.diff(offsets) - 2
    found = co_occurrence_factor(items, offsets, train_end, 20, dim=4)
    mine, theirs = found.values, plain(items, offsets, train_end, 20, 4)
    np.testing.assert_allclose(mine @ mine.T, theirs @ theirs.T, atol=1e-4)
    assert found.name == "co_occurrence"
    assert not mine[0].any()
    assert not mine[20].any()  # nobody had it
    assert np.array_equal(mine, co_occurrence_factor(items, offsets, train_end, 20, dim=4).values)


def test_held_out_items_change_nothing():
    items, offsets = made_log()
    train_end = np.diff(offsets) - 2
    before = co_occurrence_factor(items, offsets, train_end, 20, dim=4)
    changed = items.copy()
    for end in offsets[1:]:
        changed[end - 2 : end] = 20
    assert np.array_equal(
        before.values, co_occurrence_factor(changed, offsets, train_end, 20, dim=4).values
    )
    changed[0] = items[0] % 19 + 1
    assert not np.array_equal(
        before.values, co_occurrence_factor(changed, offsets, train_end, 20, dim=4).values
    )


@pytest.fixture
def log(tmp_path):
    rows = [
        {"user_id": f"u{user}", "item_id": f"{'ab'[user % 2]}{(user + step) % 5}", "order": step}
        for user in range(20)
        for step in range(5)
    ]
    pl.DataFrame(rows).write_csv(tmp_path / "log.csv")
    return tmp_path / "log.csv"


def test_prepare_makes_the_factor_where_it_is_asked_for(log, tmp_path):
    dataset = prepare(log, tmp_path / "out", k_core=1, co_occurrence=3)
    assert dataset.factor_names == ["id", "popularity", "co_occurrence"]
    assert dataset.manifest["rules"]["co_occurrence"] == 3
    vectors = dataset.factor("co_occurrence").values
    group = np.array([dataset.item_ids[item][0] for item in range(1, 11)])
    likeness = vectors[1:] @ vectors[1:].T
    same = group[:, None] == group[None, :]
    assert likeness[same].min() > likeness[~same].max()
    assert prepare(log, tmp_path / "plain", k_core=1).factor_names == ["id", "popularity"]


@pytest.mark.parametrize("dim", [0, 11])
def test_a_width_out_of_range_is_refused(log, tmp_path, dim):
    with pytest.raises(MfganError, match=f"--co-occurrence must be within 1..10 .* got {dim}"):
        prepare(log, tmp_path / "out", k_core=1, co_occurrence=dim)
    assert not (tmp_path / "out").exists()
