"""The user's state after each click: LSTM, position weights; for attention see `user_attention`."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mfgan.data.displays.batch import ClickHistory
from mfgan.errors import MfganError
from mfgan.models.item_features import FeatureLinear, ItemFeatures

_WIDEST_POSITION_WEIGHTS = 20_000


@dataclass
class Carry:
    """What an encoder keeps of many users between two steps of the simulator.

    Args:
        hidden: ``(num_users, state_dim)`` the state as it is read.
        cell: ``(num_users, state_dim)``, of the LSTM alone.
        window: ``(num_users, width)`` int64 clicks, oldest first, of the other encoders.
        lengths: ``(num_users,)`` int64 how many clicks ``window`` holds.
    """

    hidden: Tensor
    cell: Tensor | None = None
    window: Tensor | None = None
    lengths: Tensor | None = None


class StateEncoder(nn.Module):
    """Turns click histories into states; each token's state knows what came up to it alone."""

    state_dim: int

    def forward(self, features: ItemFeatures, history: ClickHistory, rng: Tensor | None) -> Tensor:
        """``(total_tokens, state_dim)``: the state after each token.

        Args:
            features: Of the items.
            history: Clicks, end to end.
            rng: ``(2,)`` int64 of dropout, or none.
        """
        raise NotImplementedError

    def begin(self, features: ItemFeatures, num_users: int) -> Carry:
        """Users who have clicked nothing yet."""
        raise NotImplementedError

    def advance(self, features: ItemFeatures, carry: Carry, items: Tensor) -> Carry:
        """The users after one more step.

        Args:
            features: Of the items.
            carry: The users before.
            items: ``(num_users,)`` int64 what each clicked; 0 for nothing.
        """
        raise NotImplementedError


class LSTMState(StateEncoder):
    """An LSTM over the features of clicked items (Chen et al., section 4.1)."""

    def __init__(self, features: ItemFeatures, state_dim: int) -> None:
        super().__init__()
        self.state_dim = state_dim
        self.inputs = FeatureLinear(features, 4 * state_dim)
        self.recurrent = nn.Linear(state_dim, 4 * state_dim)
        nn.init.orthogonal_(self.recurrent.weight)
        with torch.no_grad():
            self.recurrent.bias.zero_()
            self.recurrent.bias[state_dim : 2 * state_dim] = 1.0  # remember at first

    def _cell(self, gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        take, keep, new, out = gates.chunk(4, dim=1)
        cell = keep.sigmoid() * cell + take.sigmoid() * new.tanh()
        return out.sigmoid() * cell.tanh(), cell

    def forward(self, features: ItemFeatures, history: ClickHistory, rng: Tensor | None) -> Tensor:
        device = history.items.device
        lengths = torch.from_numpy(history.lengths)
        order = torch.argsort(lengths, descending=True, stable=True)
        sorted_lengths = lengths[order]
        starts = (lengths.cumsum(0) - lengths)[order]
        hidden = torch.zeros(len(lengths), self.state_dim, device=device)
        cell, states, places = hidden, [hidden], [starts]
        # The longest first: those still running at a step are the first rows.
        for step in range(1, int(sorted_lengths[0]) if len(lengths) else 1):
            running = int((sorted_lengths > step).sum())
            at = starts[:running] + step
            gates = self.inputs(features, history.items[at.to(device)])
            gates = gates + self.recurrent(hidden[:running])
            hidden, cell = self._cell(gates, cell[:running])
            states.append(hidden)
            places.append(at)
        inverse = torch.argsort(torch.cat(places)).to(device)
        return torch.cat(states)[inverse]

    def begin(self, features: ItemFeatures, num_users: int) -> Carry:
        zeros = torch.zeros(num_users, self.state_dim, device=features.dense.device)
        return Carry(zeros, cell=zeros)

    def advance(self, features: ItemFeatures, carry: Carry, items: Tensor) -> Carry:
        assert carry.cell is not None
        gates = self.inputs(features, items) + self.recurrent(carry.hidden)
        hidden, cell = self._cell(gates, carry.cell)
        clicked = (items > 0)[:, None]
        return Carry(
            torch.where(clicked, hidden, carry.hidden), torch.where(clicked, cell, carry.cell)
        )


class WindowState(StateEncoder):
    """An encoder that is run again over the last clicks at each step of the simulator."""

    width: int

    def begin(self, features: ItemFeatures, num_users: int) -> Carry:
        device = features.dense.device
        none = torch.zeros(num_users, dtype=torch.int64, device=device)
        window = torch.zeros(num_users, self.width, dtype=torch.int64, device=device)
        begin = torch.zeros(1, dtype=torch.int64, device=device)
        start = ClickHistory.from_windows(window[:1, :0], begin)
        hidden = self._last(features, start).expand(num_users, -1)
        return Carry(hidden, window=window, lengths=none)

    def _last(self, features: ItemFeatures, history: ClickHistory) -> Tensor:
        return self.forward(features, history, None)[history.cu_seqlens[1:].long() - 1]

    def advance(self, features: ItemFeatures, carry: Carry, items: Tensor) -> Carry:
        assert carry.window is not None
        assert carry.lengths is not None
        clicked = items > 0
        full = clicked & (carry.lengths == self.width)
        moved = torch.where(full[:, None], carry.window.roll(-1, dims=1), carry.window)
        place = torch.where(full, self.width - 1, carry.lengths).clamp_max(self.width - 1)
        kept = moved.gather(1, place[:, None])[:, 0]
        window = moved.scatter(1, place[:, None], torch.where(clicked, items, kept)[:, None])
        lengths = (carry.lengths + clicked).clamp_max(self.width)
        history = ClickHistory.from_windows(window, lengths)
        return Carry(self._last(features, history), window=window, lengths=lengths)


class PositionWeightState(WindowState):
    """``vec(σ(F W + B))``, F the features of the last clicks (Chen et al., section 4.1).

    Args:
        features: Of the items.
        num_vectors: n, the weight vectors.
        width: m, the lags each looks back.
        activation: σ (ELU) and B as in the paper; off as in the authors' code.
    """

    def __init__(
        self, features: ItemFeatures, num_vectors: int, width: int, *, activation: bool
    ) -> None:
        super().__init__()
        self.state_dim, self.width = num_vectors * features.dim, width
        if self.state_dim > _WIDEST_POSITION_WEIGHTS:
            raise MfganError(
                f"user model: position weights make a state of {self.state_dim:,} numbers, more"
                f" than {_WIDEST_POSITION_WEIGHTS:,}; leave one-hot out of features, or take fewer"
                " vectors"
            )
        self.weight = nn.Parameter(torch.full((width, num_vectors), 1e-4))
        with torch.no_grad():
            self.weight.add_(torch.randn(self.weight.shape) * 1e-2)
        self.bias = nn.Parameter(torch.zeros(num_vectors, features.dim)) if activation else None

    def forward(self, features: ItemFeatures, history: ClickHistory, rng: Tensor | None) -> Tensor:
        items, num_vectors = history.items, self.weight.shape[1]
        total = len(items)
        dense_at = features.num_items + 1 if features.one_hot else 0
        lengths = history.cu_seqlens.diff().long()
        place = torch.arange(total, device=items.device)
        place = place - torch.repeat_interleave(history.cu_seqlens[:-1].long(), lengths)
        state = torch.zeros(total, num_vectors, features.dim, device=items.device)
        vectors = torch.arange(num_vectors, device=items.device)
        longest = int(history.lengths.max(initial=1)) - 1
        for lag in range(min(self.width, longest)):
            tokens = torch.nonzero(place > lag)[:, 0]
            clicked = items[tokens - lag]
            if features.one_hot:
                index = (tokens[:, None], vectors, clicked[:, None])
                values = self.weight[lag].expand(len(tokens), -1)
                state = state.index_put(index, values, accumulate=True)
            if features.narrow_dim:
                vector = features.narrow(clicked)[:, None] * self.weight[lag][:, None]
                state[..., dense_at:] = state[..., dense_at:].index_add(0, tokens, vector)
        if self.bias is not None:
            state = F.elu(state + self.bias)
        return state.flatten(1)
