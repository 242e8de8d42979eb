"""Settings for all tests."""

from hypothesis import settings

# Numba compiles inside the first example, which is no sign of a slow property.
settings.register_profile("mfgan", deadline=None)
settings.load_profile("mfgan")
