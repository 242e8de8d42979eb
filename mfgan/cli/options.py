"""Options that several commands share."""

from pathlib import Path

import rich_click as click

PATH = click.Path(path_type=Path)
LARGEST = 2**31 - 1  # of int32, in which arrays count users and items


def whole(least: int | None = None) -> click.IntRange:
    """Numbers that fit arrays, from ``least`` on; without it the command checks its own rule."""
    return click.IntRange(min=least, max=LARGEST)


SEED = click.IntRange(min=0, max=2**63 - 1)


def _use_threads(
    context: click.Context, parameter: click.Parameter, threads: int | None
) -> int | None:
    if threads:
        import torch

        torch.set_num_threads(threads)
    return threads


def _find_device(context: click.Context, parameter: click.Parameter, name: str) -> str:
    if name != "cpu":
        from mfgan.device import find_device

        find_device(name)
    return name


# Of which run.
run = click.argument("run", type=PATH)
stage = click.option("--stage", help="Weights of this stage.  [default: the last]")
controls = click.option(
    "--control",
    "controls",
    multiple=True,
    type=PATH,
    help="Another run to compare with; may be given again.",
)

# For whom.
user = click.option("--user", help="A user of the data set, by the id of the log.")
session = click.option(
    "--session",
    help="Or a history: item ids, comma-separated, the latest last; one with a comma in quotes.",
)
count = click.option("-k", "count", type=whole(1), default=10, show_default=True)

# How.
overrides = click.option(
    "--set", "overrides", multiple=True, metavar="NAME=VALUE", help="One setting, as a.b=value."
)
seed = click.option("--seed", type=SEED, default=0, show_default=True)
device = click.option(
    "--device", default="cpu", show_default=True, callback=_find_device, help="cpu, cuda or cuda:N."
)
threads = click.option(
    "--threads",
    type=whole(1),
    callback=_use_threads,
    expose_value=False,
    help="CPU threads.  [default: as torch chooses]",
)

# What is printed.
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
quiet = click.option("--quiet", is_flag=True, help="Show no progress.")
