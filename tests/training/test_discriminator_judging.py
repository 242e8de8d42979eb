"""What discriminators lose, how they are measured, and that they learn what there is to learn."""

import math

import numpy as np
import pytest
import torch
from made_scores import InMemoryDataset, random_dataset
from plain import PLAIN

from mfgan.config import DiscriminatorConfig, PretrainDiscriminatorConfig, SampleConfig, load_config
from mfgan.data.batching import TrainingBatches
from mfgan.data.factors import Factor
from mfgan.errors import MfganError
from mfgan.models.discriminator import Discriminators
from mfgan.models.generator import Generator
from mfgan.training.context import StageContext
from mfgan.training.draws import counter
from mfgan.training.judging import Temper, calibration_error, judging_loss, measure, pair_auc
from mfgan.training.stages.pretrain_discriminator import BestFactors, PretrainDiscriminatorStage
from mfgan.training.trials import Trials, draw_trials, heldout_trials

LOG3 = math.log(3.0)


def two_values(name, num_items, rng):
    values = np.append(0, rng.integers(1, 3, num_items)).astype(np.int32)
    return Factor(name, "categorical", 3, values, None, ("unknown", "a", "b"))


def made_discriminators(**settings):
    rng = np.random.default_rng(0)
    factors = [two_values(name, 9, rng) for name in ("one", "two")]
    return Discriminators(DiscriminatorConfig(hidden_dim=4, **settings), factors)


def loss_of(logits, model=None, **settings):
    model = model or made_discriminators()
    loss, figures = judging_loss(model, logits, PretrainDiscriminatorConfig(**settings))
    return float(loss.detach()), {name: float(value) for name, value in figures.items()}


def softplus(x):
    return math.log1p(math.exp(x))


# One position, one real item (first) and two drawn ones, two factors.
LOGITS = torch.tensor([[[LOG3, 0.0], [-LOG3, 1.0], [0.0, -2.0]]])


def test_loss_is_the_cross_entropy_of_each_factor():
    real, drawn = math.log(4 / 3), [math.log(4 / 3), math.log(2)]
    loss, figures = loss_of(LOGITS)
    assert figures["loss/one"] == pytest.approx(0.5 * (real + sum(drawn) / 2))
    second = 0.5 * (math.log(2) + (softplus(1) + softplus(-2)) / 2)
    assert figures["loss/two"] == pytest.approx(second)
    assert loss == pytest.approx(figures["loss/one"] + second)
    _, plain = loss_of(LOGITS, balanced=False)
    assert plain["loss/one"] == pytest.approx((real + sum(drawn)) / 3)
    assert plain["loss/two"] == pytest.approx((math.log(2) + softplus(1) + softplus(-2)) / 3)


def test_the_losses_options():
    base, figures = loss_of(LOGITS)
    assert figures["accuracy/one"] == pytest.approx(0.5 * (1 + 0.5))
    assert figures["accuracy/two"] == pytest.approx(0.5 * (0 + 0.5))
    assert figures["AUC/one"] == pytest.approx(1.0)
    assert figures["AUC/two"] == pytest.approx(0.5)
    smooth, _ = loss_of(LOGITS, label_smoothing=0.2)
    real = 0.8 * math.log(4 / 3) + 0.2 * math.log(4)  # target .8 at a probability of 3/4
    change = 0.5 * (real - math.log(4 / 3)) + 0.5 * 0.0  # the second factor says a half
    assert smooth == pytest.approx(base + change)
    ranked, _ = loss_of(LOGITS, ranking_weight=2.0)
    one = math.log(3 + 1 / 3 + 1) - LOG3
    two = math.log(1 + math.e + math.exp(-2))
    assert ranked == pytest.approx(base + 2 * (one + two))
    joint, _ = loss_of(LOGITS, joint_weight=3.0)
    together = math.exp(-LOG3 + 1.0) + math.exp(-2.0) + 3.0
    assert joint == pytest.approx(base + 3 * (math.log(together) - LOG3))
    only_joint, _ = loss_of(LOGITS, joint_weight=3.0, own_weight=0.0)
    assert only_joint == pytest.approx(joint - base)
    model = made_discriminators()
    penalty = 0.5 * float(model.head_weight.detach().square().sum())
    assert loss_of(LOGITS, model, head_l2=3.0)[0] == pytest.approx(base + 3 * penalty)


def test_the_mixture_learns_to_trust_the_better_factor_and_nothing_else_does():
    model = made_discriminators(combination="learned")
    logits = torch.tensor([[[2.0, 0.0], [-2.0, 0.0]]], requires_grad=True)
    plain = judging_loss(made_discriminators(), logits, PretrainDiscriminatorConfig())[0]
    (expected,) = torch.autograd.grad(plain, logits)
    loss, _ = judging_loss(model, logits, PretrainDiscriminatorConfig())
    found, mixture = torch.autograd.grad(loss, [logits, model.mixture])
    torch.testing.assert_close(found, expected)
    assert mixture[0] < 0 < mixture[1]


def test_ties_count_half_in_pairs():
    logits = torch.tensor([[[1.0], [1.0], [0.0], [2.0]]])
    assert pair_auc(logits).tolist() == [[pytest.approx(0.5)]]


def test_calibration_error_by_hand():
    certain = torch.tensor([[20.0, -20.0], [20.0, -20.0]])
    assert float(calibration_error(certain)) == pytest.approx(0, abs=1e-6)
    assert float(calibration_error(torch.zeros(4, 6))) == pytest.approx(0, abs=1e-6)
    assert float(calibration_error(-certain)) == pytest.approx(1, abs=1e-6)
    # All say 3/4, and half of the weight is real.
    assert float(calibration_error(torch.full((4, 6), LOG3))) == pytest.approx(0.25)


def test_trials_have_the_real_next_item_first_and_never_again():
    dataset = random_dataset(num_items=9)
    config = load_config(overrides=["generator.max_len=20", "generator.hidden_dim=8"]).generator
    generator = Generator(config, 9)
    batch = TrainingBatches(dataset, max_len=20, batch_size=16, seed=0).epoch(0)[0]
    settings = SampleConfig(num_candidates=4, positions=3)
    made = [
        draw_trials(generator, batch, settings, numpy_rng=np.random.default_rng(seed),
                    rng=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]  # fmt: skip
    trials = made[0]
    assert torch.equal(trials.items[:, 0], batch.targets[trials.positions])
    assert not (trials.items[:, 1:] == trials.items[:, :1]).any()
    assert torch.equal(trials.items, made[1].items)
    assert not torch.equal(trials.positions, made[2].positions)
    free = settings.model_copy(update={"exclude_target": False, "num_candidates": 40})
    trials = draw_trials(generator, batch, free, numpy_rng=np.random.default_rng(0),
                         rng=torch.Generator())  # fmt: skip
    assert (trials.items[:, 1:] == trials.items[:, :1]).any()


def test_heldout_trials_end_before_the_validation_item():
    dataset = random_dataset(num_users=12, num_items=20, longest=9)
    config = load_config(overrides=["generator.max_len=4", "generator.hidden_dim=8"]).generator
    trials = list(
        heldout_trials(Generator(config, 20), dataset, SampleConfig(num_candidates=3),
                       users=np.array([1, 5, 7]), batch_size=2,
                       rng=counter(3, 1, torch.device("cpu")))
    )  # fmt: skip
    assert [len(part.positions) for part in trials] == [2, 1]
    assert [part.batch.users.tolist() for part in trials] == [[1, 5], [7]]
    for part in trials:
        for row, user in enumerate(part.batch.users.tolist()):
            history = dataset.history(user, "validation")[-4:].tolist()
            bounds = part.batch.offsets[row : row + 2].tolist()
            assert part.batch.items[slice(*bounds)].tolist() == history
            assert part.positions[row] == bounds[1] - 1
            place = dataset.offsets[user] + dataset.validation[user]
            assert part.items[row, 0] == dataset.items[place]


@pytest.mark.parametrize("draws", ["generator", "counter"])
def test_heldout_users_of_each_batch_have_draws_of_their_own(draws):
    dataset = InMemoryDataset([[1, 2, 3, 4, 5]] * 6, 40)
    config = load_config(overrides=["generator.max_len=4", "generator.hidden_dim=8"]).generator
    settings = SampleConfig(num_candidates=8)

    def candidates():
        rng = torch.Generator().manual_seed(3)
        if draws == "counter":
            rng = counter(3, 1, torch.device("cpu"))
        trials = heldout_trials(
            Generator(config, 40), dataset, settings, users=np.arange(6), batch_size=2, rng=rng
        )
        return [part.items for part in trials]

    first, second, third = candidates()
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    assert all(map(torch.equal, candidates(), (first, second, third)))


class WithFactors(InMemoryDataset):
    """Histories in memory, with factors of the items."""

    def __init__(self, histories, num_items, factors):
        super().__init__(histories, num_items)
        self._made = {factor.name: factor for factor in factors}

    @property
    def factor_names(self):
        return list(self._made)

    def factor(self, name):
        return self._made[name]


def alternating_dataset(num_users=300, num_items=60):
    """The next item's ``color`` is never that of the last; its ``noise`` is anyone's guess."""
    rng = np.random.default_rng(3)
    color, noise = (two_values(name, num_items, rng) for name in ("color", "noise"))
    by_color = [np.flatnonzero(color.values == value) for value in (1, 2)]
    histories = [
        [rng.choice(by_color[(start + step) % 2]) for step in range(10)]
        for start in rng.integers(0, 2, num_users)
    ]
    return WithFactors(histories, num_items, [noise, color])


def trained_on_colors(*settings):
    config = load_config(
        overrides=[
            *PLAIN,
            "generator.hidden_dim=8",
            "generator.max_len=10",
            "sample.positions=4",
            "sample.num_candidates=4",
            "discriminator.hidden_dim=8",
            "discriminator.max_history=3",
            "pretrain_discriminator.optimizer.learning_rate=0.02",
            *settings,
        ]
    )
    stage = PretrainDiscriminatorStage(
        StageContext(alternating_dataset(), config, torch.device("cpu"))
    )
    optimizer, step = stage.optimizers["discriminators"], 0
    for epoch in range(12):
        for batch in stage.batches(epoch):
            optimizer.zero_grad()
            output = stage.step(batch, epoch=epoch, step=step)
            output.loss.backward()
            optimizer.step()
            step += 1
    return stage


def test_discriminators_learn_where_a_factor_tells_and_nothing_where_it_does_not():
    figures = trained_on_colors().validate()
    # A drawn item has the wrong color half of the time, and is a tie otherwise.
    assert figures["AUC/color"] > 0.72
    assert figures["accuracy/color"] > 0.7
    assert abs(figures["AUC/noise"] - 0.5) < 0.04
    assert figures["AUC/best"] == pytest.approx((figures["AUC/color"] + figures["AUC/noise"]) / 2)


def test_factors_that_learn_together_are_chosen_together():
    settings = ("pretrain_discriminator.joint_weight=1", "pretrain_discriminator.own_weight=0")
    stage = trained_on_colors(*settings)
    figures = stage.validate()
    assert figures[stage.selection_metric] == figures["AUC (sum)"] > 0.72
    chosen = stage.best_weights()["discriminators"]
    for name, value in stage.discriminators.state_dict().items():
        assert torch.equal(chosen[name], value)


def test_something_must_be_learned():
    with pytest.raises(MfganError, match="own_weight, ranking_weight and joint_weight"):
        load_config(overrides=[*PLAIN, "pretrain_discriminator.own_weight=0"])


def test_each_factor_keeps_its_own_best_weights():
    model = made_discriminators()
    best = BestFactors(model)
    first = {name: value.clone() for name, value in model.state_dict().items()}
    best.offer(model, [0.6, 0.5])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    best.offer(model, [0.55, 0.7])
    assert best.scores.tolist() == pytest.approx([0.6, 0.7])
    kept = best.weights.state_dict()
    for factor, source in ((0, first), (1, model.state_dict())):
        for name, rows in model.factor_slices(factor).items():
            assert torch.equal(kept[name][rows], source[name][rows])


def test_pairs_are_told_beside_a_tempered_generator():
    model, temper = made_discriminators(), Temper(2)
    batch = TrainingBatches(random_dataset(num_items=9), max_len=20, batch_size=8, seed=0).epoch(0)[
        0
    ]
    items = torch.tensor([[1, 2, 3], [4, 5, 6]])
    proposed = torch.tensor([[3.0, 2.0, 4.0], [1.0, 2.0, 3.0]])
    trials = Trials(batch, torch.tensor([0, 3]), items, torch.zeros(2, 2), proposed)
    with torch.no_grad():
        temper.sum.fill_(1000.0)
        temper.factors[1] = -1000.0
    plain, figures = measure(model, iter([trials])), measure(model, iter([trials]), temper=temper)
    assert figures["AUC (sum)"] == 0.25  # the real items outscore one, and none, of two
    assert figures["AUC/two"] == 0.75
    assert figures["AUC/one"] == plain["AUC/one"]
    assert figures["calibration/two"] == plain["calibration/two"]


def test_measuring_combines_the_factors():
    model = made_discriminators()
    batch = TrainingBatches(random_dataset(num_items=9), max_len=20, batch_size=8, seed=0).epoch(0)[
        0
    ]
    items = torch.tensor([[1, 2, 3], [4, 5, 6]])
    trials = Trials(batch, torch.tensor([0, 3]), items, torch.zeros(2, 2), torch.zeros(items.shape))
    figures = measure(model, iter([trials, trials]))
    with torch.no_grad():
        logits = model(batch, trials.positions, items)
    combined = pair_auc(model.combine(logits).unsqueeze(-1))
    assert figures["AUC"] == pytest.approx(float(combined.mean()))
    assert figures["AUC/two"] == pytest.approx(float(pair_auc(logits)[:, 1].mean()))
    assert set(figures) == {
        "AUC",
        "AUC (sum)",
        *(
            f"{kind}/{name}"
            for kind in ("AUC", "accuracy", "calibration")
            for name in ("one", "two")
        ),
    }
