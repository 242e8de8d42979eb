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

# OpenMP's threads spin for a while after their work; the other side's turn starts without them.
_REST = 0.05


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
        loss=settings.get("loss", "softmax"),
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


class Worker:
    """A fitted model and what it is asked to do with it."""

    def __init__(self, settings: dict) -> None:
        self.dataset = Dataset.construct(interactions(settings["path"], settings["held_out"]))
        self.model = sasrec(settings).fit(self.dataset)
        self.module = self.model.lightning_model
        self.optimizer = self.module.configure_optimizers()
        self.batches: list[dict[str, torch.Tensor]] = []
        self.steps = 0

    def recommend(self) -> float:
        users = self.dataset.user_id_map.external_ids
        start = time.perf_counter()
        found = self.model.recommend(users, self.dataset, k=10, filter_viewed=True)
        seconds = time.perf_counter() - start
        if len(found) != 10 * len(users):
            raise SystemExit(f"recommend: must give 10 items a user, got {len(found)} rows")
        return seconds

    def batch(self, sessions: list[list[int]]) -> str:
        """Keeps the batch that RecTools' own data loader would make of the sessions."""
        preparator = self.model.data_preparator
        ids = [list(preparator.item_id_map.convert_to_internal(items)) for items in sessions]
        elements = [(items, [1.0] * len(items), {}) for items in ids]
        self.batches.append(preparator._collate_fn_train(elements))
        return "ready"

    def train(self) -> float:
        """RecTools' training step without the trainer around it: no logging, no hooks."""
        module, batch = self.module, self.batches[self.steps % len(self.batches)]
        module.train()
        self.steps += 1
        start = time.perf_counter()
        self.optimizer.zero_grad()
        logits = module.get_batch_logits(batch)
        loss = module.loss_calculator(logits, batch["y"], batch["yw"])
        loss.backward()
        self.optimizer.step()
        seconds = time.perf_counter() - start
        if not torch.isfinite(loss):
            raise SystemExit(f"train: loss must be finite, got {loss}")
        return seconds


def main() -> None:
    warnings.simplefilter("ignore")
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(settings["threads"])
    worker = Worker(settings)
    print("ready", flush=True)
    for line in sys.stdin:
        command, _, given = line.strip().partition(" ")
        ask = {"recommend": worker.recommend, "batch": worker.batch, "train": worker.train}[command]
        answer = ask(*([json.loads(given)] if given else []))
        time.sleep(_REST)
        print(answer, flush=True)


if __name__ == "__main__":
    main()
