"""Settings of the models as plain objects: this machine may lack what ``mfgan.config`` needs.

The names are those of ``GeneratorConfig``, ``DiscriminatorConfig`` and ``OptimizerConfig``; a test
compares these values with the tuned preset's generator and with the default discriminators, which
are as long-sighted as the published ones.
"""

from types import SimpleNamespace

GENERATOR = {
    "hidden_dim": 128,
    "num_blocks": 2,
    "num_heads": 2,
    "max_len": 200,
    "dropout": 0.3,
    "attention_dropout": 0.3,
    "ff_multiple": 4.0,
    "activation": "gelu",
    "norm": "layer",
    "norm_place": "post",
    "positions": "start",
    "distance_bias": False,
    "convolution": 10,
    "convolution_share": 0.7,
    "normalize": False,
    "temperature": 1.0,
    "factors": "all",
    "relations": "all",
    "unseen_only": True,
    "init_scale": 0.02,
}
DISCRIMINATOR = {
    "factors": (),
    "relation_history": 200,
    "hidden_dim": 50,
    "num_blocks": 1,
    "num_heads": 2,
    "dropout": 0.25,
    "ff_multiple": 1.0,
    "shared": False,
    "max_history": 50,
    "combination": "softmax",
    "sharpness": 0.0,
}
OPTIMIZER = {
    "kind": "adamw",
    "learning_rate": 2e-3,
    "beta1": 0.9,
    "beta2": 0.98,
    "weight_decay": 0.0,
    "warmup_steps": 100,
    "decay": "cosine",
    "final_fraction": 0.0,
    "clip_norm": 1.0,
    "average": 0.99,
}


def settings(values: dict[str, object], **changed: object) -> SimpleNamespace:
    """The settings as attributes, some of them changed."""
    return SimpleNamespace(**{**values, **changed})
