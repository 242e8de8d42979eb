"""``mfgan sample`` and the stage: ids of the log, places that are right, never the real item."""

import json

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from made import made_dataset

from mfgan.cli import cli
from mfgan.config import load_config
from mfgan.errors import MfganError
from mfgan.training import train

COLUMNS = ["user_id", "position", "rank", "item_id", "log_probability", "next_item_id"]
SMALL = (
    "generator.hidden_dim=8",
    "generator.num_blocks=1",
    "generator.max_len=6",
    "threads=1",
    "pretrain_generator.epochs=1",
    "sample.num_candidates=4",
    "sample.method=top",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    dataset = made_dataset(folder)
    config = load_config(overrides=SMALL)
    train(dataset, folder / "run", config, stage="pretrain-generator")
    return train(dataset, folder / "run", config, stage="sample")


def sample(run, out, *options):
    result = CliRunner().invoke(
        cli, ["sample", str(run.path), "--out", str(out), *options], catch_exceptions=False
    )
    assert result.exit_code == 0
    return result, pl.read_parquet(out)


def histories(run):
    data = run.dataset
    ids = {data.user_ids[user]: user for user in range(data.num_users)}
    return ids, lambda user: [data.item_ids[item] for item in data.train_history(user)]


@pytest.mark.parametrize("positions", [0, 3])
def test_rows_are_candidates_at_training_positions(run, tmp_path, positions):
    _, frame = sample(run, tmp_path / "out.parquet", "--k", "5", "--positions", str(positions))
    assert frame.columns == COLUMNS
    ids, history = histories(run)
    assert set(frame["item_id"]) <= set(run.dataset.item_ids[1:])
    assert (frame["item_id"] != frame["next_item_id"]).all()
    assert (frame["log_probability"] < 0).all()
    groups = frame.group_by(["user_id", "position"], maintain_order=True)
    places = {}
    for (user, position), group in groups:
        real = history(ids[user])
        assert group["rank"].to_list() == [1, 2, 3, 4, 5]
        assert set(group["next_item_id"]) == {real[position]}
        places.setdefault(user, []).append(position)
    for user, found in places.items():
        length = len(history(ids[user]))
        assert all(max(1, length - 6) <= place < length for place in found)
        if positions == 0:
            assert found == [length - 1]
        else:
            assert len(set(found)) == len(found) == min(3, length - 1)
    trainable = (run.dataset.train_end >= 2).sum()
    assert len(places) == trainable


def test_log_probabilities_are_the_generators(run, tmp_path):
    _, frame = sample(run, tmp_path / "out.parquet", "--k", "3", "--method", "top")
    row = frame.row(0, named=True)
    ids, _ = histories(run)
    user = ids[row["user_id"]]
    from mfgan.data.batch import JaggedBatch

    past = run.dataset.train_history(user)[:-1]
    batch = JaggedBatch.from_sequences([past], max_len=6)
    generator = run.generator()
    logits = generator.logits(generator(batch)[-1:])[0].detach()
    logits[past.tolist()] = -np.inf  # probabilities are over what was not had yet
    logs = logits.log_softmax(0).numpy()
    real = run.dataset.item_idx(row["next_item_id"])
    order = [item for item in np.argsort(-logs) if item not in (0, real)][:3]
    mine = frame.head(3)
    assert mine["item_id"].to_list() == [run.dataset.item_ids[item] for item in order]
    np.testing.assert_allclose(mine["log_probability"], logs[order], rtol=1e-5)


def test_draws_follow_the_seed(run, tmp_path):
    options = ("--method", "multinomial", "--positions", "2")
    frames = [
        sample(run, tmp_path / f"{i}.parquet", "--seed", str(seed), *options)[1]
        for i, seed in enumerate((5, 5, 6))
    ]
    assert frames[0].equals(frames[1])
    assert not frames[0].equals(frames[2])


def test_summary_as_json_is_all_of_standard_output(run, tmp_path):
    out = tmp_path / "out.parquet"
    result, frame = sample(run, out, "--k", "2", "--json")
    users = frame["user_id"].n_unique()
    expected = {"file": str(out), "rows": 2 * users, "users": users, "positions": users}
    assert json.loads(result.stdout) == expected


def test_the_stage_leaves_a_table_for_inspection(run):
    frame = pl.read_parquet(run.stage_directory("sample") / "samples.parquet")
    assert frame.columns == COLUMNS
    assert frame["rank"].max() == 4
    assert frame.group_by("user_id").len()["len"].unique().to_list() == [4]


def test_a_failure_leaves_what_was_there(run, tmp_path):
    out = tmp_path / "out.parquet"
    out.write_bytes(b"before")
    with pytest.raises(MfganError, match="30 a position need more items than the 29"):
        sample(run, out, "--k", "30", "--method", "top")
    assert out.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]
