"""Settings of a user model."""

from typing import Literal

from pydantic import Field, model_validator

from mfgan.config import Section

Encoder = Literal["lstm", "pw", "attention"]
# Settings that some encoders alone take notice of.
ENCODERS_OF: dict[str, tuple[Encoder, ...]] = {
    "state_dim": ("lstm", "attention"),
    "band_size": ("pw",),
    "position_vectors": ("pw",),
    "position_activation": ("pw",),
    "num_heads": ("attention",),
    "num_blocks": ("attention",),
    "max_clicks": ("attention",),
}


class UserModelConfig(Section):
    """State encoder, item features and utility of a user model."""

    encoder: Encoder = "lstm"
    state_dim: int = Field(default=20, ge=1, description="width of the state; of lstm, attention")
    hidden: tuple[int, ...] = Field(default=(64, 64), description="widths of the utility's layers")
    batch_norm: bool = Field(default=False, description="batch normalisation of the utility")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="on the utility's hidden layers")
    init_scale: float = Field(default=0.1, gt=0, description="deviation of the utility's weights")
    features: tuple[str, ...] = Field(
        default=("exposure", "embedding"),
        description="of one-hot, embedding, exposure and names of factors",
    )
    embedding_dim: int = Field(default=16, ge=1)
    context: bool = Field(
        default=True, description="what the user did before with an item enters its utility"
    )
    band_size: int = Field(default=20, ge=1, description="lags of pw")
    position_vectors: int = Field(default=4, ge=1, description="weight vectors of pw")
    position_activation: bool = Field(
        default=True, description="σ and bias of pw as in the paper; off: as the authors' code"
    )
    num_heads: int = Field(default=2, ge=1, description="of attention")
    num_blocks: int = Field(default=1, ge=1, description="of attention")
    max_clicks: int = Field(default=50, ge=1, description="clicks that attention looks back on")

    @model_validator(mode="after")
    def _fits(self) -> "UserModelConfig":
        if self.encoder == "attention" and self.state_dim % self.num_heads:
            got = f"{self.state_dim} and {self.num_heads}"
            raise ValueError(f"state_dim must be a multiple of num_heads, got {got}")
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden must be widths of 1 or more, got {self.hidden}")
        return self
