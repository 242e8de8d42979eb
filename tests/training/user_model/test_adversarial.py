"""The adversarial solution against the closed form, which it must reach."""

import numpy as np
import pytest
import torch
from made_displays import make

from mfgan.config import OptimizerConfig
from mfgan.data.displays.batch import EventStore
from mfgan.models.user_model_config import UserModelConfig
from mfgan.training.user_model.config import (
    AdversarialConfig,
    ClosedFormConfig,
    UserModelSettings,
)
from mfgan.training.user_model.run import new_user
from mfgan.training.user_model.stages import AdversarialStage, ClosedFormStage

SHARES = {1: 0.45, 2: 0.3, 3: 0.15, None: 0.1}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    clicks = [item for item, share in SHARES.items() for _ in range(round(40 * share))]
    displays = [(user, user, [1, 2, 3], click, 0) for user, click in enumerate(clicks)]
    displays += [(90, 90, [1, 2], 1, 1), (91, 91, [1, 2], 1, 2)]
    return make(tmp_path_factory.mktemp("small"), displays)


def settings(objective, **more):
    model = UserModelConfig(features=("one-hot",), hidden=(8,), context=False, state_dim=2)
    fast = OptimizerConfig(
        kind="adam", learning_rate=2e-2, beta1=0.0, beta2=0.99, clip_norm=0, decay="cosine"
    )
    closed = ClosedFormConfig(iterations=400, batch_users=40, optimizer=fast)
    adversarial = AdversarialConfig(
        iterations=700,
        batch_users=40,
        policy_steps=3,
        policy=model,
        policy_optimizer=fast,
        reward_optimizer=fast.model_copy(update={"learning_rate": 1e-2}),
    )
    return UserModelSettings(
        objective=objective,
        warm_start=False,
        model=model,
        shannon=closed,
        l2=closed,
        adversarial=adversarial,
        **more,
    )


def solve(data, objective):
    chosen = settings(objective)
    user, store, users = (
        new_user(data, chosen, objective, device="cpu"),
        EventStore(data),
        data.users("train"),
    )
    if objective.startswith("adversarial"):
        stage = AdversarialStage(objective, user, store, users, 0, chosen.adversarial)
    else:
        stage = ClosedFormStage(objective, user, store, users, 0, chosen.l2)
    start = {name: model.from_item.table.weight.clone() for name, model in stage.models.items()}
    for iteration in range(stage.iterations):
        stage.step(iteration)
    moved = {
        name: not torch.equal(start[name], model.from_item.table.weight)
        for name, model in stage.models.items()
    }
    with torch.no_grad():
        _, choice = user.eval()(store.batch(users[:1]))
    return np.array([*choice.rows.tolist(), choice.none.item()]), moved


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["shannon", "l2"])
def test_both_reach_the_same_choice(data, rule):
    closed, _ = solve(data, rule)
    adversarial, moved = solve(data, f"adversarial-{rule}")
    assert moved == {"reward": True, "policy": True}
    np.testing.assert_allclose(closed, list(SHARES.values()), atol=0.01)
    np.testing.assert_allclose(adversarial, closed, atol=0.03)
