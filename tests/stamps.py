"""Cutouts of the mock sky for tests: pixels, places and what was drawn."""

from io import BytesIO

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from photutils.aperture import CircularAperture

from ztf_sg.images import ImageChooser
from ztf_sg.services.errors import NothingFound
from ztf_sg.services.irsa import image_name
from ztf_sg.simulation.detector import sky_level


def get_stamp(sky, ra, dec, size=20, image=None):
    """Return pixels and header of the cutout of a position on its best centred image."""
    image = ImageChooser(sky).choose(ra, dec) if image is None else image
    return fits.getdata(BytesIO(sky.get_cutout(image, ra, dec, size)), header=True)


def get_stamps(sky, table, n):
    """Yield row, pixels less sky, and header of n objects; those between the images are passed over."""
    names = sky.exposures.apply(image_name, axis=1)
    for row in table.itertuples():
        try:
            pixels, header = get_stamp(sky, row.RA, row.DEC)
        except NothingFound:
            continue
        exposure = sky.exposures[names == header["FILENAME"]].iloc[0]
        origin = [round(exposure[f"crpix{axis}"] - header[f"CRPIX{axis}"]) for axis in (1, 2)]
        yield row, pixels.astype(float) - sky_level(exposure, origin, pixels.shape), header
        n -= 1
        if not n:
            return


def place_on(header, row):
    """Return where the catalogue position of a row is, x and y [px, from 0]."""
    return np.array(WCS(header).all_world2pix(row.RA, row.DEC, 0), dtype=float)


def aperture_counts(pixels, place, diameter):
    return CircularAperture(place, diameter / 2).do_photometry(pixels)[0][0]


def centroid(light):
    """Return the flux-weighted centroid, x and y [px, from 0]."""
    y, x = np.indices(light.shape)
    return np.array([(light * axis).sum() for axis in (x, y)]) / light.sum()


def windowed_centroid(light, start, fwhm=3.0):
    """Return the centroid under a Gaussian window that moves along, x and y [px, from 0]."""
    y, x = np.indices(light.shape)
    place = np.array(start, dtype=float)
    for _ in range(10):
        weight = light * np.exp(-4 * np.log(2) * ((x - place[0]) ** 2 + (y - place[1]) ** 2) / fwhm**2)
        step = [(weight * (axis - v)).sum() for axis, v in zip((x, y), place, strict=True)]
        place += 2 * np.array(step) / weight.sum()
    return place


def i_magnitude(table):
    return 22.5 - 2.5 * np.log10(table["FLUX_I"])


def arcseconds(table):
    """Return places [arcsec] on a plane that is good enough to tell neighbours."""
    return np.stack([table["RA"] * np.cos(np.radians(table["DEC"])), table["DEC"]], axis=1) * 3600
