"""RecTools in an interpreter of its own, which ``MFGAN_RECTOOLS_PYTHON`` names.

RecTools wants an older NumPy than mfgan does, so it runs in another process. It reads one line a
command from standard input and answers with the seconds that the work took. Nothing of mfgan is
imported here.
"""

import gzip
import json
import sys
import time
import warnings

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


def interactions(path: str, held_out: int) -> pd.DataFrame:
    """The rows of a ``user item`` file without the last ``held_out`` of each user."""
    with gzip.open(path, "rt") as lines:
        table = np.loadtxt(lines, dtype=np.int64)
    frame = pd.DataFrame(table, columns=[Columns.User, Columns.Item])
    frame = frame.sort_values(Columns.User, kind="stable")
    place = frame.groupby(Columns.User).cumcount()
    frame[Columns.Datetime] = pd.Timestamp("2020-01-01") + pd.to_timedelta(place, unit="s")
    frame[Columns.Weight] = 1.0
    left = frame.groupby(Columns.User)[Columns.Item].transform("size") - place
    return frame[left > held_out].reset_index(drop=True)


def sasrec(settings: dict) -> SASRecModel:
    """A model with random weights: one step of training is enough to have one."""
    return SASRecModel(
        n_blocks=settings["num_blocks"],
        n_heads=settings["num_heads"],
        n_factors=settings["hidden_dim"],
        session_max_len=settings["max_len"],
        dropout_rate=settings["dropout"],
        batch_size=settings["batch_size"],
        recommend_batch_size=settings["recommend_batch_size"],
        recommend_torch_device="cpu",
        get_trainer_func=lambda: Trainer(
            max_epochs=1,
            limit_train_batches=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ),
    )


def main() -> None:
    warnings.simplefilter("ignore")
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(settings["threads"])
    dataset = Dataset.construct(interactions(settings["path"], settings["held_out"]))
    model = sasrec(settings).fit(dataset)
    users = dataset.user_id_map.external_ids
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        found = model.recommend(users, dataset, k=10, filter_viewed=True)
        seconds = time.perf_counter() - start
        if len(found) != 10 * len(users):
            raise SystemExit(f"recommend: must give 10 items a user, got {len(found)} rows")
        print(seconds, flush=True)


if __name__ == "__main__":
    main()
