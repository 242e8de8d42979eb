"""Rows of the table of record, on a log small enough to train in seconds."""

import json

import numpy as np
import polars as pl
import pytest

from bench.reproduce import run as runs
from bench.reproduce.rows import ROWS, Data, find_row, settings_of
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


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduction")
    rng = np.random.default_rng(0)
    lines = [
        " ".join(map(str, [user, *rng.permutation(np.arange(1, 131))[: rng.integers(6, 12)]]))
        for user in range(1, 41)
    ]
    (folder / "log.txt").write_text("\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "REAL_DATA", folder)
        patch.setitem(runs.DATA, "small", Data("log.txt", "sequences", SMALL, (), 4))
        patch.setattr(runs, "prepare", lambda *a, **k: PREPARE(*a, k_core=1, **k))
        for seed in (0, 1):
            for row in ("popularity", "generator", "control", "tuned", "with-discriminators"):
                reproduce(row, "small", seed, folder, threads=1, reporter=SILENT)
        for row in ("without:popularity", "control-ids", "tuned-ids"):
            reproduce(row, "small", 0, folder, threads=1, reporter=SILENT)
        yield folder


PREPARE = runs.prepare


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
    reproduce("tuned", "small", 0, out, threads=1, reporter=SILENT)
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


def test_ablations_are_tested_against_what_they_change(out):
    whole, name = ROWS["with-discriminators"].title, "MFGAN tuned, without popularity"
    main, ablations, _ = tables(out)
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
    rows = tables(out)[-1]
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


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("tunde", "row must be one of .* got 'tunde'; did you mean"),
        ("only:price", "factor must be one of id, popularity, genre, got 'price'"),
        ("depth:3", "ablation must be one of .* got 'depth'"),
    ],
)
def test_unknown_rows_are_refused(row, message):
    with pytest.raises(MfganError, match=message):
        find_row(row, FACTORS)


def test_missing_data_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "REAL_DATA", tmp_path)
    with pytest.raises(MfganError, match="sasrec.txt.gz must be below MFGAN_DATA"):
        reproduce("tuned", "ml-1m", 0, tmp_path, threads=1, reporter=SILENT)
    with pytest.raises(MfganError, match="data must be one of .* got 'ml-2m'"):
        reproduce("tuned", "ml-2m", 0, tmp_path, threads=1, reporter=SILENT)


def test_the_published_settings_are_those_of_no_data_set():
    assert settings_of(ROWS["paper"], "beauty") == ("precision=bf16",)
    assert "generator.max_len=50" in settings_of(ROWS["generator-bce"], "beauty")
    assert settings_of(ROWS["generator-bce"], "beauty")[-1] == "pretrain_generator.loss=bce"


def test_published_turns_have_a_control_of_as_many_passes_and_validations():
    names = ("paper-short", "control-short")
    paper, control = (
        load_config(ROWS[name].preset, overrides=settings_of(ROWS[name], "ml-1m")) for name in names
    )
    assert {ROWS[name].start for name in names} == {"generator-published"}
    assert {ROWS[name].against for name in names} == {"control-short"}
    assert control.pretrain_generator.loss == "softmax"
    # The adversarial stage counts turns, its control passes.
    passes = paper.adversarial.generator_epochs * paper.adversarial.evaluate_every
    assert control.adversarial.evaluate_every == passes
    same = {"evaluate_every": paper.adversarial.evaluate_every}
    assert control.adversarial.model_copy(update=same) == paper.adversarial
