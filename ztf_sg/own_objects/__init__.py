"""Positions of one's own in, classes out: cutouts are fetched, classified, and combined by object."""

from ztf_sg.own_objects.classify import classify_positions
from ztf_sg.own_objects.combine import combine
from ztf_sg.own_objects.cutouts import classify_cutouts, holds_cutouts, images_by_band

__all__ = ["classify_cutouts", "classify_positions", "combine", "holds_cutouts", "images_by_band"]
