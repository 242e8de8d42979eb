"""Settings, options and fixtures of all tests."""

import pytest
import torch
from hypothesis import settings

# Numba compiles inside the first example, which is no sign of a slow property.
settings.register_profile("mfgan", deadline=None)
settings.load_profile("mfgan")


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="where the kernels are tested: cpu or cuda")


@pytest.fixture(scope="session")
def device(request):
    """The device under test; a test that has none skips, saying so."""
    name = request.config.getoption("--device")
    if name.startswith("cuda") and not torch.cuda.is_available():
        pytest.skip(f"no device {name} here")
    return torch.device(name)
