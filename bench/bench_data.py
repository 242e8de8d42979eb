"""The data path: k-core, negatives and a whole preparation, against what one would write."""

import shutil
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bench.common import SEQUENCES, real_data
from bench.generate import write_log, zipf_codes
from bench.plain_prepare import plain_k_core, plain_prepare
from bench.sasrec_sampler import BATCH, MAX_LEN, SasrecSampler
from mfgan.data.batching import TrainingBatches
from mfgan.data.kcore import k_core
from mfgan.data.prepare import prepare
from mfgan.data.sampling import NegativeSampler

K = 5


@pytest.mark.parametrize(("name", "rows"), [("k-core", 10_000_000), ("k-core-50m", 50_000_000)])
def test_k_core(compare, name, rows):
    """Both take a frame of integer columns and give the frame of the core."""
    users, items = zipf_codes(rows)
    frame = pl.DataFrame({"user": users, "item": items})

    def ours() -> pl.DataFrame:
        columns = frame["user"].to_numpy(), frame["item"].to_numpy()
        return frame.filter(pl.Series(k_core(*columns, k=K).rows(*columns)))

    assert ours().equals(plain_k_core(frame, K))
    compare(name, ours, lambda: plain_k_core(frame, K), repeats=7)


def test_negatives(compare, tmp_path):
    """Training batches with a negative for each target, as many on both sides, ML-1M cut at 200."""
    dataset = prepare(real_data(SEQUENCES["ml-1m"]), tmp_path / "out", format="ml-1m")
    batches = TrainingBatches(dataset, max_len=MAX_LEN, batch_size=BATCH, seed=0)
    sampler = NegativeSampler(dataset, seed=0)
    epochs = 8
    wanted = int(batches.sessions(0).lengths.sum()) * epochs
    histories = [dataset.train_history(user).tolist() for user in range(dataset.num_users)]

    def ours() -> None:
        for epoch in range(epochs):
            drawn, rows = 0, 0
            for batch in batches.epoch(epoch):
                users = np.repeat(batch.users.numpy(), batch.offsets.diff().numpy())
                drawn += sampler.sample(users, 1, epoch=epoch, first_row=rows).size
                rows += len(users)
            assert drawn == wanted // epochs

    def rival() -> float:
        theirs = SasrecSampler(histories, dataset.num_items)
        for _ in range(2):
            theirs.next_batch()
        start, drawn, num_batches = time.perf_counter(), 0, 40
        for _ in range(num_batches):
            drawn += int((theirs.next_batch()[3] > 0).sum())
        seconds = time.perf_counter() - start
        theirs.close()
        return seconds * wanted / drawn

    compare("negatives", ours, rival, repeats=7)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_prepare_table(compare, tmp_path, kind):
    """A log of 10 million rows with ids of 14 and 10 characters, from the file to the directory."""
    source = write_log(tmp_path / f"log.{kind}", 10_000_000)

    def fresh(name: str) -> Path:
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        return tmp_path / name

    dataset = prepare(source, fresh("ours"))
    plain_prepare(source, fresh("rival"))
    for name in ("items", "offsets", "timestamps", "test"):
        np.testing.assert_array_equal(
            getattr(dataset, name), np.load(tmp_path / "rival" / f"{name}.npy")
        )
    popularity = np.load(tmp_path / "rival" / "popularity.npy")
    np.testing.assert_array_equal(dataset.factor("popularity").values, popularity)
    compare(
        f"prepare-table-{kind}",
        lambda: prepare(source, fresh("ours")),
        lambda: plain_prepare(source, fresh("rival")),
        repeats=7,
    )
