from itertools import pairwise

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from made_displays import make

from mfgan.data.displays.batch import EventStore
from mfgan.errors import MfganError
from mfgan.models.user_model import build_user_model
from mfgan.models.user_model_config import UserModelConfig
from mfgan.simulation.environment import RecommendationEnv, RecommendationVectorEnv
from mfgan.simulation.pool import item_pool
from mfgan.simulation.session import SessionRule
from mfgan.simulation.users import SimulatedUsers
from mfgan.training.user_model.stages import LearnedUser

FIVE = SessionRule("fixed", 5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make(tmp_path_factory.mktemp("displays"))


def learned(data, seed=0, **settings):
    config = UserModelConfig(init_scale=0.5, **settings)
    users = data.users("train")
    return LearnedUser(build_user_model(config, data, users=users, seed=seed).eval())


@pytest.mark.parametrize("slate", [1, 3])
@pytest.mark.parametrize("observation", ["clicks", "state"])
@pytest.mark.filterwarnings("ignore:.*Box observation space.*infinity.*:UserWarning")
@pytest.mark.filterwarnings("ignore:.*not initialized with an `EnvSpec`.*:UserWarning")
@pytest.mark.filterwarnings("ignore:.*different render modes.*:UserWarning")
def test_gymnasium_finds_nothing_wrong(data, slate, observation):
    env = RecommendationEnv(
        learned(data), torch.arange(1, 9), slate=slate, session=FIVE, observation=observation
    )
    check_env(env, skip_render_check=True)


@pytest.mark.parametrize("reward", ["gain", "utility", "click"])
def test_a_seed_repeats_everything_and_another_does_not(data, reward):
    def play(seed):
        env = RecommendationVectorEnv(
            learned(data), torch.arange(1, 13), 40, slate=2, session=FIVE, reward=reward
        )
        observation, _ = env.reset(seed=seed)
        env.action_space.seed(0)
        found = [observation]
        for _ in range(7):
            observation, rewards, *_ = env.step(env.action_space.sample())
            found += [observation, rewards]
        return np.concatenate([one.reshape(-1) for one in found])

    assert np.array_equal(play(3), play(3))
    assert not np.array_equal(play(3), play(4))


def test_the_vector_environment_resets_at_the_next_step(data):
    env = RecommendationVectorEnv(learned(data), torch.arange(1, 13), 3, session=FIVE)
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    env.reset(seed=0)
    actions = np.zeros(3, np.int64)
    for step in range(1, 13):
        observation, rewards, terminated, truncated, info = env.step(actions)
        assert not terminated.any()
        assert truncated.all() == (step % 6 == 5)
        if step % 6 == 0:
            assert not rewards.any()
            assert not observation.any()
            assert not info["click"].any()
    assert observation.shape == (3, 10)


def test_geometric_sessions_end_by_leaving(data):
    rule = SessionRule.parse("geometric:4")
    users = SimulatedUsers(learned(data), 2000, session=rule, seed=1)
    result = users.step(torch.ones(2000, 1, dtype=torch.int64))
    assert 0.2 < float(result.terminated.float().mean()) < 0.3
    assert not bool(result.truncated.any())
    for _ in range(15):
        result = users.step(torch.ones(2000, 1, dtype=torch.int64))
    assert bool(result.truncated.all())


def test_who_is_done_stays_so_until_reset(data):
    rule = SessionRule.parse("geometric:4")
    users = SimulatedUsers(learned(data), 200, session=rule, seed=1)
    shown = torch.ones(200, 1, dtype=torch.int64)
    results = [users.step(shown) for _ in range(rule.limit + 4)]
    for before, after in pairwise(results):
        assert bool((after.terminated >= before.terminated).all())
        assert bool((after.truncated >= before.truncated).all())
    assert torch.equal(results[-1].terminated, results[rule.limit - 1].terminated)
    left = results[-1].terminated
    assert 0 < int(left.sum()) < 200
    again = torch.arange(200) < 100
    users.reset(again)
    result = users.step(shown)
    assert int(result.terminated[:100].sum()) < int(left[:100].sum())
    assert torch.equal(result.terminated[100:], left[100:])


def test_clicks_follow_the_model(data):
    user = learned(data)
    users = SimulatedUsers(user, 20_000, session=FIVE, reward="click", seed=0)
    shown = torch.tensor([[2, 7, 2, 4]]).expand(20_000, -1)
    result = users.step(shown)
    context = torch.zeros(3, 3)
    state = user.reward.encoder.begin(user.reward.features, 1).hidden
    items, owner = torch.tensor([2, 7, 4]), torch.zeros(3, dtype=torch.int64)
    utilities = user.reward.utilities(state, items, owner, context)
    wanted = torch.cat([utilities, torch.zeros(1)]).softmax(0)
    for item, share in zip((2, 7, 4, 0), wanted.tolist(), strict=True):
        found = float((result.clicks == item).float().mean())
        assert found == pytest.approx(share, abs=4 * (share * (1 - share) / 20_000) ** 0.5)
    assert torch.equal(result.rewards, (result.clicks > 0).float())


@pytest.mark.parametrize("encoder", ["lstm", "attention"])
def test_context_and_state_are_those_that_training_saw(data, encoder):
    user, store = learned(data, encoder=encoder), EventStore(data)
    counts = np.diff(data.user_offsets)
    sizes = np.diff(data.offsets)
    number = int(counts.argmax())
    events = range(*data.user_offsets[number : number + 2])
    batch = store.batch(np.array([number]))
    wanted, states = user.reward(batch), user.reward.states(batch)
    users = SimulatedUsers(user, 1, session=SessionRule("fixed", 9))
    start = 0
    for place, event in enumerate(events):
        items = torch.tensor([data.items[slice(*data.offsets[event : event + 2])].tolist()])
        got = users.utilities(items)[0]
        torch.testing.assert_close(got, wanted[start : start + sizes[event]])
        torch.testing.assert_close(users.state()[0], states[place])
        click = int(data.clicks[event])
        chosen = items[:, click] if click >= 0 else torch.zeros(1, dtype=torch.int64)
        users._remember(items, chosen)
        model = user.reward
        users._carries["reward"] = model.encoder.advance(
            model.features, users._carries["reward"], chosen
        )
        start += sizes[event]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda u: SessionRule.parse("fixed"), "must be fixed:N or geometric:N, got 'fixed'"),
        (lambda u: SessionRule.parse("weekly:3"), "must be fixed or geometric, got 'weekly'"),
        (lambda u: SimulatedUsers(u, 0), "num_users must be 1 or more, got 0"),
        (lambda u: SimulatedUsers(u, 1, reward="joy"), "reward must be one of gain, utility"),
        (lambda u: SimulatedUsers(u, 1).step(torch.tensor([[13]])), r"within 1\.\.12"),
        (lambda u: SimulatedUsers(u, 1).step(torch.tensor([3])), r"\(1, k\), got \(1,\)"),
        (
            lambda u: RecommendationEnv(u, torch.arange(1, 3)).step(np.array(2)),
            r"actions must be within 0\.\.1",
        ),
        (lambda u: RecommendationEnv(u, torch.arange(1, 3), slate=0), "slate must be 1 or more"),
        (
            lambda u: RecommendationEnv(u, torch.arange(1, 3), observation="all"),
            "must be clicks or state, got 'all'",
        ),
        (
            lambda u: RecommendationVectorEnv(u, torch.arange(1, 3), 2).reset(seed=[1, 2]),
            "seed must be one number for the whole batch",
        ),
    ],
)
def test_errors(data, call, message):
    with pytest.raises(MfganError, match=message):
        call(learned(data))


def test_the_pool_holds_what_was_shown():
    shown = np.array([9, 0, 3, 1, 3])
    assert item_pool(shown).tolist() == [2, 3, 4]
    assert item_pool(shown, 2).tolist() == [2, 4]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_stable_baselines_trains_on_it_unmodified(data):
    baselines = pytest.importorskip("stable_baselines3")
    env = RecommendationEnv(learned(data), torch.arange(1, 9), session=FIVE, observation="state")
    ppo = baselines.PPO("MlpPolicy", env, n_steps=32, batch_size=16, n_epochs=1, seed=0)
    assert ppo.learn(64).num_timesteps == 64
    clicks = RecommendationEnv(learned(data), torch.arange(1, 9), session=FIVE, window=3)
    dqn = baselines.DQN("MlpPolicy", clicks, learning_starts=8, buffer_size=64, seed=0)
    assert dqn.learn(32).num_timesteps == 32
