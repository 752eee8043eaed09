"""Moving objects: asteroids and satellites in the stamps of alerts, and trails in whole images."""

from ztf_sg.streaks.alerts import AlertError, load_alerts
from ztf_sg.streaks.stamps import Triplets

__all__ = ["AlertError", "Triplets", "load_alerts"]
