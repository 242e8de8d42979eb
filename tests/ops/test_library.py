"""Which compiled libraries serve, and that the package works without any."""

import json
import os
import subprocess
import sys

import torch

from mfgan.ops import library

WITHOUT = """
import json, torch
from mfgan.ops import dropout_residual, library, varlen_attention
q, k, v = torch.ones(3, 5, 1, 4, requires_grad=True).unbind(0)
bounds = torch.tensor([0, 2, 5], dtype=torch.int32)
rng = torch.tensor([1, 2])
out = varlen_attention(q, k, v, bounds, 3, dropout_p=0.5, rng=rng)
dropout_residual(out.flatten(1), None, dropout_p=0.5, rng=rng, site=1).sum().backward()
print(json.dumps(library.status_dict()))
"""


def test_every_library_is_loaded_or_says_why_not():
    for device, status in library.status().items():
        assert status.loaded != bool(status.reason)
        assert status.loaded or not library.devices("varlen_attention") & {device}


def test_no_device_serves_an_operator_that_nobody_knows():
    assert library.devices("no_such_operator") == frozenset()


def test_cuda_kernels_need_a_torch_with_cuda():
    status = library.status()["cuda"]
    assert torch.version.cuda is not None or not status.loaded


def test_references_serve_where_the_libraries_are_refused():
    environment = {**os.environ, "MFGAN_NO_EXT": "1"}
    command = [sys.executable, "-c", WITHOUT]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    for status in json.loads(run.stdout).values():
        assert not status["loaded"]
        assert status["reason"] == "MFGAN_NO_EXT=1 is set"
