"""What preparing a log costs as the log grows: ``python -m bench.scale --rows 1e6,1e7 --out DIR``.

For each size a Zipf log is generated as Parquet, prepared by a process of its own, and deleted. The
seconds are those of the preparation, from the file to the directory on disk, without the start of
Python and the loading of compiled loops; the peak is all that the process ever held.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.results import Results, results_path

WARM_ROWS = 20_000
FLAT = 1.5


def main(arguments: list[str]) -> int:
    """Run the sizes that have no row yet; 0 unless one fails."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--rows", default="1e6,1e7,5e7,1e8", help="sizes, comma-separated")
    parser.add_argument("--out", type=Path, required=True, help="folder for the logs")
    parser.add_argument("--results", type=Path, default=results_path("scale"))
    parser.add_argument("--again", action="store_true", help="measure sizes that have a row too")
    parser.add_argument("--keep", action="store_true", help="keep the generated logs")
    options = parser.parse_args(arguments)
    sizes = [int(float(size)) for size in options.rows.split(",")]
    results = Results(options.results, _machine())
    for rows in sizes:
        if _name(rows) in results.rows and not options.again:
            print(f"{rows:,} rows: in {options.results} already")
            continue
        row = _measure(rows, options.out, keep=options.keep)
        results.add(row)
        print(_line(row), flush=True)
    found = [results.rows[_name(rows)] for rows in sizes]
    costs = [row["nanoseconds_a_row"] for row in found]
    flat = "within" if max(costs) <= FLAT * min(costs) else "not within"
    print(f"cost a row: most {max(costs) / min(costs):.2f} times least, {flat} {FLAT}")
    return 0


def _name(rows: int) -> str:
    return f"prepare-{rows}"


def _line(row: dict[str, Any]) -> str:
    return (
        f"SCALE {row['rows']:,} rows: {row['seconds']:.1f} s, {row['nanoseconds_a_row']:.0f} ns a"
        f" row, peak {row['peak_bytes'] / 1e9:.2f} GB (log {row['log_bytes'] / 1e9:.2f} GB,"
        f" generated in {row['seconds_to_generate']:.0f} s)"
    )


def _machine() -> dict[str, Any]:
    # A process of its own: what this one holds would count as its children's peak.
    code = "import json; from bench.common import processor; print(json.dumps(processor()))"
    found = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"processor": json.loads(found.stdout), "memory_bytes": memory}


def _measure(rows: int, folder: Path, *, keep: bool) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    log, prepared = folder / f"log-{rows}.parquet", folder / f"prepared-{rows}"
    start = time.perf_counter()
    if not log.exists():
        draft = folder / f"draft-{rows}.parquet"
        _run(["-m", "bench.generate", "parquet", str(rows), str(draft)])
        draft.rename(log)
    generated = time.perf_counter() - start
    try:
        answer, peak = _run([str(Path(__file__)), str(log), str(prepared)])
        row = {"name": _name(rows), "rows": rows, **json.loads(answer), "peak_bytes": peak}
        row["nanoseconds_a_row"] = row["seconds"] / rows * 1e9
        return {**row, "log_bytes": log.stat().st_size, "seconds_to_generate": generated}
    finally:
        shutil.rmtree(prepared, ignore_errors=True)
        if not keep:
            log.unlink()


def _run(arguments: list[str]) -> tuple[str, int]:
    """Run Python and wait for it; its standard output and the most bytes it held."""
    command = [sys.executable, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    with child.stdout:
        answer = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: must end with 0, got {child.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return answer, usage.ru_maxrss * unit


def _prepare(log: Path, out: Path) -> None:
    """In a process of its own: prepare the log and print what it took."""
    from bench.generate import write_log
    from mfgan.data.prepare import prepare

    shutil.rmtree(out, ignore_errors=True)
    small, small_out = log.with_name("warm.parquet"), out.with_name("warm")
    shutil.rmtree(small_out, ignore_errors=True)
    prepare(write_log(small, WARM_ROWS), small_out)
    small.unlink()
    shutil.rmtree(small_out)
    start = time.perf_counter()
    dataset = prepare(log, out)
    seconds = time.perf_counter() - start
    sizes = {"users": dataset.num_users, "items": dataset.num_items}
    print(json.dumps({"seconds": seconds, **sizes, "interactions": len(dataset.items)}))


if __name__ == "__main__":
    if len(sys.argv) == 3 and not sys.argv[1].startswith("-"):
        _prepare(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        sys.exit(main(sys.argv[1:]))
