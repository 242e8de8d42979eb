"""The train command: what it prints, and one line for a mistake."""

import json

import pytest
from made import made_dataset

from mfgan.cli import main

SMALL = [
    "--set",
    "generator.hidden_dim=8",
    "--set",
    "generator.max_len=8",
    "--set",
    "pretrain_generator.epochs=2",
    "--set",
    "adversarial.turns=1",
    "--objective",
    "mle",
    "--threads",
    "1",
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return str(made_dataset(tmp_path_factory.mktemp("data")).path)


def run_main(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


def test_json_is_all_that_standard_output_holds(dataset, tmp_path, capsys):
    assert run_main("train", dataset, "--run", tmp_path / "run", *SMALL, "--json") == 0
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert found["run"] == str(tmp_path / "run")
    assert [stage["stage"] for stage in found["stages"]] == ["pretrain-generator", "continue-mle"]
    assert found["stages"][0]["epochs"] == 2
    assert "pretrain-generator: 2/2" in output.err
    assert run_main("train", dataset, "--run", tmp_path / "run", "--resume", "--quiet") == 0
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "")


def test_progress_and_a_table_are_shown(dataset, tmp_path, capsys):
    arguments = ["--stage", "pretrain-generator", "--seed", "3"]
    assert run_main("train", dataset, "--run", tmp_path / "run", *SMALL, *arguments) == 0
    shown = capsys.readouterr().out
    assert "pretrain-generator: 2/2 loss" in shown
    assert "best validation" in shown
    assert "seed = 3" in (tmp_path / "run" / "config.toml").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "generator.dropuot=1"], "did you mean 'generator.dropout'"),
        (["--resume"], "must be a run to --resume"),
        (["--config", "none.toml"], "none.toml: must exist"),
        (["--init", "nowhere"], "must be a run made by"),
    ],
)
def test_a_mistake_gets_one_line(dataset, tmp_path, capsys, arguments, message):
    assert run_main("train", dataset, "--run", tmp_path / "run", *arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err
    assert output.err.count("\n") == 1


def test_no_data_set(tmp_path, capsys):
    assert run_main("train", tmp_path / "none", "--run", tmp_path / "run") == 2
    assert "must be a data set made by `mfgan prepare`" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
