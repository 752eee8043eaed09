"""A scene: the light of the sources in and around a stamp, in the science image and in the reference."""

from dataclasses import dataclass, field

import numpy as np

from ztf_sg.simulation.fourier import BOX, FINE, points, segment, spergel
from ztf_sg.simulation.stamp_conditions import Exposure, log_uniform
from ztf_sg.simulation.subtraction import SIDE

CENTRE = BOX // 2  # pixel of the detection in the box
FAINTEST = 0.15  # flux of the faintest neighbours, in that of five sigma of the science image
COUNTS_SLOPE, BRIGHTEST = 0.6, 3e5  # counts above a flux fall with this power of it; largest flux [DN]
BLENDED_FRACTION, BLEND_DISTANCES, BLEND_SNR = 0.08, (0.0, 6.0), (5.0, 300.0)  # neighbours very near [px]
GALAXY_FRACTION, GALAXY_SCALE = 0.3, (0.5, 3.0)  # of the brightest neighbours; scale length [px]
GALAXY_INDICES = (0.5, 0.0, -0.5)  # of Spergel's profiles, from discs to bulges
N_RESOLVED = 2  # neighbours that can be galaxies


def _no_light():
    return np.zeros((FINE * BOX, BOX + 1), dtype=np.complex64)


def _no_marks():
    return np.zeros((BOX, BOX), dtype=np.float32)


@dataclass
class Scene:
    """Light [DN] of a science image and its reference; kinds of sources add to it.

    Transforms of `science` and `template` are not yet blurred. Marks are pixels that no optics blur; those of
    the science image are subtracted with it.
    """

    exposure: Exposure
    x: float  # the detection in the box [px]
    y: float
    science: np.ndarray = field(default_factory=_no_light)
    template: np.ndarray = field(default_factory=_no_light)
    science_marks: np.ndarray = field(default_factory=_no_marks)
    template_marks: np.ndarray = field(default_factory=_no_marks)
    no_data: np.ndarray = field(default_factory=lambda: np.zeros((BOX, BOX), dtype=bool))
    search: int = 0  # the detection is the highest peak of the difference within this of x, y [px]
    trail: np.ndarray | float = 1.0  # transform of the trail under which that is the highest peak

    def add_static(self, light):
        """Add light to the science image and to the reference."""
        self.science += light
        self.template += light

    def distances(self):
        """Return the distances of the pixels from the detection along x and y [px], two (BOX, BOX)."""
        y, x = np.indices((BOX, BOX))
        return x - self.x, y - self.y


def draw_scene(rng, exposure):
    """Return a scene with the neighbours of a detection, which is within half a pixel of the centre."""
    scene = Scene(exposure, *(CENTRE + rng.uniform(-0.5, 0.5, 2)))
    count = rng.poisson(exposure.neighbours * (BOX / SIDE) ** 2)
    flux = FAINTEST * exposure.flux(5.0) * rng.random(count) ** (-1 / COUNTS_SLOPE)
    flux = np.sort(np.minimum(flux, BRIGHTEST))[::-1]
    x, y = rng.uniform(0, BOX, (2, count))
    galaxies = np.flatnonzero(rng.random(count)[:N_RESOLVED] < GALAXY_FRACTION)
    for row in galaxies:
        scene.add_static(points(x[[row]], y[[row]], flux[[row]]) * draw_galaxy(rng))
    if count > len(galaxies):
        scene.add_static(points(*(np.delete(values, galaxies) for values in (x, y, flux))))
    if rng.random() < BLENDED_FRACTION:
        distance, angle = rng.uniform(*BLEND_DISTANCES), rng.uniform(0, 2 * np.pi)
        flux = exposure.flux(log_uniform(rng, BLEND_SNR))
        scene.add_static(
            points([scene.x + distance * np.cos(angle)], [scene.y + distance * np.sin(angle)], [flux])
        )
    return scene


def draw_galaxy(rng, scales=GALAXY_SCALE):
    """Return the transform of a galaxy of unit flux about the origin."""
    index = rng.choice(GALAXY_INDICES)
    return spergel(log_uniform(rng, scales), index, rng.uniform(0.3, 1), rng.uniform(0, 180))


def line(scene, offset, angle, profile, along=None):
    """Return the transform of a straight line whose brightness [DN/px] varies along it.

    Parameters
    ----------
    scene : Scene
    offset : float
        Distance of the line from the detection [px], to the left of its direction.
    angle : float
        Direction [deg], counter-clockwise from x.
    profile : callable
        ``profile(along)`` returns the brightness at distances along the line from its point next to the
        detection [px].
    along : array-like, optional
        Distances at which the line is drawn, at steps of 1 px; all that lie in the box by default.
    """
    direction = np.radians(angle)
    along = np.arange(-BOX, BOX + 1.0) if along is None else along
    x = scene.x - offset * np.sin(direction) + along * np.cos(direction)
    y = scene.y + offset * np.cos(direction) + along * np.sin(direction)
    inside = (x > -0.5) & (x < BOX - 0.5) & (y > -0.5) & (y < BOX - 0.5)
    return points(x[inside], y[inside], profile(along[inside])) * segment(1.0, angle)
