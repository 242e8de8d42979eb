"""What a later stage cannot do with a data set is said before the first one trains."""

import numpy as np
import pytest
from made import made_dataset
from small_adversary import AT_ENDS, CALIBRATED, small

from mfgan.errors import MfganError
from mfgan.models import relation_tables
from mfgan.training import train

FITTED = ("generator.relations=['transition']", "adversarial.relation_weights=fitted", *AT_ENDS)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("data"))


def refused(dataset, path, *overrides, **options):
    with pytest.raises(MfganError) as caught:
        train(dataset, path, small(*overrides), **options)
    assert not path.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["discriminator.factors=['gener']"], "did you mean 'genre'"),
        (["sample.method=gumbel", "sample.num_candidates=30"], "than the 29 that may be drawn"),
        (["adversarial.policy=gumbel", "adversarial.num_samples=31"], "than the 30 that may be"),
        (["cross_fit.folds=41"], r"folds must be within 2..40 (the users), got 41"),
        (["selection.metric=NDGC@10"], "did you mean 'NDCG@10'"),
    ],
)
def test_settings_that_do_not_fit_the_data_set(dataset, tmp_path, overrides, message):
    assert message in refused(dataset, tmp_path / "run", *overrides)


def test_relations_judge_only_catalogues_that_they_can_be_counted_of(
    dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr(relation_tables, "MOST_SIMILAR", 29)
    judging = ("discriminator.factors=['similarity']", "cross_fit.folds=2", *AT_ENDS)
    said = refused(dataset, tmp_path / "run", *judging, "adversarial.discriminator_epochs=0")
    assert said == "discriminator.factors: similarity must be of at most 29 items, got 30"


@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        ([], {}),
        ([CALIBRATED], {"stage": "adversarial"}),
        ([*FITTED, "adversarial.discriminator_epochs=0"], {"objective": "mle"}),
    ],
    ids=["calibrate", "reward", "relations"],
)
def test_choices_are_there_for_what_is_fitted_to_them(tmp_path, overrides, options, monkeypatch):
    dataset = made_dataset(tmp_path / "data")
    repeats = np.flatnonzero(dataset.validation > 0)
    items = np.array(dataset.items)
    places = dataset.offsets[repeats] + dataset.validation[repeats]
    items[places] = items[dataset.offsets[repeats]]
    monkeypatch.setattr(dataset, "items", items)
    said = refused(dataset, tmp_path / "run", *overrides, **options)
    assert "at least 2 users must have a validation target with a history that lacks it" in said
    train(dataset, tmp_path / "other", small(*overrides), stage="pretrain-generator")
