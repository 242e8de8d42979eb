"""``python -m mfgan`` is the ``mfgan`` command."""

from mfgan.cli import main

main()
