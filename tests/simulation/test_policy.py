from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_displays import make

from mfgan.data.displays import prepare_displays
from mfgan.errors import MfganError
from mfgan.evaluation.seeds import over_seeds
from mfgan.models.user_model import build_user_model
from mfgan.models.user_model_config import UserModelConfig
from mfgan.simulation.agreement import agreement
from mfgan.simulation.cascading import CascadingNetworks, PolicySettings
from mfgan.simulation.fidelity import fidelity
from mfgan.simulation.learning import PolicyTrainer, Replay
from mfgan.simulation.logged import estimate_log
from mfgan.simulation.off_policy import RewardTable, estimate
from mfgan.simulation.recommenders import (
    GreedyRecommender,
    RandomRecommender,
    SupervisedRanker,
)
from mfgan.simulation.rollout import roll_out
from mfgan.simulation.session import SessionRule, check_pool
from mfgan.simulation.train import _Chooser, load_policy_settings
from mfgan.training.user_model.stages import LearnedUser

POOL = torch.arange(1, 13)
RULE = SessionRule("fixed", 4)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make(tmp_path_factory.mktemp("displays"))


@pytest.fixture(scope="module")
def user(data):
    config = UserModelConfig(init_scale=0.5)
    return LearnedUser(build_user_model(config, data, users=data.users("train"), seed=0).eval())


def networks(slate=3, seed=0):
    torch.manual_seed(seed)
    made = CascadingNetworks(12, PolicySettings(slate=slate, window=2))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.3)
    return made


def test_the_cascade_is_the_greedy_maximum_of_each_network():
    made = networks()
    state = made.state(torch.tensor([[0, 3], [5, 1]]), torch.zeros(2, 2))
    inputs = torch.randn(2, 12, 4, generator=torch.Generator().manual_seed(1))
    inputs[..., -1] = 0
    inputs[0, 4, -1] = 0.7  # shown before
    vectors = made.vectors(POOL, inputs)
    places, values = made.cascade(state, vectors)
    for row in range(2):
        taken = [4] if row == 0 else []
        chosen = vectors[row : row + 1, []]
        for j in range(3):
            q = made.value(j, state[row : row + 1], vectors[row : row + 1], chosen)[0]
            q = q.masked_fill(torch.isin(torch.arange(12), torch.tensor(taken)), -torch.inf)
            assert int(places[row, j]) == int(q.argmax())
            taken.append(int(q.argmax()))
            chosen = torch.cat([chosen, vectors[row : row + 1, taken[-1:]]], dim=1)
        assert float(values[row].detach()) == pytest.approx(float(q.max().detach()), abs=1e-5)
    rows = torch.arange(2)[:, None]
    along = made.along(state, vectors[rows, places])
    assert along.shape == (2, 3)
    torch.testing.assert_close(along[:, -1], values)


def test_nobody_shows_an_item_twice(data, user):
    settings = PolicySettings(slate=3, session="fixed:4", users=6, steps=8, warmup=2, pool=0)
    trainer = PolicyTrainer([user], POOL, settings)
    assert len(list(trainer.steps(8))) == 8
    ranker = SupervisedRanker(data, data.users("train"), POOL, 3)
    greedy = GreedyRecommender([user], POOL, 3)
    for recommender in (RandomRecommender(POOL, 3), ranker, greedy, trainer.policy):
        shown = []
        original = recommender.choose

        def watching(users, step, choose=original, shown=shown):
            shown.append(choose(users, step))
            return shown[-1]

        recommender.choose = watching
        found = roll_out(recommender, user, num_users=5, session=RULE, reward="gain")
        assert found.rewards.shape == (5, 4)
        everything = torch.cat(shown, dim=1).sort(dim=1).values
        assert bool((everything.diff(dim=1) > 0).all())


def test_the_ranker_learns_what_users_like(data):
    # Users of the made displays click the lowest item number.
    ranker = SupervisedRanker(data, data.users("train"), POOL, 1)
    scores = ranker._score(POOL, torch.zeros(12, 3))
    low, high = scores[:3].detach().mean(), scores[-3:].detach().mean()
    assert float(low) > float(high) + 1


def test_training_improves_on_its_own_user(user):
    settings = PolicySettings(
        slate=2, session="fixed:4", users=16, steps=240, pool=0, hidden=16, epsilon_steps=100
    )
    trainer = PolicyTrainer([user], POOL, settings)
    before = roll_out(RandomRecommender(POOL, 2), user, num_users=400, session=RULE, reward="gain")
    for _ in trainer.steps(settings.steps):
        pass
    after = roll_out(trainer.policy, user, num_users=400, session=RULE, reward="gain")
    assert after.intervals["reward"][0] > before.intervals["reward"][1]
    assert after.name == "cascading DQN"


def test_learning_begins_at_greed(user):
    settings = PolicySettings(slate=3, session="fixed:4", pool=0)
    policy = PolicyTrainer([user], POOL, settings).policy
    greedy = GreedyRecommender([user], POOL, 3)
    found = [
        roll_out(one, user, num_users=30, session=RULE, reward="gain") for one in (policy, greedy)
    ]
    assert np.array_equal(found[0].rewards, found[1].rewards)


def test_every_display_after_the_warmup_is_learned_from_several_times(user):
    settings = PolicySettings(
        slate=2, session="fixed:4", users=4, steps=6, warmup=4, updates=3, pool=0, batch_size=8
    )
    trainer = PolicyTrainer([user], POOL, settings)
    before = {name: value.clone() for name, value in trainer.networks.state_dict().items()}
    learned = []
    for _ in trainer.steps(6):
        after = trainer.networks.state_dict()
        learned.append(any(not torch.equal(after[name], value) for name, value in before.items()))
    assert learned == [False] * 4 + [True] * 2
    assert trainer._optimizer.steps == trainer._optimizer.total_steps - 4 * 3 == 2 * 3


def test_validation_users_choose_the_networks(user):
    settings = PolicySettings(slate=2, session="fixed:4", pool=0, validation_users=50)
    trainer = PolicyTrainer([user], POOL, settings)
    validation = SimpleNamespace(user=lambda: user)
    chooser = _Chooser(trainer, validation)
    with torch.no_grad():
        trainer.networks.utility.fill_(-1.0)  # the worst items first
    chooser.offer(50)
    assert chooser.rewards[50] < chooser.rewards[0]
    assert chooser.restore() == 0
    assert trainer.networks.utility.tolist() == [1.0, 1.0]
    last = _Chooser(trainer, None)
    with torch.no_grad():
        trainer.networks.utility.fill_(3.0)
    last.offer(100)
    assert last.restore() == 100
    assert trainer.networks.utility.tolist() == [3.0, 3.0]


def test_the_replay_keeps_the_newest():
    replay = Replay(4)
    replay.add(torch.arange(3), torch.arange(3.0))
    replay.add(torch.arange(3, 6), torch.arange(3.0, 6))
    assert replay.size == 4
    items, values = replay.draw(64, np.random.default_rng(0))
    assert set(items.tolist()) == {2, 3, 4, 5}
    assert torch.equal(items.float(), values)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("slat=2", "policy: slat: no such setting; did you mean 'slate'"),
        ("slate=0", "policy: slate: input should be greater than or equal to 1, got 0"),
        ("session=weekly", "must be fixed:N or geometric:N"),
        ("reward=joy", "policy: reward must be gain, utility, click"),
    ],
)
def test_wrong_settings(override, message):
    with pytest.raises(MfganError, match=message):
        load_policy_settings([override])


def test_a_pool_too_small_for_the_session(user):
    with pytest.raises(MfganError, match="pool must hold 15 items or more"):
        PolicyTrainer([user], POOL, PolicySettings())


def test_estimators_by_hand():
    rewards, logged = np.array([1.0, 0.0, 1.0]), np.array([0.5, 0.25, 0.25])
    target = np.array([0.25, 0.5, 0.5])
    found = estimate(
        rewards,
        logged,
        target,
        predicted=np.array([0.5, 0.5, 0.5]),
        predicted_policy=np.array([0.4, 0.4, 0.4]),
    )
    values = {one.name: one.value for one in found}
    assert values["IPS"] == pytest.approx((0.5 * 1 + 2 * 0 + 2 * 1) / 3)
    assert values["SNIPS"] == pytest.approx(2.5 / 4.5)
    assert values["DR"] == pytest.approx(0.4 + (0.5 * 0.5 - 2 * 0.5 + 2 * 0.5) / 3)
    clipped = estimate(rewards, logged, target, clip=1.0)
    assert clipped[0].value == pytest.approx(1.5 / 3)


def test_estimators_find_another_policys_reward():
    rng = np.random.default_rng(0)
    chances, logging = np.array([0.0, 0.1, 0.4]), np.array([0.0, 0.7, 0.3])
    target = np.array([0.0, 0.2, 0.8])
    items = rng.choice(3, 20_000, p=logging)
    rewards = (rng.random(20_000) < chances[items]).astype(float)
    table = RewardTable(items, np.zeros(20_000, np.int64), rewards, 2)
    found = estimate(
        rewards,
        logging[items],
        target[items],
        predicted=table.logged(),
        predicted_policy=table.expected(target),
    )
    true = float(chances @ target)
    for one in found:
        assert one.interval[0] < true < one.interval[1]
    widths = {one.name: one.interval[1] - one.interval[0] for one in found}
    assert widths["DR"] < widths["IPS"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [0.5], [0.5, 0.5]), "probabilities must have a value a round, 1, got 2"),
        (([], [], []), "there must be rounds, got none"),
        (([1.0], [0.0], [0.5]), r"propensities must be within \(0, 1\], got 0.0"),
        (([1.0], [np.nan], [0.5]), r"propensities must be within \(0, 1\], got nan"),
        (([1.0, 0.0], [0.5, 0.5], [0.0, 0.0]), "logged action of a round or more, got none of 2"),
    ],
)
def test_wrong_logs(arguments, message):
    with pytest.raises(MfganError, match=message):
        estimate(*(np.array(one) for one in arguments))


def test_a_policy_whose_log_shares_no_item(tmp_path):
    head = "timestamp,item_id,position,click,propensity_score\n2019-11-24 00:00:00+00:00,"
    for name, row in (("mine", "1,1,1,0.5"), ("same", "1,1,0,0.5"), ("other", "9,1,1,0.5")):
        (tmp_path / f"{name}.csv").write_text(f"{head}{row}\n")
        prepare_displays(tmp_path / f"{name}.csv", tmp_path / name, format="displays-open-bandit")
    found = estimate_log(tmp_path / "mine", str(tmp_path / "same"))
    assert found["estimates"][0]["value"] == 2
    with pytest.raises(MfganError, match="must take the logged action of a round or more"):
        estimate_log(tmp_path / "mine", str(tmp_path / "other"))


def test_fidelity_of_a_model_that_knows_nothing(data, user):
    found = fidelity(user, data, data.users("test"))
    assert set(found["slices"]) == {
        "displays of the item in training",
        "clicks of the user before",
    }
    rows = sum(cell["rows"] for cell in found["slices"]["clicks of the user before"])
    events = np.isin(data.event_users, data.users("test"))
    assert rows == int(np.diff(data.offsets)[events].sum())
    assert "judge it in a held-out user model" in found["verdict"]
    known = "may be believed" in found["verdict"]
    assert known == (found["share of slices inside"] >= 0.8)


def test_agreement_with_itself_and_with_another(data, user):
    config = UserModelConfig(init_scale=0.5)
    model = build_user_model(config, data, users=data.users("train"), seed=9)
    other = LearnedUser(model.eval())
    rule = SessionRule("fixed", 3)
    same = agreement([user], user, POOL, slate=2, session=rule, each=3)
    assert [same[name] for name in ("first", "later", "whole")] == pytest.approx([1, 1, 1])
    assert same["items"] == 12
    strange = agreement([user], other, POOL, slate=2, session=rule, each=3)
    assert all(abs(strange[name]) < 0.9 for name in ("first", "later", "whole"))
    with pytest.raises(MfganError, match="sessions of 2 displays and 3 items or more, got 1 and"):
        agreement([user], other, POOL, session=SessionRule("fixed", 1))


def test_an_interval_over_seeds():
    mean, (low, high) = over_seeds([0.5])
    assert mean == 0.5
    assert np.isnan([low, high]).all()


def test_sessions_show_no_more_than_the_pool_has():
    check_pool(12, 3, SessionRule.parse("fixed:4"))
    with pytest.raises(MfganError, match="pool must hold 12 items or more, 3 for each of 4"):
        check_pool(11, 3, SessionRule.parse("fixed:4"))
