"""Moving objects: asteroids and satellites in the stamps of alerts, and trails in whole images."""

from ztf_sg.streaks.classifier import MovingObjectClassifier
from ztf_sg.streaks.features import FEATURES, measure_stamps
from ztf_sg.streaks.stamps import Triplets

__all__ = ["FEATURES", "MovingObjectClassifier", "Triplets", "measure_stamps"]
