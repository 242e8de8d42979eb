"""The rival of negative sampling: a sampler in the manner of SASRec's public code, in own words.

A Python loop over the tokens of one user at a time, several processes, a queue of batches.
"""

import multiprocessing
from multiprocessing.queues import Queue

import numpy as np

MAX_LEN, BATCH, WORKERS, PREFETCH = 200, 128, 3, 10


class SasrecSampler:
    """Batches of ``(users, inputs, targets, negatives)``, users drawn at random.

    Args:
        histories: The training items of each user.
        num_items: Items are numbered from 1.
    """

    def __init__(self, histories: list[list[int]], num_items: int) -> None:
        context = multiprocessing.get_context("fork")
        self._queue = context.Queue(maxsize=WORKERS * PREFETCH)
        self._workers = [
            context.Process(
                target=_work, args=(histories, num_items, seed, self._queue), daemon=True
            )
            for seed in range(WORKERS)
        ]
        for worker in self._workers:
            worker.start()

    def next_batch(self) -> list[np.ndarray]:
        """The next batch that a worker has ready."""
        return self._queue.get()

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join()
        self._queue.close()
        self._queue.cancel_join_thread()


def _work(histories: list[list[int]], num_items: int, seed: int, queue: "Queue[object]") -> None:
    rng = np.random.RandomState(seed)
    while True:
        rows = [_one_user(histories, num_items, rng) for _ in range(BATCH)]
        queue.put([np.array(column) for column in zip(*rows, strict=True)])


def _one_user(histories, num_items, rng):  # type: ignore[no-untyped-def]
    user = rng.randint(0, len(histories))
    while len(histories[user]) <= 1:
        user = rng.randint(0, len(histories))
    history = histories[user]
    inputs, targets, negatives = (np.zeros(MAX_LEN, np.int32) for _ in range(3))
    met, target, place = set(history), history[-1], MAX_LEN - 1
    for item in reversed(history[:-1]):
        inputs[place], targets[place] = item, target
        negative = rng.randint(1, num_items + 1)
        while negative in met:
            negative = rng.randint(1, num_items + 1)
        negatives[place] = negative
        target, place = item, place - 1
        if place == -1:
            break
    return user, inputs, targets, negatives
