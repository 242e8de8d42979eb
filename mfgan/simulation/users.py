"""Many simulated users, stepped together through one forward pass of a learned user model."""

from typing import Literal, get_args

import torch
from torch import Tensor

from mfgan.errors import MfganError
from mfgan.models.user_model import UserModel
from mfgan.models.user_state import Carry
from mfgan.simulation.session import SessionRule, StepResult
from mfgan.training.user_model.stages import LearnedUser

RewardKind = Literal["gain", "utility", "click"]
REWARDS: tuple[str, ...] = get_args(RewardKind)

_REFERENCES = 64  # items that a gain is measured against


class SimulatedUsers:
    """Users who choose as a learned model says.

    Args:
        user: The learned user.
        num_users: How many at once.
        session: How long each stays.
        reward: ``utility``: r of the clicked item, 0 for no click (the paper's reward).
            ``gain``: r of the clicked item less the mean r of 64 items of the catalogue at that
            moment. Where every logged display has a click, r is known only up to a constant that
            depends on the state; a policy rewarded with r itself would seek states of a high
            constant, which no log can confirm. ``click``: 1 for a click.
        seed: Of clicks and lengths.

    Attributes:
        steps: ``(num_users,)`` int64 displays so far in the session.
        shown: ``(num_users, limit, width)`` int64 item_idx shown at each step; ``width`` grows to
            the largest display seen.
        clicked: ``(num_users, limit)`` int64 clicks of each step, 0 for none.
    """

    def __init__(
        self,
        user: LearnedUser,
        num_users: int,
        *,
        session: SessionRule = SessionRule(),
        reward: RewardKind = "utility",
        seed: int = 0,
    ) -> None:
        if num_users < 1:
            raise MfganError(f"simulation: num_users must be 1 or more, got {num_users}")
        if reward not in REWARDS:
            raise MfganError(
                f"simulation: reward must be one of {', '.join(REWARDS)}, got {reward!r}"
            )
        self.user, self.num_users = user.eval(), num_users
        self.session, self.reward = session, reward
        self.device = user.reward.features.dense.device
        self.num_items = user.reward.features.num_items
        self._models: dict[str, UserModel] = {"reward": user.reward}
        if user.policy is not None:
            self._models["policy"] = user.policy
        self._carries: dict[str, Carry] = {}
        spread = torch.linspace(1, self.num_items, min(_REFERENCES, self.num_items))
        self._references = spread.round().long().to(self.device).expand(num_users, -1)
        self.seed(seed)
        self.reset()

    def seed(self, seed: int) -> None:
        """Start the draws of clicks and lengths anew."""
        self._generator = torch.Generator(self.device).manual_seed(seed)

    @torch.no_grad()
    def reset(self, which: Tensor | None = None) -> None:
        """Begin new sessions.

        Args:
            which: ``(num_users,)`` bool; all if not given.
        """
        fresh = {
            name: model.encoder.begin(model.features, self.num_users)
            for name, model in self._models.items()
        }
        if which is None:
            limit, device = self.session.limit, self.device
            self._carries = fresh
            self.steps = torch.zeros(self.num_users, dtype=torch.int64, device=device)
            self.shown = torch.zeros(self.num_users, limit, 1, dtype=torch.int64, device=device)
            self.clicked = torch.zeros(self.num_users, limit, dtype=torch.int64, device=device)
            self._left = torch.zeros(self.num_users, dtype=torch.bool, device=device)
            return
        self._carries = {
            name: _where(which, fresh[name], carry) for name, carry in self._carries.items()
        }
        self.steps = self.steps.masked_fill(which, 0)
        self.shown[which] = 0
        self.clicked[which] = 0
        self._left = self._left & ~which

    def state(self) -> Tensor:
        """``(num_users, state_dim)``: the state of the model that chooses."""
        name = "policy" if "policy" in self._models else "reward"
        return self._carries[name].hidden

    def last_clicks(self, count: int) -> Tensor:
        """``(num_users, count)`` int64 last clicks, the newest last, 0 where there are fewer."""
        place = torch.arange(self.clicked.shape[1], device=self.device)
        order = torch.where(self.clicked > 0, place, -1).sort(dim=1).indices[:, -count:]
        found = self.clicked.gather(1, order)
        missing = count - found.shape[1]
        return torch.nn.functional.pad(found, (missing, 0)) if missing > 0 else found

    def context(self, items: Tensor) -> Tensor:
        """What each user did with items before, as the user model takes it.

        Args:
            items: ``(num_users, n)`` int64.

        Returns:
            ``(num_users, n, 3)`` float32, see `EventBatch`.
        """
        done = max(int(self.steps.max()), 1)
        shown = self.shown[:, :done].flatten(1)
        clicked = self.clicked[:, :done]
        last = self.last_clicks(1)
        counts = (items[:, :, None] == clicked[:, None]).sum(2)
        seen = (items[:, :, None] == shown[:, None]).sum(2)
        real = items > 0
        parts = [(counts * real).log1p(), ((items == last) & real).float(), (seen * real).log1p()]
        return torch.stack(parts, dim=2)

    def utilities(self, items: Tensor, *, of: str = "reward") -> Tensor:
        """``(num_users, n)`` utility of items to each user as she is now.

        Args:
            items: ``(num_users, n)`` int64.
            of: ``reward``, or ``policy`` where the user has one.
        """
        owner = torch.arange(len(items), device=self.device).repeat_interleave(items.shape[1])
        context = self.context(items).flatten(0, 1)
        model, hidden = self._models[of], self._carries[of].hidden
        return model.utilities(hidden, items.flatten(), owner, context).view(items.shape)

    @torch.no_grad()
    def step(self, items: Tensor) -> StepResult:
        """Show every user a set of items.

        Args:
            items: ``(num_users, k)`` int64 item_idx from 1; an item named twice is shown once.

        Returns:
            What happened. Users who are done stay so until ``reset``, terminated or truncated as
            they were; they still click and are rewarded, which is for the caller to leave out.

        Raises:
            MfganError: An item is not of the catalogue, or the shape is wrong.
        """
        if items.dim() != 2 or items.shape[0] != self.num_users or items.shape[1] == 0:
            raise MfganError(
                f"simulation: items must be ({self.num_users}, k), got {tuple(items.shape)}"
            )
        if int(items.min()) < 1 or int(items.max()) > self.num_items:
            raise MfganError(f"simulation: items must be within 1..{self.num_items}")
        items = torch.where(_repeated(items), 0, items)
        chooser = "policy" if "policy" in self._models else "reward"
        chosen = self._click(items, self.utilities(items, of=chooser))
        rewards = (chosen > 0).float()
        if self.reward != "click":
            gains = self.utilities(chosen[:, None])[:, 0]
            if self.reward == "gain":
                gains = gains - self.utilities(self._references).mean(1)
            rewards = torch.where(chosen > 0, gains, 0.0)
        self._remember(items, chosen)
        for name, model in self._models.items():
            self._carries[name] = model.encoder.advance(model.features, self._carries[name], chosen)
        terminated, truncated = self._over()
        return StepResult(chosen, rewards, terminated, truncated)

    def _click(self, items: Tensor, utilities: Tensor) -> Tensor:
        """``(num_users,)`` the item that each user clicks, 0 for none."""
        present = items > 0
        sizes = present.sum(1)
        offsets = torch.zeros(self.num_users + 1, dtype=torch.int64, device=self.device)
        offsets[1:] = sizes.cumsum(0)
        owner = torch.arange(self.num_users, device=self.device).repeat_interleave(sizes)
        choice = self.user.choice(utilities[present], offsets, owner)
        table = torch.zeros_like(utilities)
        table[present] = choice.rows
        drawn = torch.rand(self.num_users, 1, generator=self._generator, device=self.device)
        place = (table.cumsum(1) <= drawn).sum(1)
        padded = torch.cat([items, torch.zeros_like(items[:, :1])], dim=1)
        return padded.gather(1, place[:, None])[:, 0]

    def _remember(self, items: Tensor, chosen: Tensor) -> None:
        wider = items.shape[1] - self.shown.shape[2]
        if wider > 0:
            self.shown = torch.nn.functional.pad(self.shown, (0, wider))
        elif wider < 0:
            items = torch.nn.functional.pad(items, (0, -wider))
        everyone = torch.arange(self.num_users, device=self.device)
        at = self.steps.clamp_max(self.session.limit - 1)
        self.shown[everyone, at] = items
        self.clicked[everyone, at] = chosen
        self.steps = self.steps + 1

    def _over(self) -> tuple[Tensor, Tensor]:
        truncated = self.steps >= self.session.limit
        if self.session.kind == "fixed":
            return self._left, truncated
        drawn = torch.rand(self.num_users, generator=self._generator, device=self.device)
        # Whose session has reached its length cannot leave it any more.
        leaves = (drawn < 1 / self.session.length) & (self.steps <= self.session.limit)
        self._left = self._left | leaves
        return self._left, truncated


def _repeated(items: Tensor) -> Tensor:
    """``(num_users, k)`` bool: the item stands further left already."""
    same = items[:, :, None] == items[:, None, :]
    return same.tril(-1).any(2)


def _where(which: Tensor, fresh: Carry, old: Carry) -> Carry:
    def pick(new: Tensor | None, kept: Tensor | None) -> Tensor | None:
        if new is None or kept is None:
            return None
        return torch.where(which.view(-1, *[1] * (new.dim() - 1)), new, kept)

    hidden = pick(fresh.hidden, old.hidden)
    assert hidden is not None
    return Carry(
        hidden,
        pick(fresh.cell, old.cell),
        pick(fresh.window, old.window),
        pick(fresh.lengths, old.lengths),
    )
