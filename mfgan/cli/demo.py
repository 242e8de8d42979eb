"""``mfgan demo``: the whole path on a small real data set, from the log to the report."""

from pathlib import Path

import rich_click as click

from mfgan.cli import options

_DATA = "ml-100k"
_USER = "1"
# What suits so small a log; all else is the tuned preset.
_SETTINGS = (
    "pretrain_generator.epochs=30",
    "generator.max_len=100",
    "pretrain_discriminator.batch_size=16",
)


@click.command("demo")
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="Where everything goes; what an earlier demo made there is replaced.",
)
@click.option("--threads", type=options.whole(1), help="CPU threads.  [default: all cores]")
@options.seed
def command(directory: Path, threads: int | None, seed: int) -> None:
    """Fetch MovieLens-100K, prepare it, train all stages, evaluate, recommend, explain, report.

    Every step is a command of its own, shown before it runs, so that each can be repeated and
    changed.
    """
    import shlex
    import shutil

    from mfgan.cli import cli

    for made in ("dataset", "run"):
        shutil.rmtree(directory / made, ignore_errors=True)
    for words in _steps(directory, threads, seed):
        click.secho(f"\n$ mfgan {shlex.join(words)}", bold=True)
        cli.main(args=words, prog_name="mfgan", standalone_mode=False)
    _show(directory)


def _steps(directory: Path, threads: int | None, seed: int) -> list[list[str]]:
    log, dataset, run = (str(directory / name) for name in (_DATA, "dataset", "run"))
    cores = [] if threads is None else ["--threads", str(threads)]
    settings = [word for setting in _SETTINGS for word in ("--set", setting)]
    return [
        ["datasets", "fetch", _DATA, "--to", str(directory)],
        ["prepare", log, dataset, "--format", _DATA],
        ["train", dataset, "--run", run, "--seed", str(seed), *cores, *settings],
        ["eval", run, *cores, "--json", str(directory / "eval.json")],
        ["recommend", run, "--user", _USER, "-k", "5", "--explain"],
        ["explain", run, "--user", _USER, "-k", "5", "--quiet", "--out", str(directory / "user")],
        ["report", run, "--out", str(directory / "report.html")],
    ]


def _show(directory: Path) -> None:
    from mfgan.console import Reporter
    from mfgan.files import read_json

    document = read_json(directory / "eval.json")
    columns = ["HR@10", "NDCG@10", "MRR"]
    rows = [
        [row["name"], *(f"{row['metrics'][name]:.4f}" for name in columns)]
        for row in (*document["others"], document)
    ]
    reporter = Reporter(quiet=False)
    reporter.table("Test, full ranking", ["recommender", *columns], rows)
    for what, name in (
        ("prepared data", "dataset"),
        ("trained run", "run"),
        ("evaluation", "eval.json"),
        ("explanation", "user.png"),
        ("report", "report.html"),
    ):
        reporter.note(f"{what:14} {directory / name}")
