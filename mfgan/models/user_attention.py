"""The user's state after each click by self-attention over the last ones."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mfgan.config import GeneratorConfig
from mfgan.data.displays.batch import ClickHistory
from mfgan.models.item_features import FeatureLinear, ItemFeatures
from mfgan.models.layers import Block
from mfgan.models.user_state import WindowState

_TOKENS_AT_ONCE = 1 << 16  # of windows that are looked back on


class AttentionState(WindowState):
    """Causal self-attention over the clicks, the token 0 standing for "nothing clicked yet".

    Args:
        features: Of the items.
        settings: Widths of the blocks, and how many clicks are looked back on (``max_len``).
    """

    def __init__(self, features: ItemFeatures, settings: GeneratorConfig) -> None:
        super().__init__()
        self.state_dim, self.width = settings.hidden_dim, settings.max_len
        self.inputs = FeatureLinear(features, settings.hidden_dim)
        self.positions = nn.Embedding(settings.max_len + 1, settings.hidden_dim)
        nn.init.normal_(self.positions.weight, std=0.1)
        self.blocks = nn.ModuleList(Block(settings, n) for n in range(settings.num_blocks))
        self.norm = nn.LayerNorm(settings.hidden_dim)

    def forward(self, features: ItemFeatures, history: ClickHistory, rng: Tensor | None) -> Tensor:
        bounds = history.cu_seqlens.long()
        starts = torch.repeat_interleave(bounds[:-1], bounds.diff())
        place = torch.arange(len(history.items), device=history.items.device) - starts
        x = self.inputs(features, history.items)
        longest = int(history.lengths.max(initial=1))
        if longest <= self.width + 1:
            return self._attended(x + self.positions(place), history.cu_seqlens, longest, rng)
        # A history is one session up to `width` clicks.
        inside = place <= self.width
        early, late = torch.nonzero(inside)[:, 0], torch.nonzero(~inside)[:, 0]
        ends = F.pad(bounds.diff().clamp_max(self.width + 1).cumsum(0), (1, 0)).int()
        before = x[early] + self.positions(place[early])
        states = [self._attended(before, ends, self.width + 1, rng)]
        at_once = 1 + _TOKENS_AT_ONCE // (self.width + 1)
        for number, tokens in enumerate(torch.split(late, at_once), 1):
            # Windows are `width` times as large as what they are cut from, so each piece is
            # computed again in the backward pass. Rows count from zero in each: other seeds keep
            # their masks apart.
            own = None if rng is None else torch.stack([rng[0] + number, rng[1]])
            states.append(
                checkpoint(
                    self._behind,
                    x,
                    tokens,
                    starts[tokens],
                    own,
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
            )
        return torch.cat(states)[torch.cat([early, late]).argsort()]

    def _behind(self, x: Tensor, tokens: Tensor, starts: Tensor, rng: Tensor | None) -> Tensor:
        """States of tokens behind a full window, each the end of a session of its own.

        That is the token 0 and the last clicks, as in `advance`.
        """
        window = torch.arange(self.width + 1, device=x.device)
        clicks = torch.where(window > 0, tokens[:, None] - self.width + window, starts[:, None])
        bounds = torch.arange(len(tokens) + 1, device=x.device) * (self.width + 1)
        x = x.index_select(0, clicks.flatten()) + self.positions(window.repeat(len(tokens)))
        return self._attended(x, bounds.int(), self.width + 1, rng, bounds[1:] - 1)

    def _attended(
        self,
        x: Tensor,
        cu_seqlens: Tensor,
        longest: int,
        rng: Tensor | None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        for block in self.blocks[:-1]:
            x = block(x, cu_seqlens, longest, rng)
        normed: Tensor = self.norm(self.blocks[-1](x, cu_seqlens, longest, rng, wanted))
        return normed
