"""Moving objects: asteroids and satellites in the stamps of alerts, and trails in whole images."""

from ztf_sg.streaks.stamps import Triplets
from ztf_sg.streaks.trails import Trails, find_trails

__all__ = ["Trails", "Triplets", "find_trails"]
