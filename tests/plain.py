"""Settings that undo what the preset ``tuned`` says of the adversary.

For tests of one part: no cross-fit, few samples, each factor by itself, no relations.
"""

from mfgan.config import RunConfig, load_config
from mfgan.config.run_config import flatten

_DEFAULTS = dict(flatten(RunConfig().model_dump(mode="json")))
PLAIN = tuple(
    f"{name}={str(_DEFAULTS[name]).lower()}"
    for name in load_config("tuned").differences(RunConfig())
    if not name.startswith(("generator.", "pretrain_generator.")) or name == "generator.relations"
)
