"""The learned user as a Gymnasium environment, alone and as a true batch."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from mfgan.errors import MfganError
from mfgan.simulation.session import SessionRule
from mfgan.simulation.users import RewardKind, SimulatedUsers
from mfgan.training.user_model.stages import LearnedUser

Array = np.ndarray
WINDOW = 10


def _spaces(
    users: SimulatedUsers, num_actions: int, slate: int, observation: str, window: int
) -> tuple[gym.Space[Any], gym.Space[Any]]:
    if observation == "clicks":
        seen: gym.Space[Any] = gym.spaces.MultiDiscrete([users.num_items + 1] * window)
    elif observation == "state":
        bound = np.full(users.state().shape[1], np.inf, np.float32)
        seen = gym.spaces.Box(-bound, bound, dtype=np.float32)
    else:
        raise MfganError(f"environment: observation must be clicks or state, got {observation!r}")
    if slate < 1:
        raise MfganError(f"environment: slate must be 1 or more, got {slate}")
    if slate == 1:
        return seen, gym.spaces.Discrete(num_actions)
    return seen, gym.spaces.MultiDiscrete([num_actions] * slate)


class _Shared:
    """What the two environments have in common.

    Args:
        users: The simulated users.
        pool: ``(n,)`` int64 item_idx; action a shows ``pool[a]``.
        window: Clicks in an observation.
        observation: ``clicks`` or ``state``.
    """

    def __init__(
        self, users: SimulatedUsers, pool: torch.Tensor, window: int, observation: str
    ) -> None:
        self.users, self.pool = users, pool
        self._window, self._observation = window, observation

    def observe(self) -> Array:
        if self._observation == "state":
            return self.users.state().float().cpu().numpy().copy()
        return self.users.last_clicks(self._window).cpu().numpy()

    def items(self, actions: Array) -> torch.Tensor:
        chosen = torch.as_tensor(np.asarray(actions, np.int64).reshape(self.users.num_users, -1))
        if int(chosen.min()) < 0 or int(chosen.max()) >= len(self.pool):
            raise MfganError(f"environment: actions must be within 0..{len(self.pool) - 1}")
        return self.pool[chosen]


class RecommendationEnv(gym.Env[Array, Array]):
    """One user. An action is a set of ``slate`` items, an observation her last clicks.

    Args:
        user: The learned user.
        pool: ``(n,)`` int64 item_idx that may be shown; action a stands for ``pool[a]``.
        slate: k, items a display; 1 makes actions ``Discrete``.
        session: How long a session lasts: ``fixed`` ends by truncation, ``geometric`` by the user
            leaving (termination).
        reward: ``utility`` or ``click``.
        observation: ``clicks``: the last ``window`` clicked items, the newest last, 0 for none.
            ``state``: the state of the user model, a vector.
        window: Clicks in an observation.

    Example:
        >>> env = RecommendationEnv(run.user(), pool, slate=3)
        >>> observation, info = env.reset(seed=0)
        >>> observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - the name and form are Gymnasium's

    def __init__(
        self,
        user: LearnedUser,
        pool: torch.Tensor,
        *,
        slate: int = 1,
        session: SessionRule = SessionRule(),
        reward: RewardKind = "utility",
        observation: str = "clicks",
        window: int = WINDOW,
    ) -> None:
        users = SimulatedUsers(user, 1, session=session, reward=reward)
        self._shared = _Shared(users, pool, window, observation)
        self.observation_space, self.action_space = _spaces(
            users, len(pool), slate, observation, window
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin a session; the seed makes it and those after it repeatable."""
        super().reset(seed=seed)
        if seed is not None:
            self._shared.users.seed(seed)
        self._shared.users.reset()
        return self._shared.observe()[0], {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Show items; ``info["click"]`` is the item_idx clicked, 0 for none."""
        result = self._shared.users.step(self._shared.items(action))
        info = {"click": int(result.clicks[0])}
        done = bool(result.terminated[0]), bool(result.truncated[0])
        return self._shared.observe()[0], float(result.rewards[0]), *done, info


class RecommendationVectorEnv(VectorEnv[Array, Array, Array]):
    """Thousands of users, all stepped in one forward pass.

    A session that ended is reset by the next step, whose action for it is ignored and whose reward
    is 0 (``AutoresetMode.NEXT_STEP``).

    Args:
        user: The learned user.
        pool: ``(n,)`` int64 item_idx that may be shown.
        num_envs: Users.
        slate: k, items a display.
        session: How long a session lasts.
        reward: ``utility`` or ``click``.
        observation: ``clicks`` or ``state``.
        window: Clicks in an observation.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        user: LearnedUser,
        pool: torch.Tensor,
        num_envs: int,
        *,
        slate: int = 1,
        session: SessionRule = SessionRule(),
        reward: RewardKind = "utility",
        observation: str = "clicks",
        window: int = WINDOW,
    ) -> None:
        users = SimulatedUsers(user, num_envs, session=session, reward=reward)
        self._shared = _Shared(users, pool, window, observation)
        self.num_envs = num_envs
        one, act = _spaces(users, len(pool), slate, observation, window)
        self.single_observation_space, self.single_action_space = one, act
        self.observation_space = batch_space(one, num_envs)
        self.action_space = batch_space(act, num_envs)
        self._ended = torch.zeros(num_envs, dtype=torch.bool)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin a session for every user.

        Args:
            seed: One seed for the whole batch, whose draws are made together.
            options: Not used.

        Raises:
            MfganError: A list of seeds is given.
        """
        if isinstance(seed, list):
            raise MfganError("environment: seed must be one number for the whole batch, got a list")
        super().reset(seed=seed)
        if seed is not None:
            self._shared.users.seed(seed)
        self._shared.users.reset()
        self._ended = torch.zeros_like(self._ended)
        return self._shared.observe(), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Show items to all; ``info["click"]`` holds the item_idx clicked, 0 for none."""
        users, fresh = self._shared.users, self._ended
        result = users.step(self._shared.items(actions))
        if bool(fresh.any()):
            users.reset(fresh)  # after the step, whose effect on them this undoes
        rewards = torch.where(fresh, 0.0, result.rewards)
        terminated, truncated = result.terminated & ~fresh, result.truncated & ~fresh
        self._ended = terminated | truncated
        info = {"click": torch.where(fresh, 0, result.clicks).cpu().numpy()}
        return (
            self._shared.observe(),
            rewards.double().cpu().numpy(),
            terminated.cpu().numpy(),
            truncated.cpu().numpy(),
            info,
        )
