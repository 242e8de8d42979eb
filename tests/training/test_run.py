"""Whose weights a run serves."""

import json
import shutil

import pytest
from made import made_dataset
from made_run import ALL_STAGES, calibrated, finished_run

from mfgan.errors import MfganError
from mfgan.models.correction import CALIBRATION_FILE
from mfgan.training.calibration import read_calibration
from mfgan.training.run import Run
from mfgan.training.start import take_start

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
    take_start(begun)
    again = Run.create(tmp_path / "again", dataset, first.config, str(begun.path))
    take_start(again)
    served = first.store("adversarial").best_path() / "generator.safetensors"
    before = served.read_bytes()
    shutil.rmtree(first.path)
    assert (again.weights("generator") / "generator.safetensors").read_bytes() == before
    assert again.generator().state_dict().keys() == begun.generator().state_dict().keys()
    shutil.rmtree(again.start)
    with pytest.raises(MfganError, match=r"start: must hold the weights .*, found nothing"):
        again.generator()


@pytest.mark.parametrize("gone", ["generator.safetensors", ""])
def test_a_finished_stage_without_its_weights_is_not_passed_over(tmp_path, gone):
    run = finished_run(tmp_path / "run", made_dataset(tmp_path / "data"))
    lost = run.store("adversarial").best_path() / gone
    lost.unlink() if gone else shutil.rmtree(lost)
    for stage in (None, "adversarial"):
        with pytest.raises(MfganError, match=r"generator.safetensors: must exist, found nothing"):
            run.generator(stage)
    assert run.generator("pretrain-generator") is not None


@pytest.mark.parametrize(
    ("name", "value"), [("fingerprint", None), ("init", 3), ("dataset", ["data"])]
)
def test_a_damaged_header_is_one_line(tmp_path, name, value):
    run = finished_run(tmp_path / "run", made_dataset(tmp_path / "data"))
    header = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**header, name: value}))
    with pytest.raises(MfganError, match=rf"run.json: {name} must be text, got"):
        Run.open(run.path)


@pytest.mark.parametrize(
    "damage",
    [[], {"factors": 3}, {"factors": [{}]}, {"top_k": 0}, {"top_k": "12"}, {"fitted_to": 4},
     {"more": 1}],
    ids=str,
)  # fmt: skip
def test_a_damaged_calibration_is_one_line(tmp_path, damage):
    run = calibrated(finished_run(tmp_path / "run", made_dataset(tmp_path / "data")))
    path = run.stage_directory("calibrate") / CALIBRATION_FILE
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, **damage} if damage else damage))
    with pytest.raises(MfganError, match=r"calibration.json: must be a calibration, got") as caught:
        read_calibration(run)
    assert "\n" not in str(caught.value)
