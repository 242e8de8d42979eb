"""One JSON document and one table of a run."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.gpu.cases import OURS
from bench.gpu.journal import Journal
from bench.gpu.parts import Outcome

# Times as fast as the best rival that a group is to be; nothing is to be slower than the floor.
TARGETS = {"ml-1m": 1.5, "games": 3.0, "score": 5.0}
FLOOR = 0.9


def make_report(
    machine: Mapping[str, Any], journal: Journal, outcomes: Sequence[Outcome]
) -> dict[str, Any]:
    """All that is known of a run so far.

    Args:
        machine: Names and versions.
        journal: What the parts have left.
        outcomes: How the parts ended.

    Returns:
        A document for JSON; ``rows`` has one entry a case and direction.
    """
    return {
        "machine": dict(machine),
        "parts": [outcome.to_dict() for outcome in outcomes],
        "ceilings": {r["name"]: [r["value"], r["unit"]] for r in journal.records("fact")},
        "rows": _rows(journal),
        "could_not_run": _failures(journal),
        "targets": TARGETS,
        "floor": FLOOR,
    }


def write_json(report: Mapping[str, Any], path: Path) -> None:
    """Write the document whole or not at all."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    os.replace(draft, path)


def _failures(journal: Journal) -> dict[str, dict[str, str]]:
    cases = dict.fromkeys(record["case"] for record in journal.records("trying"))
    return {case: why for case in cases if (why := journal.failures(case))}


def _rows(journal: Journal) -> list[dict[str, Any]]:
    """Rounds of one case and direction put together: ratios are within a round."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for record in journal.records("row"):
        for direction, sides in record["seconds"].items():
            ours = sides[OURS]["median"]
            row = rows.setdefault(
                (record["case"], direction),
                {
                    "case": record["case"],
                    "direction": direction,
                    "group": record["group"],
                    "facts": record["facts"],
                    "ours": sides[OURS],
                    "rivals": {},
                    "wrong": [],
                },
            )
            row["wrong"] += [name for name in record["wrong"] if name not in row["wrong"]]
            for name, side in sides.items():
                if name != OURS:
                    row["rivals"][name] = {**side, "ratio": side["median"] / ours}
    for row in rows.values():
        row |= _verdict(row)
    return list(rows.values())


def _verdict(row: Mapping[str, Any]) -> dict[str, Any]:
    """The best rival that is right, how many times as fast ours is, and whether that suffices."""
    right = {n: r["ratio"] for n, r in row["rivals"].items() if n not in row["wrong"]}
    target = TARGETS.get(row["group"], FLOOR)
    found: dict[str, Any] = {"best_rival": None, "ratio": None, "target": None}
    if OURS in row["wrong"]:
        return {**found, "verdict": "WRONG RESULT"}
    if not row["facts"].get("kernel", True):
        return {**found, "verdict": "no kernel"}
    if not right:
        return {**found, "verdict": "no rival"}
    best = min(right, key=right.__getitem__)
    verdict = "met" if right[best] >= target else "missed"
    return {"best_rival": best, "ratio": right[best], "target": target, "verdict": verdict}


def table(report: Mapping[str, Any]) -> str:
    """The run as text: what could not run, ceilings, parts, and the comparisons last."""
    lines = [f"{name}: {value}" for name, value in report["machine"].items()]
    lines += [
        f"ceiling {name}: {value / 1e12:.2f} T{unit}"
        for name, (value, unit) in report["ceilings"].items()
    ]
    lines += [Outcome(**part).line() for part in report["parts"]]
    for case, failures in report["could_not_run"].items():
        lines += [f"{case}: {name} could not run: {why[:120]}" for name, why in failures.items()]
    cells = [["case", "direction", "ours ms", "best rival", "its ms", "ratio", "target", ""]]
    for row in report["rows"]:
        rival = row["rivals"].get(row["best_rival"], {})
        cells.append(
            [
                row["case"],
                row["direction"],
                _milliseconds(row["ours"]),
                row["best_rival"] or "-",
                _milliseconds(rival),
                "-" if row["ratio"] is None else f"{row['ratio']:.2f}",
                "-" if row["target"] is None else f">= {row['target']}",
                row["verdict"],
            ]
        )
    widths = [max(len(row[place]) for row in cells) for place in range(len(cells[0]))]
    lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    verdicts = [row["verdict"] for row in report["rows"] if row["target"] is not None]
    lines.append(f"targets met: {verdicts.count('met')} of {len(verdicts)}")
    return "\n".join(lines)


def _milliseconds(side: Mapping[str, Any]) -> str:
    return f"{side['median'] * 1e3:.3f}" if side else "-"
