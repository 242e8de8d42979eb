"""Whose weights a run serves."""

import shutil

import pytest
from made import made_dataset
from made_run import ALL_STAGES, calibrated, finished_run

from mfgan.errors import MfganError
from mfgan.training.run import Run

CONTROL = "continue-mle"


@pytest.mark.parametrize(
    ("stages", "asked", "served"),
    [
        (ALL_STAGES, None, "adversarial"),
        ((*ALL_STAGES, CONTROL), None, "adversarial"),
        ((*ALL_STAGES, CONTROL), CONTROL, CONTROL),
        ((*ALL_STAGES, CONTROL), "pretrain-discriminator", "pretrain-generator"),
        (("pretrain-generator", CONTROL), None, CONTROL),
        (("pretrain-generator",), None, "pretrain-generator"),
    ],
)
def test_the_control_is_served_only_by_name_or_without_an_adversarial_stage(
    tmp_path, stages, asked, served
):
    run = finished_run(tmp_path / "run", made_dataset(tmp_path / "data"), stages=stages)
    assert run.weights("generator", asked) == run.store(served).best_path()


def test_a_stage_after_the_control_is_of_the_adversarial_generator(tmp_path):
    dataset = made_dataset(tmp_path / "data")
    run = calibrated(finished_run(tmp_path / "run", dataset, stages=(*ALL_STAGES, CONTROL)))
    assert run.weights("generator", "calibrate") == run.store("adversarial").best_path()


def test_what_a_run_has_not_trained_is_that_of_the_run_it_was_begun_from(tmp_path):
    dataset = made_dataset(tmp_path / "data")
    first = finished_run(tmp_path / "first", dataset)
    begun = Run.create(tmp_path / "begun", dataset, first.config, str(first.path))
    again = Run.create(tmp_path / "again", dataset, first.config, str(begun.path))
    assert again.weights("generator") == first.store("adversarial").best_path()
    assert again.generator().state_dict().keys() == first.generator().state_dict().keys()
    shutil.rmtree(first.path)
    assert again.weights("generator") is None
    with pytest.raises(MfganError, match="generator must have been trained"):
        again.generator()
