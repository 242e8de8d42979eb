"""Training of cascading Q-networks: replay, targets, exploration."""

from collections.abc import Iterator, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from mfgan.console import SILENT, Reporter
from mfgan.simulation.cascading import CascadingNetworks, CascadingPolicy, Observer, PolicySettings
from mfgan.simulation.session import SessionRule, check_pool
from mfgan.simulation.users import SimulatedUsers
from mfgan.training.optimizer import Optimizer
from mfgan.training.user_model.stages import LearnedUser

_STAGE = 0xD0


class Replay:
    """A ring of transitions, each part a preallocated tensor."""

    def __init__(self, capacity: int) -> None:
        self._capacity, self._next, self.size = capacity, 0, 0
        self._parts: list[Tensor] = []

    def add(self, *parts: Tensor) -> None:
        """Append a transition for every row."""
        if not self._parts:
            self._parts = [part.new_zeros(self._capacity, *part.shape[1:]) for part in parts]
        count = len(parts[0])
        at = (torch.arange(count) + self._next) % self._capacity
        for mine, part in zip(self._parts, parts, strict=True):
            mine[at] = part
        self._next = (self._next + count) % self._capacity
        self.size = min(self.size + count, self._capacity)

    def draw(self, count: int, rng: np.random.Generator) -> list[Tensor]:
        """Transitions at random, with return."""
        at = torch.from_numpy(rng.integers(self.size, size=count))
        return [part[at] for part in self._parts]


class PolicyTrainer:
    """Cascading DQN on simulated users.

    All k networks are trained towards ``reward + discount * Q_k'(s', a'*)``, where a'* is the
    cascade of the online networks (double) or of the targets.

    Args:
        known: The user models that the policy may know, whose mean utilities it is given.
        pool: ``(n,)`` items that may be shown.
        settings: Of training.
        within: The users to learn from, one after the other by session; ``known`` if not given.
            Several models keep the policy from living off what one of them made up.
        networks: Go on with these instead of new ones.
    """

    def __init__(
        self,
        known: Sequence[LearnedUser],
        pool: Tensor,
        settings: PolicySettings,
        *,
        within: Sequence[LearnedUser] = (),
        networks: CascadingNetworks | None = None,
    ) -> None:
        self.settings, self.pool, self._known = settings, pool, known
        if networks is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(settings.seed)
                networks = CascadingNetworks(known[0].reward.features.num_items, settings)
        self.networks, self._targets = networks, deepcopy(networks)
        self._optimizer = Optimizer(
            dict(networks.named_parameters()),
            settings.optimizer,
            total_steps=settings.steps * settings.updates,
        )
        self._observer = Observer(known, pool, settings.window)
        self._groups = [
            SimulatedUsers(
                user,
                settings.users,
                session=SessionRule.parse(settings.session),
                reward=settings.reward,  # type: ignore[arg-type]
                seed=(settings.seed * 1000 + place) % (1 << 62),
            )
            for place, user in enumerate(within or known)
        ]
        self._turn = -1
        self._users = self._groups[0]
        check_pool(len(pool), settings.slate, self._users.session)
        self._replay = Replay(settings.replay)
        # No action makes a session longer, so a constant taken off each reward changes no policy;
        # it keeps the value of the many displays to come from hiding what one of them adds.
        self._baseline: float | None = None
        self._rng = np.random.default_rng([settings.seed, _STAGE])

    @property
    def policy(self) -> CascadingPolicy:
        """The policy as it stands."""
        return CascadingPolicy(self.networks, self._known, self.pool, self.settings)

    def steps(self, count: int, *, reporter: Reporter = SILENT) -> Iterator[float]:
        """Act and learn; yields each step's mean reward.

        Args:
            count: Displays to each simulated user.
            reporter: Where progress is shown.
        """
        seen, active = self._begin()
        with reporter.task("policy", count) as task:
            for step in range(count):
                actions = self._explore(seen, step)
                result = self._users.step(self.pool[actions])
                ahead = self._observer(self._users)
                if self._baseline is None:
                    self._baseline = float(result.rewards.mean())
                rewards = result.rewards - self._baseline
                parts = (*seen, actions, rewards, *ahead, result.done.float())
                self._replay.add(*(part[active] for part in parts))
                reward = float(result.rewards[active].mean())
                # Who left is waited for without being learned from, until all have.
                seen, active = ahead, active & ~result.done
                if not bool(active.any()):
                    seen, active = self._begin()
                if step >= self.settings.warmup:
                    for _ in range(self.settings.updates):
                        self._learn()
                task.advance(1, f"reward {reward:.3f}")
                yield reward

    def _begin(self) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        self._turn = (self._turn + 1) % len(self._groups)
        self._users = self._groups[self._turn]
        self._users.reset()
        self._observer.begin(self._users)
        everyone = torch.ones(self.settings.users, dtype=torch.bool)
        return self._observer(self._users), everyone

    @torch.no_grad()
    def _explore(self, seen: tuple[Tensor, Tensor, Tensor], step: int) -> Tensor:
        settings = self.settings
        part = min(1.0, step / settings.epsilon_steps)
        epsilon = settings.epsilon_start + part * (settings.epsilon_end - settings.epsilon_start)
        clicks, about, inputs = seen
        vectors = self.networks.vectors(self.pool, inputs)
        best, _ = self.networks.cascade(self.networks.state(clicks, about), vectors)
        drawn = torch.from_numpy(self._rng.random((len(best), len(self.pool))))
        drawn = drawn.masked_fill(inputs[..., -1] > 0, 2.0)  # shown already: last
        random = drawn.argsort(dim=1)[:, : settings.slate]
        wander = torch.from_numpy(self._rng.random(best.shape) < epsilon)
        return torch.where(wander, random, best)

    def _learn(self) -> None:
        settings = self.settings
        clicks, about, inputs, actions, rewards, *ahead, done = self._replay.draw(
            settings.batch_size, self._rng
        )
        target = rewards + settings.discount * (1 - done) * self._ahead(*ahead)
        rows = torch.arange(len(actions))[:, None]
        networks = self.networks
        chosen = networks.vectors(self.pool[actions], inputs[rows, actions])
        values = networks.along(networks.state(clicks, about), chosen)
        loss = torch.nn.functional.smooth_l1_loss(values, target[:, None].expand_as(values))
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self._targets.parameters()),
                list(networks.parameters()),
                settings.target_rate,
            )

    @torch.no_grad()
    def _ahead(self, clicks: Tensor, about: Tensor, inputs: Tensor) -> Tensor:
        targets = self._targets
        state = targets.state(clicks, about)
        if not self.settings.double:
            return targets.cascade(state, targets.vectors(self.pool, inputs))[1]
        online = self.networks
        vectors = online.vectors(self.pool, inputs)
        places, _ = online.cascade(online.state(clicks, about), vectors)
        rows = torch.arange(len(places))[:, None]
        chosen = targets.vectors(self.pool[places], inputs[rows, places])
        return targets.along(state, chosen)[:, -1]
