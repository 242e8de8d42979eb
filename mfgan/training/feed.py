"""What steps are given, made ahead of them: packed, drawn, pinned and copied by another thread."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import Tensor

_AHEAD = 2  # steps that are ready before they are asked for
_PATIENCE = 0.1  # seconds after which a thread that waits looks whether it is still wanted


@dataclass(frozen=True)
class StepInput:
    """What one step is given.

    Args:
        batch: With ``to`` and ``pin_memory``.
        drawn: What was drawn on the host for it.
        tokens: Tokens that the step learns from; 0 for those of the batch.
    """

    batch: Any
    drawn: Mapping[str, Tensor] = field(default_factory=dict)
    tokens: int = 0

    def pin_memory(self) -> "StepInput":
        """The same in page-locked memory."""
        drawn = {name: tensor.pin_memory() for name, tensor in self.drawn.items()}
        return StepInput(self.batch.pin_memory(), drawn, self.tokens)

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "StepInput":
        """The same on another device."""
        drawn = {n: x.to(device, non_blocking=non_blocking) for n, x in self.drawn.items()}
        return StepInput(self.batch.to(device, non_blocking=non_blocking), drawn, self.tokens)

    def tensors(self) -> list[Tensor]:
        """All tensors that ``to`` moves."""
        inside = [x for x in vars(self.batch).values() if isinstance(x, Tensor)]
        return [*inside, *self.drawn.values()]


class Mover(Protocol):
    """Brings inputs to where steps run: ``send`` where they are made, then ``receive``."""

    def send(self, given: StepInput) -> Any:
        """Begin to move."""

    def receive(self, sent: Any) -> StepInput:
        """The input, for use by the thread that asks."""


class CudaMover:
    """Copies from pinned memory on a stream of its own.

    Args:
        device: Where to.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(self, given: StepInput) -> tuple[StepInput, torch.cuda.Event]:
        """Begin to copy."""
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            moved = given.pin_memory().to(self._device, non_blocking=True)
            return moved, self._stream.record_event()

    def receive(self, sent: tuple[StepInput, torch.cuda.Event]) -> StepInput:
        """The copy; what is enqueued from now on waits for it, the host does not."""
        moved, copied = sent
        current = torch.cuda.current_stream(self._device)
        current.wait_event(copied)
        for tensor in moved.tensors():
            if tensor.is_cuda:
                # Its memory came from the other stream, and is not to be given away too soon.
                tensor.record_stream(current)
        return moved


class Feed:
    """The inputs of steps in order: made by a thread some steps ahead, or each as it is asked for.

    Use it as a context manager; leaving it ends the thread, whatever is left.

    Args:
        make: Makes the input of a step from its number; called in order, by one thread.
        first: The first number.
        end: One past the last.
        mover: Brings inputs to a GPU; None makes each one as it is asked for, where it is.

    Raises:
        Exception: Whatever ``make`` raised, where its input is asked for.
    """

    def __init__(
        self, make: Callable[[int], StepInput], first: int, end: int, mover: Mover | None
    ) -> None:
        self._make, self._numbers, self._mover = make, range(first, end), mover
        self._ready: Queue[Any] = Queue(_AHEAD)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Feed":
        if self._mover is not None:
            self._thread = threading.Thread(target=self._work, name="feed", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def __iter__(self) -> Iterator[StepInput]:
        if self._mover is None:
            yield from map(self._make, self._numbers)
            return
        for _ in self._numbers:
            sent, error = self._take()
            if error is not None:
                raise error
            yield self._mover.receive(sent)

    def _take(self) -> tuple[Any, BaseException | None]:
        while True:
            try:
                taken: tuple[Any, BaseException | None] = self._ready.get(timeout=_PATIENCE)
            except Empty:
                if not self._alive() and self._ready.empty():
                    raise RuntimeError("feed: its thread must be alive, found it ended") from None
            else:
                return taken

    def _alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _work(self) -> None:
        assert self._mover is not None
        for number in self._numbers:
            try:
                made = self._mover.send(self._make(number)), None
            except BaseException as error:  # the thread that asks shall have it
                self._put((None, error))
                return
            if not self._put(made):
                return

    def _put(self, made: Any) -> bool:
        """Whether it was wanted."""
        while not self._ended.is_set():
            try:
                self._ready.put(made, timeout=_PATIENCE)
            except Full:
                continue
            return True
        return False
