"""Adam with warm-up, decay, clipping and weight averaging; dense gradients and rows of a table."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

if TYPE_CHECKING:
    from mfgan.config import OptimizerConfig


_EPS = 1e-8


def learning_rate_at(config: "OptimizerConfig", step: int, total_steps: int) -> float:
    """The learning rate of a step: linear warm-up, then constant or half a cosine.

    Args:
        config: The optimizer's settings.
        step: Steps done before this one.
        total_steps: Where cosine decay ends; later steps keep its end value.
    """
    rate = config.learning_rate
    if step < config.warmup_steps:
        return rate * (step + 1) / config.warmup_steps
    if config.decay == "constant":
        return rate
    span = max(1, total_steps - config.warmup_steps)
    done = min(1.0, (step - config.warmup_steps) / span)
    low = config.final_fraction
    return rate * (low + (1 - low) * (1 + math.cos(math.pi * done)) / 2)


class Optimizer:
    """Adam or AdamW over named parameters, with all of its state in plain tensors.

    A parameter whose gradient is a sparse tensor is updated row by row: only the rows with a
    gradient, and their moments, are read or written, so that a step costs what it touches and not
    the whole catalogue. The moments of other rows rest until a gradient comes, and so does their
    decay. Weight decay acts on parameters of two axes and more: on matrices, and on the biases that
    the discriminators' towers keep in one tensor; never on other biases and norms.

    Args:
        parameters: The parameters by name; names are the keys of the saved state.
        config: Settings.
        total_steps: Steps until the end of the learning rate's decay.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], config: "OptimizerConfig", *, total_steps: int
    ) -> None:
        self.parameters = dict(parameters)
        self.config = config
        self.total_steps = total_steps
        self.steps = 0
        self._first = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self._second = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self._average: dict[str, Tensor] = {}
        if config.average:
            self._average = {name: p.detach().clone() for name, p in self.parameters.items()}

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return learning_rate_at(self.config, self.steps, self.total_steps)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> Tensor:
        """Move the parameters along their gradients.

        Returns:
            The norm of all gradients together, before clipping, a scalar tensor.
        """
        rate = self.learning_rate
        self.steps += 1
        dense, sparse = {}, {}
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            if parameter.grad.is_sparse:
                sparse[name] = parameter.grad.coalesce()
            else:
                dense[name] = parameter.grad
        values = [*dense.values(), *(gradient.values() for gradient in sparse.values())]
        norm = nn.utils.get_total_norm(values)
        scale = (norm / self.config.clip_norm).clamp_min(1.0) if self.config.clip_norm else None
        for decays in (False, True):
            names = [n for n in dense if (self.parameters[n].ndim > 1) == decays]
            self._dense_step(names, [dense[n] for n in names], rate, scale, decays)
        for name, gradient in sparse.items():
            self._row_step(name, gradient, rate, scale)
        self._update_average()
        return norm

    def _dense_step(
        self,
        names: Sequence[str],
        gradients: list[Tensor],
        rate: float,
        scale: Tensor | None,
        decays: bool,
    ) -> None:
        if not names:
            return
        parameters: list[Tensor] = [self.parameters[name] for name in names]
        device = parameters[0].device
        # As a kernel's argument: a tensor made on the host would have to be copied.
        count = torch.full((), float(self.steps - 1), device=device)
        adam(
            parameters,
            gradients,
            [self._first[name] for name in names],
            [self._second[name] for name in names],
            [],
            [count.clone() for _ in names],
            fused=True,
            grad_scale=scale,
            amsgrad=False,
            beta1=self.config.beta1,
            beta2=self.config.beta2,
            lr=rate,
            weight_decay=self.config.weight_decay if decays else 0.0,
            eps=_EPS,
            maximize=False,
            decoupled_weight_decay=self.config.kind == "adamw",
        )

    def _row_step(self, name: str, gradient: Tensor, rate: float, scale: Tensor | None) -> None:
        rows, values = gradient.indices()[0], gradient.values()
        if scale is not None:
            values = values / scale
        table = self.parameters[name]
        old, decay = table[rows], self.config.weight_decay
        if self.config.kind == "adamw":
            old = old * (1 - rate * decay)
        else:
            values = values + decay * old
        beta1, beta2 = self.config.beta1, self.config.beta2
        first = self._first[name][rows].lerp_(values, 1 - beta1)
        second = self._second[name][rows].mul_(beta2).addcmul_(values, values, value=1 - beta2)
        self._first[name][rows] = first
        self._second[name][rows] = second
        spread = (second / (1 - beta2**self.steps)).sqrt_().add_(_EPS)
        table[rows] = old.addcdiv_(first, spread, value=-rate / (1 - beta1**self.steps))

    def _update_average(self) -> None:
        if not self._average:
            return
        # A short memory at first, so that the average forgets the initial weights soon.
        keep = min(self.config.average, self.steps / (self.steps + 10))
        names = list(self._average)
        torch._foreach_lerp_(
            [self._average[name] for name in names],
            [self.parameters[name] for name in names],
            1 - keep,
        )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The parameters hold their moving average for as long as the block runs."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, average in self._average.items():
            parameter = self.parameters[name]
            held = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(held)

    def state_tensors(self) -> dict[str, Tensor]:
        """The moments and averages by name; they are the optimizer's own, not copies."""
        state = {f"first.{name}": tensor for name, tensor in self._first.items()}
        state |= {f"second.{name}": tensor for name, tensor in self._second.items()}
        return state | {f"average.{name}": tensor for name, tensor in self._average.items()}

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Take over the tensors of ``state_tensors`` and the number of steps done.

        Raises:
            ValueError: A tensor is missing or has another shape.
        """
        for name, mine in self.state_tensors().items():
            saved = tensors.get(name)
            if saved is None or saved.shape != mine.shape:
                got = "none" if saved is None else str(tuple(saved.shape))
                raise ValueError(f"optimizer: {name} must be {tuple(mine.shape)}, got {got}")
            mine.copy_(saved)
        self.steps = steps
