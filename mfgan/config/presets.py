"""The settings of each preset, as TOML."""

from typing import Literal, get_args

Preset = Literal["tuned", "paper"]
PRESETS: tuple[str, ...] = get_args(Preset)

# As published (Ren et al., SIGIR 2020, and the authors' code where the paper is silent), with the
# code's defects mended: validation selects, and neither its items nor the test's reach a stage.
_PAPER = """
[generator]
hidden_dim = 50
num_blocks = 2
num_heads = 2
max_len = 50
dropout = 0.2
attention_dropout = 0.2
ff_multiple = 1.0
activation = "relu"

[discriminator]
hidden_dim = 50
num_blocks = 1
num_heads = 2
dropout = 0.25
ff_multiple = 1.0
max_history = 50
sharpness = 0.0

[sample]
num_candidates = 10
method = "top"
positions = 0

[pretrain_generator]
epochs = 400
batch_size = 128
loss = "bce"
evaluate_every = 10
optimizer = {kind = "adam", learning_rate = 1e-3, beta2 = 0.98, clip_norm = 0}

[pretrain_discriminator]
epochs = 1
batch_size = 16
head_l2 = 0.2
balanced = false
optimizer = {kind = "adam", learning_rate = 1e-3, beta2 = 0.98, clip_norm = 0}

[adversarial]
turns = 100
generator_epochs = 80
discriminator_epochs = 1
batch_size = 128
policy = "likelihood"
dropout = true
baseline = "none"
num_samples = 1
mle_weight = 0.0
anchor_weight = 0.0
generator_optimizer = {kind = "adam", learning_rate = 1e-3, beta2 = 0.98, clip_norm = 0}
discriminator_optimizer = {kind = "adam", learning_rate = 1e-3, beta2 = 0.98, clip_norm = 0}
"""

# What measures best (docs/reproduction.md). Relations are in the generator's logits, weighed on
# validation items. Factors learn from candidates for users that the proposer has not seen,
# together, as what is left to say after it; where training parts end, the generator then learns the
# ranking that they correct, and stays near where it was.
_TUNED = """
[generator]
hidden_dim = 128
positions = "start"
norm_place = "post"
convolution = 10
factors = "all"
relations = "all"
dropout = 0.3
attention_dropout = 0.3
unseen_only = true

[pretrain_generator]
epochs = 25
batch_size = 64
evaluate_every = 2
optimizer = {learning_rate = 2e-3, warmup_steps = 100, decay = "cosine", average = 0.99}

[cross_fit]
folds = 2

[discriminator]
factors = "all"
hidden_dim = 64
dropout = 0.5
max_history = 20

[sample]
num_candidates = 32
positions = 16
exclude_target = false

[pretrain_discriminator]
epochs = 4
batch_size = 64
joint_weight = 1.0
optimizer = {weight_decay = 0.1}

[calibrate]
only_sure = true

[adversarial]
turns = 4
discriminator_epochs = 0
batch_size = 64
policy = "top"
num_samples = 50
contexts = "ends"
reward = "calibrated"
anchor_weight = 1.0
mle_weight = 0.0
generator_optimizer = {learning_rate = 2e-4, average = 0.99}
"""

TEXTS: dict[str, str] = {"tuned": _TUNED, "paper": _PAPER}
