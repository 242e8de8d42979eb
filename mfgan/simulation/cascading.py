"""Cascading deep Q-networks over sets of k items (Chen et al., ICML 2019, section 5)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mfgan.config import OptimizerConfig, Section
from mfgan.errors import MfganError
from mfgan.files import atomic_directory, read_json, write_json
from mfgan.simulation.tracked_user import TrackedUser
from mfgan.simulation.users import SimulatedUsers
from mfgan.training.user_model.stages import LearnedUser

_ITEM_INPUTS = 4  # utility now, and what the user did with the item before
_USER_INPUTS = 2  # share of the session that is over, clicks so far


class PolicySettings(Section):
    """Training of a cascading DQN."""

    seed: int = Field(default=0, ge=0, lt=2**62)
    slate: int = Field(default=3, ge=1, description="k, items a display")
    pool: int = Field(
        default=150, ge=0, description="items considered, most displayed first; 0: all"
    )
    session: str = "fixed:5"
    reward: str = Field(default="gain", description="gain, utility or click")
    users: int = Field(default=64, ge=1, description="simulated users stepped together")
    steps: int = Field(default=450, ge=0, description="displays to each of them")
    updates: int = Field(default=4, ge=1, description="batches learned from after each display")
    batch_size: int = Field(default=128, ge=1)
    replay: int = Field(default=10_000, ge=1, description="transitions kept")
    warmup: int = Field(default=20, ge=1, description="steps before learning begins")
    validate_every: int = Field(
        default=50, ge=1, description="steps between sessions with validation users, if any"
    )
    validation_users: int = Field(default=300, ge=1)
    hidden: int = Field(default=32, ge=1)
    embedding_dim: int = Field(default=8, ge=1)
    window: int = Field(default=5, ge=1, description="last clicks that make up the state")
    discount: float = Field(default=1.0, ge=0, le=1)
    epsilon_start: float = Field(default=0.2, ge=0, le=1)
    epsilon_end: float = Field(default=0.02, ge=0, le=1)
    epsilon_steps: int = Field(default=400, ge=1)
    target_rate: float = Field(
        default=0.02, gt=0, le=1, description="of the targets' moving average"
    )
    double: bool = Field(default=True, description="the target's actions are the online networks'")
    optimizer: OptimizerConfig = OptimizerConfig(
        kind="adam", learning_rate=1e-3, beta2=0.999, clip_norm=10.0
    )


class CascadingNetworks(nn.Module):
    """``Q_j(s, a_1 … a_j)`` for j = 1 … k, each with weights of its own.

    Args:
        num_items: Items of the catalogue.
        settings: Widths.
    """

    def __init__(self, num_items: int, settings: PolicySettings) -> None:
        super().__init__()
        dim, hidden = settings.embedding_dim, settings.hidden
        self.slate = settings.slate
        self.items = nn.Embedding(num_items + 1, dim, padding_idx=0)
        nn.init.normal_(self.items.weight, std=0.05)
        state = settings.window * dim + _USER_INPUTS
        width = dim + _ITEM_INPUTS
        self.from_state = nn.ModuleList(nn.Linear(state, hidden) for _ in range(self.slate))
        self.from_item = nn.ModuleList(
            nn.Linear(width, hidden, bias=False) for _ in range(self.slate)
        )
        # The items chosen before the j-th enter by place.
        self.from_chosen = nn.ModuleList(
            nn.Linear(width * place, hidden, bias=False) if place else nn.Identity()
            for place in range(self.slate)
        )
        self.heads = nn.ModuleList(nn.Linear(hidden, 1) for _ in range(self.slate))
        for weight in self.heads.parameters():
            nn.init.zeros_(weight)
        # What the state alone is worth is most of a value and says nothing of what to show: kept
        # apart, it does not have to be learned anew for every item.
        last = nn.Linear(hidden, 1)
        self.level = nn.Sequential(nn.Linear(state, hidden), nn.ReLU(), last)
        # What an item adds at each place wherever it is shown, and its utility at this moment. The
        # first begins at 0 and the second at 1, so that learning begins at greed.
        self.worth = nn.Embedding(num_items + 1, self.slate)
        nn.init.zeros_(self.worth.weight)
        nn.init.zeros_(last.weight)
        self.utility = nn.Parameter(torch.ones(self.slate))

    def state(self, clicks: Tensor, about: Tensor) -> Tensor:
        """``(n, state)`` from ``(n, window)`` last clicks and ``(n, 2)`` numbers."""
        return torch.cat([self.items(clicks).flatten(1), about], dim=1)

    def vectors(self, items: Tensor, inputs: Tensor) -> Tensor:
        """``(n, m, width)`` of items ``(m,)`` or ``(n, m)`` and their ``(n, m, 4)`` inputs."""
        table = torch.cat([self.worth(items), self.items(items)], dim=-1)
        return torch.cat([table.expand(*inputs.shape[:2], -1), inputs], dim=2)

    def value(self, place: int, state: Tensor, vectors: Tensor, chosen: Tensor) -> Tensor:
        """``(n, m)`` Q of a candidate at a place.

        Args:
            place: j - 1.
            state: ``(n, state)``.
            vectors: ``(n, m, width)`` of the candidates.
            chosen: ``(n, place, width)`` of the items before it.
        """
        x = self.from_state[place](state)
        if place:
            x = x + self.from_chosen[place](chosen[..., self.slate :].flatten(1))
        x = torch.relu(x[:, None] + self.from_item[place](vectors[..., self.slate :]))
        value: Tensor = self.heads[place](x)[..., 0] + self.level(state)
        return value + vectors[..., place] + self.utility[place] * vectors[..., -_ITEM_INPUTS]

    def cascade(self, state: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """``a_1* = argmax Q_1``, ``a_2* = argmax Q_2(a_1*, ·)``, …: O(k m), not m over k.

        What was shown in the session already is left out.

        Args:
            state: ``(n, state)``.
            vectors: ``(n, m, width)``.

        Returns:
            ``(n, k)`` places in the pool, no two alike, and ``(n,)`` Q_k of the whole set.
        """
        everyone = torch.arange(len(state))
        taken = vectors[..., -1] > 0
        places = torch.zeros(len(state), 0, dtype=torch.int64)
        value = torch.zeros(len(state))
        for place in range(self.slate):
            chosen = vectors[everyone[:, None], places]
            values = self.value(place, state, vectors, chosen).masked_fill(taken, -torch.inf)
            value, best = values.max(1)
            places = torch.cat([places, best[:, None]], dim=1)
            taken[everyone, best] = True
        return places, value

    def along(self, state: Tensor, chosen: Tensor) -> Tensor:
        """``(n, k)``: every ``Q_j`` of sets that were shown; ``chosen`` is ``(n, k, width)``."""
        values = [
            self.value(place, state, chosen[:, place : place + 1], chosen[:, :place])
            for place in range(self.slate)
        ]
        return torch.cat(values, dim=1)


class Observer:
    """What the policy is given: last clicks, and for each item the known user model's view of it.

    Args:
        known: The training user models.
        pool: ``(n,)`` items that may be shown.
        window: Last clicks.
    """

    def __init__(self, known: Sequence[LearnedUser], pool: Tensor, window: int) -> None:
        self._tracked, self.pool, self._window = TrackedUser(known), pool, window

    def begin(self, users: SimulatedUsers) -> None:
        """New sessions."""
        self._tracked.begin(users)

    def __call__(self, users: SimulatedUsers) -> tuple[Tensor, Tensor, Tensor]:
        """``(n, window)`` clicks, ``(n, 2)`` numbers and ``(n, m, 4)`` inputs of the pool."""
        utilities, context = self._tracked.utilities(users, self.pool)
        # Its level says nothing about which item to show, and logs may not fix it.
        utilities = utilities - utilities.mean(1, keepdim=True)
        over = users.steps / users.session.limit
        clicks = (users.clicked > 0).sum(1) / users.session.limit
        inputs = torch.cat([utilities[..., None], context], dim=2)
        return users.last_clicks(self._window), torch.stack([over, clicks], dim=1), inputs


class CascadingPolicy:
    """The set that cascading Q-networks value most.

    Args:
        networks: Trained networks.
        known: The training user models.
        pool: ``(n,)`` items that may be shown.
        settings: Those of training.
    """

    name = "cascading DQN"

    def __init__(
        self,
        networks: CascadingNetworks,
        known: Sequence[LearnedUser],
        pool: Tensor,
        settings: PolicySettings,
    ) -> None:
        self.networks, self.settings = networks, settings
        self.observer = Observer(known, pool, settings.window)

    def begin(self, users: SimulatedUsers) -> None:
        self.observer.begin(users)

    @torch.no_grad()
    def choose(self, users: SimulatedUsers, step: int) -> Tensor:
        clicks, about, inputs = self.observer(users)
        state = self.networks.state(clicks, about)
        vectors = self.networks.vectors(self.observer.pool, inputs)
        return self.observer.pool[self.networks.cascade(state, vectors)[0]]


def save_policy(
    path: Path, networks: CascadingNetworks, pool: Tensor, about: Mapping[str, Any]
) -> None:
    """Write a trained policy's directory, whole or not at all."""
    with atomic_directory(path, overwrite=True) as draft:
        weights = {name: value.contiguous() for name, value in networks.state_dict().items()}
        save_file({**weights, "pool": pool.contiguous()}, draft / "policy.safetensors")
        write_json(draft / "policy.json", dict(about))


def load_policy(path: Path, known: Sequence[LearnedUser]) -> CascadingPolicy:
    """Open a policy.

    Args:
        path: The directory that ``save_policy`` wrote.
        known: The user models it was trained on.

    Raises:
        MfganError: It is no policy, or one over other items.
    """
    about = read_json(path / "policy.json")
    try:
        settings = PolicySettings.model_validate(about["settings"])
        weights = load_file(path / "policy.safetensors")
    except (KeyError, ValidationError, OSError) as error:
        raise MfganError(f"{path}: must hold a policy, got {error}") from None
    pool = weights.pop("pool")
    networks = CascadingNetworks(known[0].reward.features.num_items, settings)
    try:
        networks.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise MfganError(f"{path}: must fit the user model, got {reason}") from None
    return CascadingPolicy(networks, known, pool, settings)
