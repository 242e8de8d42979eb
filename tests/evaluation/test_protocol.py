"""Full and sampled ranking against a plain loop over users."""

import numpy as np
import pytest
import torch
from made_scores import InMemoryDataset, TableScorer, random_dataset

from mfgan.data.columns import ITEM_IDX, USER_IDX
from mfgan.data.sampling import evaluation_negatives
from mfgan.errors import MfganError
from mfgan.evaluation.metrics import metric_values
from mfgan.evaluation.protocol import evaluate


def random_table(dataset, levels=30, seed=1):
    rng = np.random.default_rng(seed)
    return rng.integers(0, levels, (dataset.num_users, dataset.num_items + 1)).astype(np.float32)


def plain_ranks(dataset, table, split):
    for user in dataset.target_users(split):
        history = dataset.history(user, split)
        target = int(dataset.items[dataset.offsets[user] + len(history)])
        left = set(range(1, dataset.num_items + 1)) - set(history.tolist()) | {target}
        line = table[user]
        better = sum(line[i] > line[target] for i in left)
        ties = sum(line[i] == line[target] for i in left) - 1
        yield user, target, len(history), better, ties


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_full_ranking_equals_a_plain_loop(split, batch_size):
    dataset = random_dataset()
    table = random_table(dataset)
    found = evaluate(dataset, TableScorer(table), split=split, max_len=9, batch_size=batch_size)
    expected = list(plain_ranks(dataset, table, split))
    frame = found.per_user
    got = frame.select(USER_IDX, ITEM_IDX, "history_length", "better", "ties").rows()
    assert got == expected
    better, ties = (np.array([row[place] for row in expected]) for place in (3, 4))
    means = metric_values(better, ties).mean(axis=0)
    np.testing.assert_allclose(list(found.metrics.values()), means, rtol=1e-12)
    assert list(found.metrics)[:5] == ["HR@1", "HR@5", "HR@10", "HR@20", "NDCG@1"]


def test_the_scorer_sees_the_end_of_the_history_and_never_the_target():
    dataset = InMemoryDataset([[1, 2, 3, 4, 5], [6, 7, 8]], 9)
    scorer = TableScorer(np.zeros((2, 10)))
    evaluate(dataset, scorer, split="test", max_len=2)
    assert [b.items.tolist() for b in scorer.batches] == [[3, 4, 6, 7]]
    scorer.batches.clear()
    evaluate(dataset, scorer, split="validation", max_len=2)
    assert [b.items.tolist() for b in scorer.batches] == [[2, 3, 6]]


def test_items_longer_ago_than_max_len_are_left_out_too():
    dataset = InMemoryDataset([[1, 2, 3, 4, 5]], 6)
    table = np.array([[0, 9, 8, 7, 6, 1, 0]])  # all seen items beat the target 5, item 6 does not
    found = evaluate(dataset, TableScorer(table), max_len=1)
    assert found.better.tolist() == [0]


def test_a_target_had_before_still_ranks():
    dataset = InMemoryDataset([[3, 1, 2, 3]], 5)
    table = np.array([[0, 9, 9, 5, 6, 5]])  # item 4 beats it, item 5 ties, items 1 and 2 are seen
    found = evaluate(dataset, TableScorer(table), max_len=9)
    assert (found.better.tolist(), found.ties.tolist()) == ([1], [1])
    assert found.metrics["HR@1"] == 0
    assert found.metrics["MRR"] == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_users_without_a_target_or_a_history_are_left_out():
    dataset = InMemoryDataset([[1, 2], [3, 4, 5], [1, 2, 3]], 6)
    dataset.test[2], dataset.validation[2], dataset.train_end[2] = 0, -1, 0
    found = evaluate(dataset, TableScorer(np.zeros((3, 7))), max_len=9)
    assert found.users.tolist() == [1]


def test_only_some_users():
    dataset = random_dataset()
    table = random_table(dataset)
    everyone = evaluate(dataset, TableScorer(table), max_len=9).per_user
    some = evaluate(dataset, TableScorer(table), max_len=9, users=np.array([5, 2, 31])).per_user
    assert some.equals(everyone[[2, 5, 31]])


def test_coverage_and_popularity_by_hand():
    # Train parts: [1], [1], [2, 1]; counts 3, 1, 0, 0, 0 of items 1 to 5.
    dataset = InMemoryDataset([[1, 4, 5], [1, 2, 3], [2, 1, 4, 3]], 5)
    table = np.array([[0, 9, 8, 7, 1, 2], [0, 9, 8, 1, 2, 3], [0, 9, 8, 1, 2, 3]])
    found = evaluate(dataset, TableScorer(table), max_len=9, cutoffs=(1, 2))
    # Seen: {1, 4}, {1, 2}, {1, 2, 4}. First two: (2, 3), (5, 4), (5, 3).
    assert found.coverage == pytest.approx({"coverage@1": 2 / 5, "coverage@2": 4 / 5})
    # Shares of the catalogue with fewer interactions, ties half: item 1 4.5/5, 2 3.5/5, rest 1.5/5.
    assert found.popularity["popularity@1"] == pytest.approx((3.5 + 1.5 + 1.5) / 5 / 3)
    assert found.popularity["popularity@2"] == pytest.approx((3.5 + 5 * 1.5) / 5 / 6)
    assert found.popularity["interactions@1"] == pytest.approx((1 + 0 + 0) / 3)
    assert found.popularity["interactions@2"] == pytest.approx((1 + 0 + 0 + 0 + 0 + 0) / 6)


def test_lists_shorter_than_k_cover_only_what_they_hold():
    # Seen: items 1 and 2 of 5, so that three are left to fill five places.
    found = evaluate(
        InMemoryDataset([[1, 2, 3]], 5), TableScorer(np.zeros((1, 6))), max_len=9, cutoffs=(2, 5)
    )
    assert found.coverage == pytest.approx({"coverage@2": 2 / 5, "coverage@5": 3 / 5})


def test_a_target_that_was_had_before_ranks_but_is_not_recommended():
    dataset = InMemoryDataset([[1, 2, 1], [2, 3, 4]], 5)
    table = np.array([[0, 9, 8, 7, 1, 2], [0, 1, 8, 2, 7, 3]])
    found = evaluate(dataset, TableScorer(table), max_len=9, cutoffs=(1, 2))
    assert found.better.tolist() == [0, 0]
    # Seen: {1, 2}, {2, 3}. First two: (3, 5), (4, 5).
    assert found.coverage == pytest.approx({"coverage@1": 2 / 5, "coverage@2": 3 / 5})


def test_slices_by_history_length():
    dataset = InMemoryDataset([[1] * 31 + [2], [1] * 32 + [2], [1] * 200 + [3]], 4)
    table = np.array([[0, 0, 9, 0, 0], [0, 0, 0, 9, 9], [0, 0, 5, 9, 0]])
    found = {part.name: part for part in evaluate(dataset, TableScorer(table), max_len=9).slices}
    assert {name: part.num_users for name, part in found.items()} == {
        "history under 32": 1,
        "history 32 or more": 2,
        "history 16 to 31": 1,
        "history 32 to 63": 1,
        "history 128 to 255": 1,
    }
    assert found["history under 32"].metrics["MRR"] == 1
    assert found["history 32 or more"].metrics["MRR"] == pytest.approx((1 / 3 + 1) / 2)


@pytest.mark.parametrize("protocol", ["full", "sampled:2"])
@pytest.mark.parametrize("batch_size", [1, 256])
def test_targets_that_were_had_before_are_a_group_of_their_own(protocol, batch_size):
    dataset = InMemoryDataset([[1, 2, 1], [2, 3, 4], [5, 5, 1, 5], [2, 1, 3]], 9)
    table = np.zeros((4, 10))
    table[[0, 1], [1, 4]] = 1.0  # the first repeated target is first, and the first new one
    found = evaluate(
        dataset, TableScorer(table), max_len=1, protocol=protocol, batch_size=batch_size
    )
    assert found.per_user["repeated"].to_list() == [True, False, True, False]
    parts = {part.name: part for part in found.slices[-2:]}
    assert list(parts) == ["target new", "target had before"]
    for part, rows in zip(parts.values(), ([1, 3], [0, 2]), strict=True):
        name = f"MRR{found.suffix}"
        assert part.num_users == 2
        assert part.metrics[name] == pytest.approx(found.per_user[name][rows].mean())
        assert part.metrics[name] > 0.5
    # Where nobody had hers before there is nothing to tell apart.
    new = evaluate(dataset, TableScorer(table), max_len=1, users=np.array([1, 3]))
    assert [part.name for part in new.slices] == ["history under 32", "history under 8"]


def test_intervals_are_seeded_and_hold_the_mean():
    dataset = random_dataset(num_users=300)
    table = random_table(dataset)
    found = [evaluate(dataset, TableScorer(table), max_len=9, seed=s) for s in (0, 0, 1)]
    for name, value in found[0].metrics.items():
        low, high = found[0].interval(name)
        assert low <= value <= high
    assert found[0].to_dict() == found[1].to_dict()
    assert found[0].interval("MRR") != found[2].interval("MRR")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("protocol", ["full", "sampled:45"])
def test_scores_must_be_finite(value, protocol):
    dataset = random_dataset(longest=5)
    table = random_table(dataset)
    table[7, 1:] = value
    with pytest.raises(MfganError, match=r"evaluate: scores must be finite, got .* user_idx 7 "):
        evaluate(dataset, TableScorer(table), protocol=protocol, max_len=9)


def test_scores_must_fit_the_catalogue():
    dataset = random_dataset()
    table = TableScorer(np.zeros((40, 50)))
    with pytest.raises(ValueError, match=r"scores must be \(40, 51\), got \(40, 50\)"):
        evaluate(dataset, table, max_len=9)


@pytest.mark.parametrize(
    "protocol",
    ["sampled", "sampled:0", "sampled:x", "sampled:-1", f"sampled:1{'0' * 5000}", "half"],
)
def test_protocols_are_checked(protocol):
    with pytest.raises(MfganError, match="evaluate: protocol must be full or sampled:n"):
        evaluate(random_dataset(), TableScorer(np.zeros((40, 51))), protocol=protocol, max_len=9)


def test_an_empty_split():
    dataset = InMemoryDataset([[1, 2], [2, 1]], 3)
    with pytest.raises(MfganError, match="the test split must have a target with a history"):
        evaluate(dataset, TableScorer(np.zeros((2, 4))), max_len=9)


def test_sampled_ranking_equals_a_plain_loop():
    dataset = random_dataset(longest=20)
    table = random_table(dataset)
    drawn = evaluation_negatives(dataset, "test", 10, 5)
    found = evaluate(dataset, TableScorer(table), protocol="sampled:10", max_len=9, seed=5)
    for row, user in enumerate(found.users):
        target = found.targets[row]
        mine = set(drawn[row].tolist())
        assert len(mine) == 10
        assert not mine & set(dataset.history(user, "all").tolist())
        assert found.better[row] == sum(table[user, i] > table[user, target] for i in mine)
        assert found.ties[row] == sum(table[user, i] == table[user, target] for i in mine)
    assert set(found.metrics) == set(found.names)
    assert all(name.endswith(" (10 sampled)") for name in found.names)
    assert not found.coverage


def test_gradients_are_not_kept():
    dataset = random_dataset()
    weight = torch.ones(51, requires_grad=True)
    seen = []

    def scorer(batch):
        scores = weight * torch.rand(batch.num_sessions, 51)
        seen.append(scores.requires_grad)
        return scores

    evaluate(dataset, scorer, max_len=9)
    assert seen == [False]
