"""The settings of the models."""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from mfgan.names import RELATIONS


class Section(BaseModel):
    """A group of settings: frozen, and an unknown name in it is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _names_or_all(value: object) -> object:
    if value == "all":
        return value
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"must be a list of names or all, got {value!r}")
    if len(set(value)) < len(value):
        raise ValueError(f"must be named once, got {', '.join(value)}")
    return value


NamesOrAll = Annotated[tuple[str, ...] | Literal["all"], BeforeValidator(_names_or_all)]


def _are_relations(names: NamesOrAll) -> NamesOrAll:
    unknown = () if names == "all" else [name for name in names if name not in RELATIONS]
    if unknown:
        raise ValueError(f"must be of {', '.join(RELATIONS)}, got {unknown[0]!r}")
    return names


Relations = Annotated[NamesOrAll, AfterValidator(_are_relations)]


class GeneratorConfig(Section):
    """The causal self-attentive generator."""

    hidden_dim: int = Field(default=64, ge=1, description="width of embeddings and blocks")
    num_blocks: int = Field(default=2, ge=1)
    num_heads: int = Field(default=2, ge=1)
    max_len: int = Field(
        default=200, ge=1, description="a session is its last max_len interactions"
    )
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="after embedding, attention, feed-forward"
    )
    attention_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="on the attention weights"
    )
    ff_multiple: float = Field(
        default=4.0, gt=0, description="inner width of the feed-forward / hidden_dim"
    )
    activation: Literal["relu", "gelu", "swiglu"] = "gelu"
    norm: Literal["layer", "rms"] = "layer"
    norm_place: Literal["pre", "post"] = "pre"
    positions: Literal["end", "start", "none"] = Field(
        default="end",
        description="count learned positions from the session's last token or its first",
    )
    distance_bias: bool = Field(
        default=False, description="a learned attention bias by distance and head"
    )
    convolution: int = Field(
        default=0,
        ge=0,
        description="last tokens that each block convolves beside its attention; 0: none",
    )
    convolution_share: float = Field(
        default=0.7, ge=0, le=1, description="of the convolution in the mix with attention"
    )
    normalize: bool = Field(
        default=False, description="cosine logits: hidden states and items of length 1"
    )
    temperature: float = Field(default=1.0, gt=0, description="logits are divided by it")
    factors: NamesOrAll = Field(
        default=(),
        description="factors whose vectors are added to the item's own, where it is read and where "
        "it is ranked; none named: none, as published; all: every attribute of the item table that "
        "is no vector",
    )
    relations: Relations = Field(
        default=(),
        description="relations whose word is added to every logit: transition (what came straight "
        "after what) and similarity (what goes with what, of 20,000 items at most), or all; "
        "counted and weighed where the adversarial stage or its control begins, silent before",
    )
    unseen_only: bool = Field(
        default=False,
        description="probabilities are over the items that the user has not had yet, as in every "
        "ranking: in the softmax, in draws and in the policy; a true next item always counts",
    )
    init_scale: float = Field(
        default=0.02, gt=0, description="standard deviation of the embeddings"
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> "GeneratorConfig":
        if self.hidden_dim % self.num_heads:
            got = f"{self.hidden_dim} and {self.num_heads}"
            raise ValueError(f"hidden_dim must be a multiple of num_heads, got {got}")
        return self


class DiscriminatorConfig(Section):
    """The factor-specific discriminators: one tower with a factor axis."""

    factors: NamesOrAll = Field(
        default=(),
        description="factors that judge, and the relations transition (what came straight after "
        "what) and similarity (what goes with what, of 20,000 items at most); none named: all "
        "factors of the items; all: these without the id",
    )
    relation_history: int = Field(
        default=200,
        ge=1,
        description="history tokens that relations look back on, at most generator.max_len",
    )
    hidden_dim: int = Field(default=50, ge=1)
    num_blocks: int = Field(default=1, ge=1)
    num_heads: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.25, ge=0, lt=1)
    ff_multiple: float = Field(default=1.0, gt=0)
    shared: bool = Field(
        default=False,
        description="one tower's attention and feed-forward weights serve all factors, each of "
        "which keeps its embedding, its distances and its read-out",
    )
    max_history: int = Field(
        default=50,
        ge=1,
        description="history tokens that a judgement looks back on, at most generator.max_len",
    )
    combination: Literal["softmax", "learned"] = Field(
        default="softmax",
        description="weights of the factors: softmax(sharpness * probability) or learned",
    )
    sharpness: float = Field(
        default=0.0, ge=0, description="lambda: 0 is the mean, large the maximum"
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> "DiscriminatorConfig":
        if self.hidden_dim % self.num_heads:
            got = f"{self.hidden_dim} and {self.num_heads}"
            raise ValueError(f"hidden_dim must be a multiple of num_heads, got {got}")
        return self
