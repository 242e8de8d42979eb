from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from made_displays import make

from mfgan.data.displays.batch import ClickHistory, EventStore
from mfgan.errors import MfganError
from mfgan.models import user_attention
from mfgan.models.user_model import build_user_model
from mfgan.models.user_model_config import UserModelConfig

CONFIGS = {
    "lstm": UserModelConfig(features=("one-hot", "exposure")),
    "lstm embedding": UserModelConfig(),
    "pw": UserModelConfig(encoder="pw", features=("one-hot", "exposure"), band_size=3),
    "pw as in the code": UserModelConfig(
        encoder="pw", features=("one-hot",), position_activation=False, band_size=3
    ),
    "attention": UserModelConfig(encoder="attention", max_clicks=3),
    "attention of two blocks": UserModelConfig(encoder="attention", max_clicks=2, num_blocks=2),
    "batch norm": UserModelConfig(batch_norm=True),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make(tmp_path_factory.mktemp("displays"))


def built(data, name):
    model = build_user_model(CONFIGS[name], data, users=data.users("train"), seed=1)
    # Zero tables would hide a mistake in how they are looked up.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) / 5
            )
    return model.eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_row_order_inside_a_display_reaches_no_model(data, name):
    model, batch = built(data, name), EventStore(data).batch(np.arange(20))
    rng = np.random.default_rng(0)
    bounds = pairwise(batch.offsets.tolist())
    order = np.concatenate([rng.permutation(np.arange(a, b)) for a, b in bounds])
    turned = replace(
        batch, items=batch.items[order], context=batch.context[order], places=batch.places[order]
    )
    torch.testing.assert_close(model(turned), model(batch)[order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_packed_users_equal_one_user_at_a_time(data, name):
    model, store = built(data, name), EventStore(data)
    alone = torch.cat([model(store.batch(np.array([user]))) for user in range(data.num_users)])
    torch.testing.assert_close(model(store.batch(np.arange(data.num_users))), alone)


@pytest.mark.parametrize("name", CONFIGS)
def test_stepping_gives_the_states_of_training(data, name):
    model = built(data, name)
    clicks = torch.tensor([[3, 1, 3], [2, 0, 5], [0, 0, 4]])
    carry = model.encoder.begin(model.features, 3)
    for step in range(3):
        for user in range(3):
            past = clicks[user, :step]
            past = past[past > 0]
            history = ClickHistory.from_windows(past[None], torch.tensor([len(past)]))
            wanted = model.encoder(model.features, history, None)[-1]
            torch.testing.assert_close(carry.hidden[user], wanted)
        carry = model.encoder.advance(model.features, carry, clicks[:, step])


@pytest.mark.parametrize("name", CONFIGS)
def test_stepping_goes_on_as_training_does_when_the_window_is_full(data, name):
    model = built(data, name)
    clicks = torch.tensor([[3, 1, 3, 7, 2, 5, 5, 9], [4, 8, 6, 1, 0, 0, 0, 0]])
    history = ClickHistory.from_windows(clicks, torch.tensor([8, 4]))
    states = model.encoder(model.features, history, None).split([9, 5])
    carry = model.encoder.begin(model.features, 2)
    items, context = torch.arange(1, 4), torch.zeros(3, 3)
    for step in range(8):
        carry = model.encoder.advance(model.features, carry, clicks[:, step])
        for user in range(2):
            after = states[user][min(step + 1, len(states[user]) - 1)]
            utilities = [
                model.utilities(one[None], items, torch.zeros(3, dtype=torch.int64), context)
                for one in (carry.hidden[user], after)
            ]
            torch.testing.assert_close(*utilities)


def test_attention_learns_from_no_click_before_its_window(data):
    model = built(data, "attention")
    history = ClickHistory.from_windows(torch.tensor([[7, 1, 2, 3]]), torch.tensor([4]))
    model.encoder(model.features, history, None)[-1].square().sum().backward()
    found = model.features.embedding.weight.grad.abs().sum(1) > 0
    assert found[:8].tolist() == [False, True, True, True, False, False, False, False]


@pytest.mark.parametrize("name", ["pw", "attention"])
def test_a_full_window_forgets_the_oldest_click(data, name):
    model = built(data, name)
    carry = model.encoder.begin(model.features, 1)
    for item in (7, 1, 2, 3):
        carry = model.encoder.advance(model.features, carry, torch.tensor([item]))
    short = ClickHistory.from_windows(torch.tensor([[1, 2, 3]]), torch.tensor([3]))
    torch.testing.assert_close(carry.hidden[0], model.encoder(model.features, short, None)[-1])


def test_position_weights_are_those_of_the_paper(data):
    model = built(data, "pw")
    features, encoder = model.features, model.encoder
    vectors = torch.zeros(13, features.dim)
    vectors[:, :13] = torch.eye(13)
    vectors[:, 13:] = features.narrow(torch.arange(13))
    history = ClickHistory.from_windows(torch.tensor([[4, 2]]), torch.tensor([2]))
    # vec(σ(F W + B)): the newest click has lag 0.
    sums = torch.einsum("ld,ln->nd", vectors[[2, 4]], encoder.weight[:2])
    wanted = torch.nn.functional.elu(sums + encoder.bias).flatten()
    torch.testing.assert_close(encoder(features, history, None)[-1], wanted)


def test_batch_norm_statistics_are_updated_in_training_alone(data):
    model, batch = built(data, "batch norm"), EventStore(data).batch(np.arange(9))
    before = model.norms[0].running_mean.clone()
    model(batch)
    assert torch.equal(before, model.norms[0].running_mean)
    model.train()(batch)
    assert not torch.equal(before, model.norms[0].running_mean)


def test_a_click_reaches_no_event_before_or_at_it(data):
    model, store = built(data, "attention"), EventStore(data)
    user = int(np.diff(data.user_offsets).argmax())
    batch = store.batch(np.array([user]))
    items = batch.history.items.clone().requires_grad_(False)
    items[-1] = items[-1] % 12 + 1
    other = replace(batch, history=replace(batch.history, items=items))
    untouched = batch.states[batch.events] < len(items) - 1
    assert bool(untouched.any())
    assert bool((~untouched).any())
    got, wanted = model(other), model(batch)
    assert torch.equal(got[untouched], wanted[untouched])
    assert not torch.allclose(got[~untouched], wanted[~untouched])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (UserModelConfig(features=("colour",)), "has no factor 'colour'"),
        (UserModelConfig(features=()), "features: must be one-hot"),
        (
            UserModelConfig(encoder="pw", features=("one-hot",), position_vectors=2000),
            "position weights make a state of 26,000 numbers",
        ),
    ],
)
def test_wrong_settings(data, config, message):
    with pytest.raises(MfganError, match=message):
        build_user_model(config, data, users=data.users("train"), seed=0)


def test_windows_in_pieces_have_the_same_states_and_gradients(data, monkeypatch):
    model = built(data, "attention of two blocks")
    clicks = torch.randint(1, 9, (3, 20), generator=torch.Generator().manual_seed(2))
    history = ClickHistory.from_windows(clicks, torch.tensor([20, 4, 11]))

    def states_and_gradients():
        states = model.encoder(model.features, history, None)
        weight = torch.linspace(-1, 1, states.numel()).view_as(states)
        return [states, *torch.autograd.grad((states * weight).sum(), model.encoder.parameters())]

    whole = states_and_gradients()
    monkeypatch.setattr(user_attention, "_TOKENS_AT_ONCE", 12)
    for one, other in zip(states_and_gradients(), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_pieces_of_windows_drop_out_apart(data, monkeypatch):
    config = CONFIGS["attention"].model_copy(update={"dropout": 0.5})
    model = build_user_model(config, data, users=data.users("train"), seed=1).train()
    monkeypatch.setattr(user_attention, "_TOKENS_AT_ONCE", 0)  # a window a piece
    history = ClickHistory.from_windows(torch.full((1, 40), 3), torch.tensor([40]))
    states = model.encoder(model.features, history, torch.tensor([3, 1]))[4:]
    # All windows hold the same clicks; what tells them apart is what is dropped.
    assert len(states.unique(dim=0)) > 30
