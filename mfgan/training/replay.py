"""Steps that are recorded once and replayed: every batch padded to the same sizes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mfgan.data.batch import JaggedBatch
from mfgan.training.draws import fill_counter
from mfgan.training.feed import StepInput

if TYPE_CHECKING:
    from mfgan.training.stage import StepOutput, TrainingStage

_WARM_UPS = 3  # libraries choose their algorithms and allocate in these

Record = Callable[[Callable[[], None]], Callable[[], None]]
"""Takes work that has not run yet, may run it, and gives what runs it over the same tensors."""


@dataclass(frozen=True)
class Sizes:
    """What every batch is padded to.

    Args:
        total_tokens: Tokens, those of padding included.
        num_sessions: Sessions, those of padding included.
        max_len: No session is longer.
        earlier: Interactions before the sessions' first, those of padding included; None where
            nobody asks for them.
    """

    total_tokens: int
    num_sessions: int
    max_len: int
    earlier: int | None = None


def padded(batch: JaggedBatch, sizes: Sizes) -> JaggedBatch:
    """The batch with sessions of item 0 behind its own, which have no targets and so no loss.

    Sessions never see each other and dropout follows from a token's place, so the tokens that were
    there before have the same results.

    Args:
        batch: On the host.
        sizes: No smaller than the batch's.

    Raises:
        ValueError: The batch is larger, or has no targets.
    """
    more = sizes.total_tokens - batch.total_tokens
    full, rest = divmod(max(0, more), sizes.max_len)
    empty = sizes.num_sessions - batch.num_sessions - full - (rest > 0)
    if more < 0 or empty < 0 or batch.max_seqlen > sizes.max_len:
        got = (batch.total_tokens, batch.num_sessions, batch.max_seqlen)
        raise ValueError(f"padded: a batch must fit {sizes}, got {got}")
    targets = batch.require_targets()
    lengths = [sizes.max_len] * full + [rest] * (rest > 0) + [0] * empty
    offsets = np.concatenate([batch.offsets.numpy(), batch.total_tokens + np.cumsum(lengths)])
    places = np.arange(more) % sizes.max_len
    before = {} if sizes.earlier is None else _padded_earlier(batch, sizes.earlier, len(lengths))

    def behind(values: Tensor, filling: np.ndarray) -> np.ndarray:
        return np.concatenate([values.numpy(), filling])

    nothing, nobody = np.zeros(more, np.int64), np.full(len(lengths), -1)
    packed = JaggedBatch.from_arrays(
        items=behind(batch.items, nothing),
        offsets=offsets,
        positions=behind(batch.positions, places),
        users=behind(batch.users, nobody),
        targets=behind(targets, nothing),
        **before,
    )
    return replace(packed, max_seqlen=sizes.max_len)


def _padded_earlier(batch: JaggedBatch, size: int, sessions: int) -> dict[str, np.ndarray]:
    """What came before, and behind it items 0 that the last of the new ``sessions`` takes."""
    earlier, bounds = np.zeros(0, np.int64), np.zeros(batch.num_sessions + 1, np.int64)
    if batch.earlier is not None and batch.earlier_offsets is not None:
        earlier, bounds = batch.earlier.numpy(), batch.earlier_offsets.numpy()
    if len(earlier) > size:
        raise ValueError(f"padded: earlier must be at most {size}, got {len(earlier)}")
    bounds = np.concatenate([bounds, np.full(sessions, len(earlier))])
    bounds[-1] = size
    filled = np.concatenate([earlier, np.zeros(size - len(earlier), np.int64)])
    return {"earlier": filled, "earlier_offsets": bounds}


def record_on_gpu(work: Callable[[], None]) -> Callable[[], None]:
    """Record work as a CUDA graph."""
    beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(_WARM_UPS):
            work()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    # The thread that makes the next inputs allocates and copies meanwhile, as it may.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay


def recorder_of(device: torch.device) -> Record | None:
    """How steps on a device are recorded; None where they are not."""
    return record_on_gpu if device.type == "cuda" else None


class ReplayedStep:
    """Loss and gradients of a stage's steps, from a recording made of the first one.

    Batches and host draws are copied into the tensors of the first step, the counter that dropout
    is drawn from is written anew, and what was recorded runs over them.

    Args:
        stage: Whose steps; its batches must all have the sizes of the first.
        record: How to record.
    """

    def __init__(self, stage: "TrainingStage", record: Record) -> None:
        self._stage, self._record = stage, record
        self._held: StepInput | None = None
        self._replay: Callable[[], None] | None = None
        self._output: StepOutput | None = None
        self._gradients: list[tuple[nn.Parameter, Tensor | None]] = []

    def __call__(self, given: StepInput, *, epoch: int, step: int) -> "StepOutput":
        """Run a step: the gradients are in the parameters when it returns.

        Args:
            given: Its batch and draws, on the device.
            epoch: From 0.
            step: Steps of the stage before this one.

        Returns:
            What it found; the tensors are overwritten by the next step.

        Raises:
            RuntimeError: The step cannot be recorded.
            ValueError: The input has other sizes than the first.
        """
        if self._held is None:
            self._begin(given, epoch, step)
        else:
            for mine, new in zip(self._held.tensors(), given.tensors(), strict=True):
                if mine.shape != new.shape:
                    got = tuple(new.shape)
                    raise ValueError(f"replay: must be {tuple(mine.shape)} as before, got {got}")
                mine.copy_(new)
        assert self._stage.replayed is not None
        fill_counter(self._stage.replayed, self._stage.seed, step)
        assert self._replay is not None
        self._replay()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        assert self._output is not None
        return replace(self._output, tokens=given.tokens)

    def close(self) -> None:
        """Give the stage back: its steps run as ever."""
        self._stage.replayed = None

    def _begin(self, given: StepInput, epoch: int, step: int) -> None:
        stage = self._stage
        held = _cloned(given)
        stage.replayed = torch.empty(2, dtype=torch.int64, device=stage.context.device)
        fill_counter(stage.replayed, stage.seed, step)
        optimizer = stage.optimizers[stage.optimizer_of(epoch)]

        def work() -> None:
            optimizer.zero_grad()
            self._output = stage.step(held.batch, epoch=epoch, step=step, drawn=held.drawn)
            self._output.loss.backward()  # type: ignore[no-untyped-call]
            self._gradients = [(p, p.grad) for p in optimizer.parameters.values()]

        self._replay = self._record(work)
        self._held = held


def _cloned(given: StepInput) -> StepInput:
    """The same in tensors of its own: the memory of the feed's is given away after their step."""
    inside = {n: x.clone() for n, x in vars(given.batch).items() if isinstance(x, Tensor)}
    drawn = {name: tensor.clone() for name, tensor in given.drawn.items()}
    return StepInput(replace(given.batch, **inside), drawn, given.tokens)
