"""Whose weights a run serves."""

import pytest
from made import made_dataset
from made_run import ALL_STAGES, finished_run

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
