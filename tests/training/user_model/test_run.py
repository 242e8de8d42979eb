import json

import pytest
import torch
from made_displays import make

from mfgan.data.displays.batch import EventStore
from mfgan.errors import MfganError
from mfgan.training.user_model import loop
from mfgan.training.user_model import run as module
from mfgan.training.user_model.compare import VARIANTS, compare_models, evaluate_run
from mfgan.training.user_model.config import load_settings
from mfgan.training.user_model.loop import run_stage
from mfgan.training.user_model.run import UserModelRun, train_user_model

SHORT = ("shannon.iterations=12", "adversarial.iterations=8", "l2.iterations=6", "validate_every=4")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make(tmp_path_factory.mktemp("displays"))


def weights(run, checkpoint):
    user = run.user(checkpoint)
    models = [user.reward, *([user.policy] if user.policy is not None else [])]
    return {f"{n}.{k}": v for n, model in enumerate(models) for k, v in model.state_dict().items()}


@pytest.mark.parametrize("objective", ["shannon", "l2", "adversarial-shannon", "adversarial-l2"])
def test_a_stopped_run_goes_on_bit_for_bit(data, tmp_path, monkeypatch, objective):
    chosen = load_settings(
        overrides=[*SHORT, f"objective={objective}", "model.dropout=0.2", "checkpoint_every=4"]
    )
    whole = train_user_model(data, tmp_path / "whole", chosen)

    def stopping(stage, *arguments, **keywords):
        return run_stage(stage, *arguments, **keywords, stop_at=5)

    monkeypatch.setattr(module, "run_stage", stopping)
    train_user_model(data, tmp_path / "parts", chosen)
    # What a stopped first stage handed on was not its best: the next stages begin anew.
    for stage in ("l2", "adversarial-shannon", "adversarial-l2"):
        path = tmp_path / "parts" / "checkpoints" / stage
        if path.exists():
            (path / "state.json").unlink()
    monkeypatch.undo()
    parts = train_user_model(data, tmp_path / "parts", chosen, resume=True)
    for checkpoint in module.CHECKPOINTS:
        mine, theirs = weights(whole, checkpoint), weights(parts, checkpoint)
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    lines = [path / "metrics.jsonl" for path in (whole.path, parts.path)]
    rows = [[json.loads(line) for line in one.read_text().splitlines()] for one in lines]
    last = objective
    assert [r for r in rows[0] if r["stage"] == last] == [r for r in rows[1] if r["stage"] == last]


@pytest.mark.parametrize("dies_in", ["_append", "save_stage"])
def test_a_run_that_died_while_it_wrote_goes_on(data, tmp_path, monkeypatch, dies_in):
    chosen = load_settings(overrides=[*SHORT, "objective=shannon", "checkpoint_every=4"])
    whole = train_user_model(data, tmp_path / "whole", chosen)
    original, calls = getattr(loop, dies_in), []

    def dying(*arguments, **keywords):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments, **keywords)

    monkeypatch.setattr(loop, dies_in, dying)
    with pytest.raises(KeyboardInterrupt):
        train_user_model(data, tmp_path / "parts", chosen)
    monkeypatch.undo()
    log = tmp_path / "parts" / "metrics.jsonl"
    log.write_text(log.read_text() + '{"stage": "shan')
    parts = train_user_model(data, tmp_path / "parts", chosen, resume=True)
    assert log.read_text() == (whole.path / "metrics.jsonl").read_text()
    mine, theirs = weights(whole, "best-loss"), weights(parts, "best-loss")
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_batches_and_validation_are_blind_to_test_users(data, tmp_path, monkeypatch):
    seen = set()
    original = EventStore.batch

    def watching(self, users):
        seen.update(users.tolist())
        return original(self, users)

    monkeypatch.setattr(EventStore, "batch", watching)
    train_user_model(data, tmp_path / "run", load_settings(overrides=SHORT))
    assert seen.isdisjoint(data.users("test").tolist())
    assert seen >= set(data.users("validation").tolist())


def test_held_out_users_are_disjoint_from_training(data):
    chosen = load_settings(overrides=["users=held-out"])
    fitted, selecting = module.fitted_users(data, chosen), module.selecting_users(data, chosen)
    train = set(data.users("train").tolist())
    assert train.isdisjoint(fitted.tolist())
    assert not set(fitted.tolist()) & set(selecting.tolist())
    assert len(fitted) + len(selecting) + len(train) == data.num_users


def test_a_judge_can_be_fitted_to_validation_or_test_users(data):
    for part in ("validation", "test"):
        chosen = load_settings(overrides=[f"users={part}"])
        fitted, selecting = module.fitted_users(data, chosen), module.selecting_users(data, chosen)
        mine = [*fitted.tolist(), *selecting.tolist()]
        assert sorted(mine) == data.users(part).tolist()
        assert len(selecting) == len(mine) // 5


@pytest.mark.parametrize(
    ("displays", "users", "message"),
    [
        ([(0, 0, [1, 2], 2, 0)], "train", r"\(validation\), got none of 0 users"),
        ([(0, 0, [1, 2], 2, 0), (1, 1, [1], None, 1)], "train", r"\(validation\), got none of 1"),
        ([(1, 0, [1, 2], 2, 1)], "train", r"users to fit \(train\), got none"),
        ([(0, 0, [1, 2], 2, 0)], "test", r"users to fit \(test\), got none"),
        (
            [(user, user, [1, 2], 2, 2) for user in range(4)],
            "test",
            r"\(a fifth of test\), got none of 0",
        ),
    ],
)
def test_users_who_are_not_there_are_missed_before_training(tmp_path, displays, users, message):
    data = make(tmp_path, displays)
    chosen = load_settings(overrides=[*SHORT, f"users={users}"])
    with pytest.raises(MfganError, match=f"prepared: must have .*{message}"):
        train_user_model(data, tmp_path / "run", chosen)
    assert not (tmp_path / "run").exists()


def test_without_test_users_a_run_is_judged_by_the_others(tmp_path):
    data = make(tmp_path, [(0, 0, [1, 2], 2, 0), (1, 1, [1, 2], 1, 1)])
    run = train_user_model(data, tmp_path / "run", load_settings(overrides=SHORT))
    assert evaluate_run(run, "validation")["P@1"]["value"] in (0, 1)
    for judge in (evaluate_run, lambda run, _: compare_models({"a": run.dataset}, tmp_path / "c")):
        with pytest.raises(MfganError, match="must have test users to judge on, got none"):
            judge(run, "test")


def test_what_cannot_go_on(data, tmp_path):
    chosen = load_settings(overrides=SHORT)
    train_user_model(data, tmp_path / "run", chosen)
    with pytest.raises(MfganError, match="holds a run already; pass --resume"):
        train_user_model(data, tmp_path / "run", chosen)
    other = load_settings(overrides=[*SHORT, "seed=1"])
    with pytest.raises(MfganError, match=r"must be resumed with the settings in its config.toml"):
        train_user_model(data, tmp_path / "run", other, resume=True)
    strange = make(tmp_path / "other", [(0, 0, [1, 2], 2, 0), (1, 1, [1], 1, 1), (2, 2, [2], 2, 2)])
    with pytest.raises(MfganError, match="must be opened with the displays it was trained on"):
        UserModelRun.open(tmp_path / "run", dataset=strange)
    with pytest.raises(MfganError, match="must be a run of mfgan user-model train"):
        UserModelRun.open(tmp_path)
    run = UserModelRun.open(tmp_path / "run")
    with pytest.raises(MfganError, match="did you mean 'best-loss'"):
        run.user("best-los")
    wide = load_settings(overrides=[*SHORT, "objective=l2", "model.hidden=[5]"])
    with pytest.raises(MfganError, match="init: must be a run of the same model"):
        train_user_model(data, tmp_path / "wide", wide, init=tmp_path / "run")
    (tmp_path / "run" / "config.toml").write_text(wide.to_toml())
    with pytest.raises(MfganError, match="must hold the weights of this model"):
        UserModelRun.open(tmp_path / "run").user(stage="shannon")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.hiden=3", "model.hiden: no such setting; did you mean 'model.hidden'"),
        ("state_dim=3", "did you mean"),
        ("eta=0", "eta: input should be greater than 0, got 0"),
        ("model.encoder=gru", "model.encoder: input should be 'lstm'"),
        ("model", "--set must be name.name=value, got 'model'"),
    ],
)
def test_wrong_settings_are_named(override, message):
    with pytest.raises(MfganError, match=message):
        load_settings(overrides=[override])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.band_size=5"], "model.band_size: must go with model.encoder pw, got lstm"),
        (["model={encoder='pw', state_dim=8}"], "state_dim: .* lstm or attention, got pw"),
        (
            ["model.encoder=attention", "adversarial.policy.max_clicks=9"],
            "adversarial.policy.max_clicks: must go with .* attention, got lstm",
        ),
    ],
)
def test_a_setting_that_its_encoder_takes_no_notice_of_is_refused(overrides, message):
    with pytest.raises(MfganError, match=message):
        load_settings(overrides=overrides)


def test_settings_go_with_their_encoder_and_files_hold_those_of_all(tmp_path):
    overrides = ["model.encoder=attention", "model.max_clicks=9", "model.state_dim=8"]
    chosen = load_settings(overrides=overrides)
    (tmp_path / "config.toml").write_text(chosen.to_toml())
    assert load_settings(file=tmp_path / "config.toml", overrides=["seed=0"]) == chosen


@pytest.mark.parametrize("preset", ["tuned", "paper"])
def test_settings_survive_toml(tmp_path, preset):
    chosen = load_settings(preset)
    (tmp_path / "config.toml").write_text(chosen.to_toml())
    assert load_settings(file=tmp_path / "config.toml") == chosen


@pytest.mark.slow
def test_compare_does_nothing_twice(data, tmp_path, monkeypatch):
    first = compare_models({"made": data}, tmp_path, overrides=SHORT, seeds=range(2))
    assert len(first["cells"]) == 2 * len(VARIANTS)
    assert {claim["verdict"] for claim in first["conclusions"]["made"]} <= {
        "holds",
        "is wrong",
        "is undecided",
    }

    def never(*_arguments, **_keywords):
        raise AssertionError

    monkeypatch.setattr("mfgan.training.user_model.compare.train_user_model", never)
    assert compare_models({"made": data}, tmp_path, overrides=SHORT, seeds=range(2)) == first
