"""Rows of the table of record, on a log small enough to train in seconds."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from command import run_module

from bench.reproduce import data as grounds
from bench.reproduce.data import Data, Ground, ground
from bench.reproduce.rows import ROWS, against, find_row, settings_of
from bench.reproduce.run import reproduce
from bench.reproduce.table import table
from mfgan.config import load_config
from mfgan.console import SILENT
from mfgan.errors import MfganError
from mfgan.evaluation.significance import randomisation_test
from mfgan.report.standing import standing
from mfgan.training import Run

SMALL = (
    "generator.hidden_dim=8",
    "generator.num_blocks=1",
    "generator.max_len=10",
    "discriminator.hidden_dim=8",
    "discriminator.max_history=5",
    "sample.positions=2",
    "pretrain_generator.epochs=1",
    "pretrain_discriminator.epochs=1",
    "adversarial.turns=1",
    "sample.num_candidates=3",
    "calibrate.top_k=50",
    "generator.factors=['popularity']",
)
FACTORS = ["id", "popularity", "genre"]
JUDGES = ("id", "popularity", "co_occurrence")


def write_log(path, seed):
    rng = np.random.default_rng(seed)
    lines = [
        " ".join(map(str, [user, *rng.permutation(np.arange(1, 131))[: rng.integers(6, 12)]]))
        for user in range(1, 41)
    ]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduction")
    write_log(folder / "log.txt", seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grounds, "REAL_DATA", folder)
        patch.setitem(grounds.DATA, "small", Data("log.txt", "sequences", SMALL, JUDGES, 4))
        patch.setattr(grounds, "prepare", lambda *a, **k: PREPARE(*a, k_core=1, **k))
        small = ground("small", folder, SILENT)
        for seed in (0, 1):
            for row in ("popularity", "generator", "control", "tuned", "with-discriminators"):
                reproduce(row, small, seed, folder, threads=1, reporter=SILENT)
        for row in ("without:popularity", "control-ids", "tuned-ids"):
            reproduce(row, small, 0, folder, threads=1, reporter=SILENT)
        yield folder


PREPARE = grounds.prepare


def result(out, row, seed=0):
    return json.loads((out / "results" / f"small-{row}-{seed}.json").read_text())


def test_rows_score_what_they_name(out):
    run = standing(out / "runs" / "small-tuned-0", baselines=False)
    by_name = {other.name: other.evaluation for other in run.others}
    expected = {
        "tuned": run.ours.evaluation,
        "with-discriminators": by_name["with discriminators"],
        "generator": standing(
            out / "runs" / "small-generator-softmax-0", baselines=False
        ).ours.evaluation,
        "control": standing(out / "runs" / "small-control-0", baselines=False).ours.evaluation,
    }
    for row, evaluation in expected.items():
        found = result(out, row)["metrics"]
        for name, value in evaluation.metrics.items():
            assert found[name]["mean"] == value
        assert "NDCG@10 (100 sampled)" in found


def test_rows_start_from_the_same_generator_and_count_its_time(out):
    assert result(out, "popularity")["seconds"] == 0
    alone = result(out, "generator")["seconds"]
    for row in ("control", "tuned", "with-discriminators", "without-popularity"):
        assert result(out, row)["seconds"] > alone > 0


def test_a_row_that_is_there_is_kept(out):
    before = {path: path.stat().st_mtime_ns for path in (out / "results").iterdir()}
    reproduce("tuned", ground("small", out, SILENT), 0, out, threads=1, reporter=SILENT)
    assert before == {path: path.stat().st_mtime_ns for path in (out / "results").iterdir()}


def tables(out):
    """Rows by title of each table, the header as ``head``."""
    found = []
    for part in table(out).split("\n\n"):
        cells = [[cell.strip() for cell in line.split("|")] for line in part.splitlines()]
        found.append({"head": cells[0]} | {line[1]: line for line in cells[2:]})
    return found


def test_the_table_has_means_intervals_and_tests(out):
    rows = tables(out)[0]
    values = [result(out, "tuned", seed)["metrics"]["NDCG@10"]["mean"] for seed in (0, 1)]
    half = 12.706 * abs(values[0] - values[1]) / 2  # of two values, the error of the mean
    assert rows[ROWS["tuned"].title][2] == "2"
    assert rows[ROWS["tuned"].title][4] == f"{np.mean(values):.4f} ± {half:.4f}"
    assert rows[ROWS["control"].title][-2] == ""
    assert 0 < float(rows[ROWS["tuned"].title][-2]) <= 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"fingerprint": "another"}, "small: results must be of one data set, got 2 fingerprints"),
        ({"settings": ["seed=1"]}, "all seeds of tuned must have the same settings, got others"),
    ],
)
def test_there_is_no_mean_of_what_was_made_otherwise(out, tmp_path, changed, said):
    shutil.copytree(out / "results", tmp_path / "results")
    path = tmp_path / "results" / "small-tuned-1.json"
    found = json.loads(path.read_text())
    found["made_of"] |= changed
    path.write_text(json.dumps(found))
    with pytest.raises(MfganError, match=said):
        table(tmp_path)


def test_rows_of_several_seeds_are_told_seed_by_seed(out):
    rows = tables(out)[-1]
    assert rows["head"][1:-1] == ["small, NDCG@10 by seed", "0", "1"]
    names = ("popularity", "generator", "control", "tuned", "with-discriminators")
    assert list(rows)[1:] == [ROWS[name].title for name in names]  # none has those of one seed
    for name in names:
        expected = [f"{result(out, name, s)['metrics']['NDCG@10']['mean']:.4f}" for s in (0, 1)]
        assert rows[ROWS[name].title][2:-1] == expected


def test_ablations_are_tested_against_what_they_change(out):
    whole, name = ROWS["with-discriminators"].title, "MFGAN tuned, without popularity"
    main, ablations, *_ = tables(out)
    assert main["head"][-2] == f"p against {ROWS['control'].title}"
    assert ablations["head"][-2] == f"p against {whole}"
    assert name not in main
    assert ablations[name][2] == ablations[whole][2] == "1"
    assert ablations[whole][-2] == ""
    assert (
        ablations[whole][4]
        == f"{result(out, 'with-discriminators')['metrics']['NDCG@10']['mean']:.4f}"
    )
    gap = by_user(out, "without-popularity") - by_user(out, "with-discriminators")
    assert float(ablations[name][-2]) == round(float(randomisation_test(gap[:, None])[0]), 4)


def test_generators_without_factors_are_tested_against_their_own_control(out):
    for row in ("control-ids", "tuned-ids"):
        run = Run.open(out / "runs" / f"small-{row}-0")
        assert run.config.generator.factors == ()
        starts = Run.open(run.init)
        while starts.init:
            starts = Run.open(starts.init)
        assert starts.path.name == "small-generator-softmax-ids-0"
    rows = tables(out)[-2]
    suffix = ", ids alone in the generator"
    assert rows[ROWS["control"].title + suffix][-2] == ""
    gap = by_user(out, "tuned-ids") - by_user(out, "control-ids")
    alone = float(randomisation_test(gap[:, None])[0])
    # Holm's correction can only raise it.
    assert float(rows[ROWS["tuned"].title + suffix][-2]) >= round(alone, 4)


def by_user(out, row):
    return pl.read_parquet(out / "results" / f"small-{row}-0-full.parquet")["NDCG@10"].to_numpy()


def test_results_hold_every_user(out):
    frame = pl.read_parquet(out / "results" / "small-tuned-0-full.parquet")
    assert frame["NDCG@10"].mean() == pytest.approx(
        result(out, "tuned")["metrics"]["NDCG@10"]["mean"]
    )


def test_ablations_change_one_setting():
    assert find_row("without:genre", FACTORS).settings == (
        "discriminator.factors=['id', 'popularity']",
    )
    assert find_row("only:genre", FACTORS).settings == ("discriminator.factors=['genre']",)
    assert find_row("lambda:2", FACTORS).settings == (
        "adversarial.reward=log-odds",
        "adversarial.policy_weight=3",
        "discriminator.sharpness=2",
    )
    assert find_row("samples:8", FACTORS).settings == ("adversarial.num_samples=8",)
    assert find_row("shared-discriminators", FACTORS).settings == ("discriminator.shared=true",)


def test_relations_judge_and_are_in_the_generator_as_the_row_says(out):
    where, both = ground("small", out, SILENT), ("transition", "similarity")
    names = ("control-relations", "tuned", "tuned-relations", "tuned-learned-relations")
    asked = {
        name: load_config("tuned", overrides=settings_of(find_row(name, JUDGES), where))
        for name in (*names, "tuned-judged-relations", "only:transition", "without:transition")
    }
    assert {name: config.generator.relations for name, config in asked.items()} == {
        "control-relations": both,
        "tuned": (),
        "tuned-relations": both,
        "tuned-learned-relations": both,
        "tuned-judged-relations": (),
        "only:transition": ("transition",),
        "without:transition": ("similarity",),
    }
    begins = {name: config.adversarial.relation_weights for name, config in asked.items()}
    assert [name for name, begin in begins.items() if begin == "zero"] == [names[-1]]
    assert find_row("tuned-relations", JUDGES).against == "control-relations"
    judges = {name: config.discriminator.factors for name, config in asked.items()}
    assert judges == {
        "control-relations": JUDGES,
        "tuned": JUDGES,
        "tuned-relations": JUDGES,
        "tuned-learned-relations": (*JUDGES, *both),
        "tuned-judged-relations": (*JUDGES, *both),
        "only:transition": JUDGES,
        "without:transition": JUDGES,
    }
    tempered = {name: config.pretrain_discriminator.tempered for name, config in asked.items()}
    assert [name for name, is_so in tempered.items() if is_so] == [
        "tuned-learned-relations",
        "tuned-judged-relations",
    ]
    row = find_row("only:transition", JUDGES)
    reproduce("control-relations", where, 0, out, threads=1, reporter=SILENT)
    control = Run.open(out / "runs" / "small-control-relations-0")
    assert not control.generator().relations.is_empty
    assert row.against == against("only:transition") == "with-discriminators-relations"
    assert against("only:genre") == "with-discriminators"
    reproduce("only:transition", where, 0, out, threads=1, reporter=SILENT)
    run = Run.open(out / "runs" / "small-only-transition-0")
    assert run.generator().relations.names == ("transition",)
    assert run.init == str(out / "runs" / "small-folds-0")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("tunde", "row must be one of .* got 'tunde'; did you mean"),
        (
            "only:price",
            "factor must be one of id, popularity, genre, transition, similarity, got 'price'",
        ),
        ("without:alone", "another factor must judge without alone"),
        ("depth:3", "ablation must be one of .* got 'depth'"),
    ],
)
def test_unknown_rows_are_refused(row, message):
    with pytest.raises(MfganError, match=message):
        find_row(row, ["alone"] if "alone" in row else FACTORS)


def test_missing_data_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(grounds, "REAL_DATA", tmp_path)
    with pytest.raises(MfganError, match="sasrec.txt.gz must be below MFGAN_DATA"):
        ground("ml-1m", tmp_path, SILENT)
    with pytest.raises(MfganError, match="data must be one of .* got 'ml-2m'"):
        ground("ml-2m", tmp_path, SILENT)
    with pytest.raises(MfganError, match="ml-1m has its own settings, got seed=1"):
        ground("ml-1m", tmp_path, SILENT, ["seed=1"])


def test_a_folder_of_ones_own(out, tmp_path):
    path = tmp_path / "mine"
    shutil.copytree(out / "data" / "small", path)
    mine = ground(str(path), tmp_path, SILENT, SMALL)
    assert mine.judges == ("popularity", "co_occurrence")
    for row in ("popularity", "control", "tuned"):
        reproduce(row, mine, 0, tmp_path / "out", threads=1, reporter=SILENT)
    run = Run.open(tmp_path / "out" / "runs" / "mine-tuned-0")
    assert run.config.generator.hidden_dim == 8
    assert run.config.discriminator.factors == mine.judges
    (rows,) = tables(tmp_path / "out")
    assert rows["head"][1] == "mine"
    assert set(rows) == {"head", *(ROWS[row].title for row in ("popularity", "control", "tuned"))}


def test_a_catalogue_too_small_to_draw_from_has_full_ranking_alone(tmp_path):
    rng = np.random.default_rng(0)
    lines = [
        " ".join(map(str, [user, *rng.permutation(np.arange(1, 41))[:6]])) for user in range(9)
    ]
    (tmp_path / "log.txt").write_text("\n".join(lines) + "\n")
    made = PREPARE(tmp_path / "log.txt", tmp_path / "tiny", format="sequences", k_core=1)
    where = ground(str(made.path), tmp_path, SILENT, SMALL)
    found = reproduce("popularity", where, 0, tmp_path / "out", threads=1, reporter=SILENT)
    assert next(iter(metrics_in(found))) == "HR@1"
    assert not [name for name in metrics_in(found) if "sampled" in name]
    (rows,) = tables(tmp_path / "out")
    assert rows["popularity"][3] != ""
    assert rows["popularity"][6:9] == ["", "", ""]


command = partial(run_module, "bench.reproduce")


def metrics_in(path):
    return json.loads(path.read_text())["metrics"]


@pytest.mark.slow
def test_seeds_at_once_are_the_same_rows(out, tmp_path):
    path = tmp_path / "mine"
    shutil.copytree(out / "data" / "small", path)
    given = [f"--set={setting}" for setting in SMALL]
    at_once = tmp_path / "at-once"
    run = command("generator", "--data", path, *given, "--seeds=2", "--jobs=2", "--out", at_once)
    names = ["mine-generator-0.json", "mine-generator-1.json"]
    assert sorted(Path(line).name for line in run.stdout.splitlines()) == names
    assert {line.partition(":")[0] for line in run.stderr.splitlines()} == {"seed 0", "seed 1"}
    plain = ground(str(path), tmp_path, SILENT, SMALL)
    for seed, name in enumerate(names):
        found = reproduce("generator", plain, seed, tmp_path / "plain", threads=1, reporter=SILENT)
        assert metrics_in(found) == metrics_in(at_once / "results" / name)


def test_a_mistake_in_the_last_row_shows_before_the_first_is_made(out, tmp_path):
    data = out / "data" / "small"
    run = command("popularity", "tuend", "--data", data, "--out", tmp_path / "out", status=1)
    assert run.stderr.startswith("error: reproduce: row must be one of")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_one_of_several_seeds_refuses_is_refused(out, tmp_path):
    given = ("popularity", "--data", out / "data" / "small", "--out", tmp_path)
    command(*given, "--seed", 1)
    run = command(*given, "--set", "seed=7", "--seeds", 2, "--jobs", 2, status=1)
    assert [Path(line).name for line in run.stdout.splitlines()] == ["small-popularity-0.json"]
    assert "seed 1: error: " in run.stderr
    assert "seed 0: error: " not in run.stderr


def test_a_row_made_of_other_data_or_settings_is_not_taken_for_this_one(tmp_path):
    where = []
    for seed, folder in enumerate((tmp_path / "mine", tmp_path / "other" / "mine")):
        write_log(tmp_path / "log.txt", seed)
        PREPARE(tmp_path / "log.txt", folder, format="sequences", k_core=1)
        where.append(ground(str(folder), tmp_path, SILENT))
    reproduce("popularity", where[0], 0, tmp_path, threads=1, reporter=SILENT)
    where.append(ground(str(tmp_path / "mine"), tmp_path, SILENT, ["generator.hidden_dim=8"]))
    for one in where[1:]:
        with pytest.raises(MfganError, match="popularity-0.json: was made of other data or"):
            reproduce("popularity", one, 0, tmp_path, threads=1, reporter=SILENT)


def test_a_folder_must_not_be_called_as_a_data_set_is(tmp_path, out):
    shutil.copytree(out / "data" / "small", tmp_path / "beauty")
    with pytest.raises(MfganError, match="must not be called as a data set is, got 'beauty'"):
        ground(str(tmp_path / "beauty"), tmp_path, SILENT)


def test_the_published_settings_are_those_of_no_data_set(out):
    where = Ground("any", ground("small", out, SILENT).dataset, ("generator.max_len=50",), ("id",))
    assert settings_of(ROWS["paper"], where) == ("precision=bf16",)
    assert "generator.max_len=50" in settings_of(ROWS["generator-bce"], where)
    assert settings_of(ROWS["generator-bce"], where)[-1] == "pretrain_generator.loss=bce"


@pytest.mark.parametrize("kind", ["short", "stopped"])
def test_published_turns_have_a_control_of_as_many_passes(kind):
    names = (f"paper-{kind}", f"control-{kind}")
    paper, control = (
        load_config(ROWS[name].preset, overrides=ROWS[name].settings) for name in names
    )
    assert {ROWS[name].start for name in names} == {"generator-published"}
    assert {ROWS[name].against for name in names} == {f"control-{kind}"}
    assert control.pretrain_generator.loss == "softmax"
    assert control.adversarial == paper.adversarial
