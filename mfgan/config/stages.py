"""The settings of the stages, and what stages have in common."""

from typing import Literal

from pydantic import Field, model_validator

from mfgan.config.models import Section


class OptimizerConfig(Section):
    """One model's optimizer and its learning rate over time."""

    kind: Literal["adam", "adamw"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.98, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_steps: int = Field(default=0, ge=0, description="steps of linear growth from 0")
    decay: Literal["constant", "cosine"] = "constant"
    final_fraction: float = Field(default=0.0, ge=0, le=1, description="what cosine decay ends at")
    clip_norm: float = Field(
        default=1.0, ge=0, description="largest norm of all gradients together; 0: any"
    )
    average: float = Field(
        default=0.0, ge=0, lt=1, description="decay of the weights' moving average; 0: no"
    )


class StageConfig(Section):
    """What every training stage has."""

    epochs: int = Field(default=1, ge=0)
    batch_size: int = Field(default=128, ge=1, description="sessions a batch")
    token_budget: int = Field(
        default=0, ge=0, description="tokens a batch instead of sessions; 0: sessions"
    )
    history: Literal["last", "windows"] = Field(
        default="last",
        description="of histories longer than max_len, an epoch has the end, or all in windows",
    )
    evaluate_every: int = Field(default=1, ge=1, description="epochs between two validations")
    patience: int = Field(
        default=0, ge=0, description="validations without a new best that end it; 0: never"
    )


class PretrainGeneratorConfig(StageConfig):
    """Maximum likelihood on the real next items."""

    epochs: int = Field(default=100, ge=0)
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: Literal["softmax", "sampled-softmax", "gbce", "bce"] = "softmax"
    num_negatives: int = Field(
        default=256, ge=1, description="of sampled-softmax and gbce; bce has one"
    )
    gbce_t: float = Field(default=0.75, ge=0, le=1, description="gSASRec's calibration t")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="of softmax")
    negatives: Literal["uniform", "popularity"] = Field(
        default="uniform", description="what sampled-softmax draws by; gbce and bce draw uniformly"
    )
    sparse_items: bool | Literal["auto"] = Field(
        default="auto",
        description="update only the item rows that a step reads, the moments of others rest; not "
        "with softmax; auto: on a CPU from 50,000 items on, where nothing speaks against "
        "it",
    )

    @model_validator(mode="after")
    def _sparse_fits(self) -> "PretrainGeneratorConfig":
        if self.sparse_items is True and self.loss == "softmax":
            raise ValueError("sparse_items must be false with loss softmax, got true")
        if self.sparse_items is True and self.optimizer.average:
            got = self.optimizer.average
            raise ValueError(f"optimizer.average must be 0 with sparse_items, got {got}")
        return self


class CrossFitConfig(Section):
    """Generators trained without some users, to propose candidates for those."""

    folds: int = Field(
        default=0, ge=0, description="parts of the users; each has such a generator; 0: none"
    )

    @model_validator(mode="after")
    def _leaves_somebody_out(self) -> "CrossFitConfig":
        if self.folds == 1:
            raise ValueError("folds must be 0 or at least 2, got 1")
        return self


class SampleConfig(Section):
    """How the generator's candidates are drawn for the discriminators."""

    num_candidates: int = Field(default=10, ge=1)
    method: Literal["multinomial", "gumbel", "top"] = Field(
        default="multinomial",
        description="independent draws, draws without replacement, or the most probable items",
    )
    positions: int = Field(
        default=32, ge=0, description="positions a session, drawn at random; 0: the last"
    )
    exclude_target: bool = Field(
        default=True, description="the real next item is never drawn as a candidate"
    )


class PretrainDiscriminatorConfig(StageConfig):
    """Binary cross-entropy: the real next item against candidates of the generator."""

    optimizer: OptimizerConfig = OptimizerConfig()
    head_l2: float = Field(default=0.0, ge=0, description="L2 penalty on the heads")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    balanced: bool = Field(
        default=True, description="a real item counts as much as all its candidates together"
    )
    own_weight: float = Field(
        default=1.0, ge=0, description="of each factor's own binary cross-entropy"
    )
    ranking_weight: float = Field(
        default=0.0,
        ge=0,
        description="of each factor's own softmax loss over the real item and its candidates",
    )
    joint_weight: float = Field(
        default=0.0,
        ge=0,
        description="of the softmax loss of the factors' sum: each learns what the others leave",
    )
    tempered: bool = Field(
        default=False,
        description="learn beside the factors how sure the proposing generator should be, so that "
        "what it is too sure of is not theirs to say",
    )
    heldout_users: int = Field(
        default=2000, ge=1, description="users on whose validation items each factor is measured"
    )

    @model_validator(mode="after")
    def _learns_from_something(self) -> "PretrainDiscriminatorConfig":
        if not (self.own_weight or self.ranking_weight or self.joint_weight):
            raise ValueError(
                "one of own_weight, ranking_weight and joint_weight must be above 0, got all 0"
            )
        return self


class AdversarialConfig(StageConfig):
    """Turns of policy gradient on the reward and of discriminator training on fresh samples."""

    turns: int = Field(default=10, ge=0)
    generator_epochs: int = Field(default=1, ge=0, description="a turn")
    discriminator_epochs: int = Field(default=1, ge=0, description="a turn")
    generator_optimizer: OptimizerConfig = OptimizerConfig()
    discriminator_optimizer: OptimizerConfig = OptimizerConfig()
    policy: Literal["multinomial", "gumbel", "top", "likelihood"] = Field(
        default="multinomial",
        description="actions drawn independently, without replacement, the most probable ones "
        "weighted exactly; or the real items' likelihood weighted by the reward, as published",
    )
    baseline: Literal["leave-one-out", "none"] = "leave-one-out"
    num_samples: int = Field(
        default=4,
        ge=1,
        description="actions drawn at each position; top has no more than all items",
    )
    contexts: Literal["training", "ends"] = Field(
        default="training",
        description="rewards are earned at the positions that likelihood trains, or at the end of "
        "each training part alone: what follows there no stage has learned from, as in use",
    )
    positions: int = Field(
        default=0,
        ge=0,
        description="training positions a session that earn a reward, at random; 0: all",
    )
    policy_weight: float = Field(default=1.0, ge=0, description="of the policy gradient")
    mle_weight: float = Field(
        default=0.5, ge=0, description="share of maximum likelihood in the loss"
    )
    entropy_weight: float = Field(default=0.0, ge=0)
    anchor_weight: float = Field(
        default=0.1, ge=0, description="of the divergence from the first generator"
    )
    dropout: bool = Field(
        default=False,
        description="whether the generator drops out while it learns from rewards: drawn so, its "
        "actions are another policy's, and an anchor that does not drop out sharpens it",
    )
    reward: Literal["probability", "log-odds", "calibrated"] = Field(
        default="probability",
        description="the factors' combined chance, their weighted log-odds, or their log-odds by "
        "weights that are fitted on validation items before the first turn; factors that say no "
        "more than chance there weigh nothing",
    )

    relation_weights: Literal["fitted", "zero"] = Field(
        default="fitted",
        description="of generator.relations when the stage begins, and its control: fitted to "
        "validation items by likelihood; or 0, to be learned from the judges alone",
    )

    @model_validator(mode="after")
    def _is_as_long_as_its_turns(self) -> "AdversarialConfig":
        if self.epochs != 1:
            raise ValueError(
                "epochs must be left at 1, turns, generator_epochs and discriminator_epochs say "
                f"how long it trains, got {self.epochs}"
            )
        return self

    @model_validator(mode="after")
    def _others_to_leave_out(self) -> "AdversarialConfig":
        if self.num_samples > 1:
            return self
        if self.policy == "top":
            # The mean over one candidate is its own reward.
            raise ValueError("num_samples must be at least 2 for policy top, got 1")
        if self.policy in ("multinomial", "gumbel") and self.baseline == "leave-one-out":
            raise ValueError("num_samples must be at least 2 for the leave-one-out baseline, got 1")
        return self

    @model_validator(mode="after")
    def _ends_have_no_targets(self) -> "AdversarialConfig":
        if self.contexts == "ends":
            if self.mle_weight:
                raise ValueError(f"mle_weight must be 0 with contexts ends, got {self.mle_weight}")
            if self.policy == "likelihood":
                raise ValueError("policy must be another with contexts ends, got likelihood")
            if self.positions:
                raise ValueError(f"positions must be 0 with contexts ends, got {self.positions}")
            if self.history != "last":
                raise ValueError(f"history must be last with contexts ends, got {self.history}")
        return self


class CalibrateConfig(Section):
    """Fits of what the discriminators say, on validation items."""

    users: int = Field(default=20_000, ge=0, description="drawn once; 0: all")
    only_sure: bool = Field(
        default=False,
        description="leave factors that say no more than chance out of the ranking",
    )
    top_k: int = Field(default=200, ge=2, description="the generator's best items are re-ranked")


# What it takes where there are no validation items: what is fitted to them goes too.
UNVALIDATED = (
    "train without validation by --set selection.enabled=false --set adversarial.reward=log-odds "
    "--set adversarial.relation_weights=zero"
)


class SelectionConfig(Section):
    """How validation chooses the weights a stage hands on."""

    enabled: bool = Field(
        default=True, description="off: validation items are not looked at, the last wins"
    )
    metric: str = "NDCG@10"
    users: int = Field(
        default=0, ge=0, description="validate on this many users, drawn once; 0: on all"
    )
