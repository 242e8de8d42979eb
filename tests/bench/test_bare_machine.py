"""Kernels, their tests and their benchmark import nothing that a bare GPU machine may lack."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MISSING = [
    "polars",
    "pyarrow",
    "pydantic",
    "safetensors",
    "rich_click",
    "rich",
    "tomli_w",
    "tomli",
    "numba",
    "gymnasium",
    "matplotlib",
    "jinja2",
    "ranx",
    "pytrec_eval",
    "RecTools",
]
IMPORTED = [
    "mfgan.ops",
    "mfgan.models.generator",
    "mfgan.models.discriminator",
    "mfgan.data.batch",
    "mfgan.training.losses",
    "mfgan.training.optimizer",
    "mfgan.training.judging",
    "mfgan.training.policy_loss",
    "mfgan.training.rewards",
    "mfgan.training.candidates",
    "bench.plain_score",
    "bench.score_input",
    "conftest",
    "kernels",
    "score_inputs",
]
BLOCKED = """
import importlib, importlib.util, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
sys.path[:0] = [{root!r}, {root!r} + "/tests"]
for name in {modules}:
    importlib.import_module(name)
for path in {files}:
    spec = importlib.util.spec_from_file_location("a_test", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
print("all imported")
"""


def test_a_bare_gpu_machine_can_import_it_all():
    modules = [f"bench.gpu.{path.stem}" for path in (ROOT / "bench" / "gpu").glob("*.py")]
    files = [str(path) for path in (ROOT / "tests" / "ops").glob("test_*.py")]
    assert len(modules) > 5
    assert len(files) > 3
    code = BLOCKED.format(
        missing=set(MISSING), root=str(ROOT), modules=[*IMPORTED, *modules], files=files
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "all imported"
