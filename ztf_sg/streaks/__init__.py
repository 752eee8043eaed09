"""Moving objects: asteroids and satellites in the stamps of alerts, and trails in whole images."""

from ztf_sg.streaks.alerts import AlertError, load_alerts, triplets_of, write_alerts
from ztf_sg.streaks.classifier import MovingObjectClassifier
from ztf_sg.streaks.classify import classify_alerts
from ztf_sg.streaks.features import FEATURES, measure_stamps
from ztf_sg.streaks.linking import link_flashes
from ztf_sg.streaks.stamps import Triplets
from ztf_sg.streaks.trails import Trails, find_trails

__all__ = [
    "FEATURES",
    "AlertError",
    "MovingObjectClassifier",
    "Trails",
    "Triplets",
    "classify_alerts",
    "find_trails",
    "link_flashes",
    "load_alerts",
    "measure_stamps",
    "triplets_of",
    "write_alerts",
]
