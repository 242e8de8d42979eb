"""The curves of a run."""

from mfgan.training.log import MetricsLog, read_rows

ROWS = [
    {"stage": "pretrain-generator", "epoch": 9, "step": 90},
    {"stage": "adversarial", "epoch": 0, "step": 0, "validation": {}},
    {"stage": "adversarial", "epoch": 1, "step": 10},
    {"stage": "adversarial", "epoch": 2, "step": 20},
    {"stage": "adversarial", "epoch": 3, "step": 20},
]


def test_what_lies_behind_a_checkpoint_is_dropped_of_its_stage_alone(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for row in ROWS:
        log.write(row)
    # The torn last line of a killed process goes as well.
    with open(log.path, "a") as handle:
        handle.write('{"stage": "adv')
    for epoch, step, kept in [(2, 20, 4), (2, 15, 3), (1, 20, 3), (0, 0, 2), (-1, 0, 1)]:
        log.rewind("adversarial", epoch=epoch, step=step)
        assert read_rows(log.path) == ROWS[:kept]
