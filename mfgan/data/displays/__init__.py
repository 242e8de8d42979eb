"""Displayed sets and what was clicked in them: readers, preparation, the prepared data set."""

from mfgan.data.displays.dataset import PARTS, DisplayDataset, is_displays
from mfgan.data.displays.prepare import prepare_displays
from mfgan.data.displays.readers import FORMATS

__all__ = ["FORMATS", "PARTS", "DisplayDataset", "is_displays", "prepare_displays"]
