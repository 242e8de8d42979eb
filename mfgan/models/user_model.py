"""A user: the state of her clicks, and the utility of each item she is shown."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mfgan.config import GeneratorConfig
from mfgan.data.displays.batch import CONTEXT_FEATURES, EventBatch
from mfgan.data.displays.dataset import DisplayDataset
from mfgan.models.item_features import EMBEDDING, EXPOSURE, ONE_HOT, FeatureLinear, ItemFeatures
from mfgan.models.user_attention import AttentionState
from mfgan.models.user_model_config import UserModelConfig
from mfgan.models.user_state import LSTMState, PositionWeightState, StateEncoder
from mfgan.ops import dropout_residual

_FIRST_SITE = 100  # dropout sites of the utility; the encoder's blocks have those below


class UserModel(nn.Module):
    """``r(s, a) = MLP([s; f_a])`` over items of a display (Chen et al., ICML 2019, section 4.1).

    The MLP's first layer is kept in parts: that of the state is computed once a display, that of
    the one-hot feature is a row of a table.

    Args:
        config: Its settings.
        features: Of the items.
    """

    def __init__(self, config: UserModelConfig, features: ItemFeatures) -> None:
        super().__init__()
        self.config = config
        self.features = features
        self.encoder = _encoder(config, features)
        widths = (*config.hidden, 1)
        self.from_state = nn.Linear(self.encoder.state_dim, widths[0])
        self.from_item = FeatureLinear(features, widths[0], scale=config.init_scale)
        self.from_context = (
            nn.Linear(len(CONTEXT_FEATURES), widths[0], bias=False) if config.context else None
        )
        self.layers = nn.ModuleList(nn.Linear(width, to) for width, to in pairwise(widths))
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(width) for width in (config.hidden if config.batch_norm else ())
        )
        linears = [self.from_state, self.from_context, *self.layers]
        for linear in linears:
            if isinstance(linear, nn.Linear):
                nn.init.trunc_normal_(linear.weight, std=config.init_scale)
                if linear.bias is not None:
                    nn.init.zeros_(linear.bias)

    def states(self, batch: EventBatch, *, rng: Tensor | None = None) -> Tensor:
        """``(num_events, state_dim)``: the state in which each display was seen."""
        after: Tensor = self.encoder(self.features, batch.history, rng)
        return after[batch.states]

    def forward(self, batch: EventBatch, *, rng: Tensor | None = None) -> Tensor:
        """``(num_rows,)`` utility of every displayed row.

        Args:
            batch: Displays.
            rng: ``(2,)`` int64, seed and step of dropout; none draws nothing.
        """
        states = self.states(batch, rng=rng)
        return self.utilities(states, batch.items, batch.events, batch.context, rng=rng)

    def utilities(
        self,
        states: Tensor,
        items: Tensor,
        events: Tensor,
        context: Tensor,
        *,
        rng: Tensor | None = None,
    ) -> Tensor:
        """Utility of items in states.

        Args:
            states: ``(num_events, state_dim)``.
            items: ``(num_rows,)`` int64.
            events: ``(num_rows,)`` int64 which state each is seen in.
            context: ``(num_rows, 3)`` float32, see `EventBatch`.
            rng: ``(2,)`` int64 of dropout, or none.

        Returns:
            ``(num_rows,)`` float32.
        """
        x = self.from_state(states).index_select(0, events) + self.from_item(self.features, items)
        if self.from_context is not None:
            x = x + self.from_context(context)
        for place, layer in enumerate(self.layers):
            if self.norms:
                x = self.norms[place](x)
            x = dropout_residual(
                F.elu(x),
                None,
                dropout_p=self.config.dropout,
                rng=rng,
                site=_FIRST_SITE + place,
            )
            x = layer(x)
        utility: Tensor = x.squeeze(1)
        return utility


def _encoder(config: UserModelConfig, features: ItemFeatures) -> StateEncoder:
    if config.encoder == "lstm":
        return LSTMState(features, config.state_dim)
    if config.encoder == "pw":
        return PositionWeightState(
            features,
            config.position_vectors,
            config.band_size,
            activation=config.position_activation,
        )
    settings = GeneratorConfig(
        hidden_dim=config.state_dim,
        num_heads=config.num_heads,
        num_blocks=config.num_blocks,
        max_len=config.max_clicks,
        dropout=config.dropout,
        attention_dropout=config.dropout,
        ff_multiple=2.0,
    )
    return AttentionState(features, settings)


def build_user_model(
    config: UserModelConfig,
    dataset: DisplayDataset,
    *,
    users: np.ndarray,
    seed: int,
    stage: int = 0,
) -> UserModel:
    """A user model with its weights drawn from a seed.

    Args:
        config: Its settings.
        dataset: The displays; its factors are looked up by name.
        users: ``(n,)`` int64 training users: exposure is counted among them alone.
        seed: Of the weights.
        stage: Keeps the draws of two models of one run apart.

    Raises:
        MfganError: A feature is not there.
    """
    known = (ONE_HOT, EMBEDDING, EXPOSURE)
    factors = [dataset.factor(name) for name in config.features if name not in known]
    shown, _ = dataset.counts(users)
    # torch initialises from the global generator; the caller's is put back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.default_rng([seed, 0x05E7, stage]).integers(1 << 62)))
        features = ItemFeatures(
            config.features,
            dataset.num_items,
            shown=shown,
            factors=factors,
            embedding_dim=config.embedding_dim,
        )
        return UserModel(config, features)
