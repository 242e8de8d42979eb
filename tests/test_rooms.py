"""The rooms import each other in one direction only."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "mfgan"
ROOMS = [
    "_version",
    "errors",
    "device",
    "names",
    "files",
    "console",
    "config",
    "data",
    "ops",
    "models",
    "evaluation",
    "training",
    "simulation",
    "recommend",
    "explain",
    "report",
    "doctor",
    "cli",
    "__main__",
]


def _imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return [name.split(".")[1] for name in names if name.startswith("mfgan.")]


def test_imports_point_one_way():
    wrong, seen = [], 0
    for path in PACKAGE.rglob("*.py"):
        here = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if here == "__init__":
            continue
        for there in _imported(path):
            seen += 1
            if there in ROOMS and ROOMS.index(there) > ROOMS.index(here):
                wrong.append(f"{path.relative_to(PACKAGE)} imports mfgan.{there}")
    assert seen > 0
    assert not wrong
