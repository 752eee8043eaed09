"""Simulated ZTF exposures: time, pointing, and the observing conditions of each image."""

import numpy as np
import pandas as pd
from astropy.time import Time

from ztf_sg.simulation import parameters as p
from ztf_sg.simulation.psf import PSF_COLUMNS
from ztf_sg.ztf import PIXEL_SCALE, QUADRANT, READ_NOISE

# The columns of IRSA's metadata of images.
METADATA_COLUMNS = (
    "ra dec infobits field ccdid qid rcid fid filtercode pid nid expid itid imgtype imgtypecode obsdate "
    "obsjd exptime filefracday seeing airmass moonillf moonesb maglimit crpix1 crpix2 crval1 crval2 "
    "cd11 cd12 cd21 cd22 ra1 dec1 ra2 dec2 ra3 dec3 ra4 dec4 ipac_gid meta_id"
).split()


def simulate_exposures(seed=0, filtercode="zi"):
    """Return the images of the sky in a band: one row for each of the 64 quadrants of an exposure.

    Images in i are sharp and have the sky of the real cutouts; those in g and r are of any seeing and sky.

    Beside `METADATA_COLUMNS` there is what the pixels are drawn from: mjd [d]; background [DN]; noise_excess,
    the ratio of the noise to that expected; magzp [mag]; saturate and full_well [DN]; seeing_px [px];
    `PSF_COLUMNS`; psf_mag_offset [mag], the magnitude of all light minus the PSF magnitude; shift_x and
    shift_y [px], the offset of all objects from their WCS positions; and, for x and y, sky_slope and
    psf_slope, the relative changes of the background and of the width of the PSF across the image.
    """
    band = p.WIDE_BANDS.get(filtercode)
    rng = np.random.default_rng([seed, 2] if band is None else [seed, 2, band["fid"]])
    first_number = 1000 * p.NIGHTS * band["fid"] if band else 0
    rows = []
    for night in range(p.WIDE_NIGHTS if band else p.NIGHTS):
        for number, (field, centre) in enumerate(p.FIELDS.items()):
            mjd = 58380.0 + 27 * night + rng.uniform(0.15, 0.45) + 0.002 * number
            pointing = np.array(centre) + rng.normal(0, 0.004, 2)
            weather = _wide_conditions(rng, band) if band else _conditions(rng)
            expid = first_number + 1000 * night + number
            exposure = {"expid": expid, "field": field, "filtercode": filtercode, **_times(mjd), **weather}
            rows += [_quadrant(exposure, pointing, rcid, rng) for rcid in range(64)]
    table = pd.DataFrame(rows)
    for name, (low, high) in {"ra": p.RA_RANGE, "dec": p.DEC_RANGE}.items():
        table = table[table[name].between(low - 0.5, high + 0.5)]
    return table.reset_index(drop=True)


def _times(mjd):
    """Return the times of an exposure as the metadata give them."""
    time = Time(mjd, format="mjd")
    day = int(time.strftime("%Y%m%d")) * 10**6
    return {
        "mjd": mjd,
        "obsdate": time.iso + "+00",
        "obsjd": time.jd,
        "filefracday": day + int(round(mjd % 1 * 1e6)),
    }


def _conditions(rng):
    """Draw the conditions that all quadrants of an exposure share: weather, moon and state of the optics."""
    airmass = rng.uniform(*p.AIRMASS_RANGE)
    moonlit = rng.random() < p.MOONLIT_FRACTION
    dark = p.DARK_SKY * np.exp(rng.normal(0, p.DARK_SKY_SCATTER))
    moonlight = p.MOONLIGHT * np.exp(rng.normal(0, p.MOONLIGHT_SCATTER)) if moonlit else 0.0
    return {
        "seeing_px": rng.normal(p.SEEING, p.SEEING_SCATTER),
        "background": dark + moonlight,
        "magzp": rng.normal(p.MAGZP, p.MAGZP_SCATTER) - p.EXTINCTION * (airmass - 1),
        "airmass": airmass,
        "moonillf": round(rng.uniform(0.4, 1) if moonlit else rng.uniform(-1, 0.3), 4),
        "coma_x": rng.normal(p.COMA_X[0], p.COMA_X[1] / 2),
    }


def _wide_conditions(rng, band):
    """Draw the same for a band of `WIDE_BANDS`: any seeing and any sky, and clouds."""
    airmass = rng.uniform(*p.AIRMASS_RANGE)
    moonlit, cloudy = rng.random(2) < (p.MOONLIT_FRACTION, p.CLOUDY_FRACTION)
    dark = band["dark_sky"] * np.exp(rng.normal(0, p.DARK_SKY_SCATTER))
    moonlight = band["moonlight"] * np.exp(rng.normal(0, p.MOONLIGHT_SCATTER)) if moonlit else 0.0
    clouds = rng.exponential(p.CLOUD_EXTINCTION) if cloudy else 0.0
    magzp = rng.normal(band["magzp"], p.MAGZP_SCATTER) - p.EXTINCTION * (airmass - 1) - clouds
    return {
        "seeing_px": band["seeing"] * np.exp(rng.normal(0, p.WIDE_SEEING_SCATTER)),
        "background": np.clip(dark + moonlight, *p.WIDE_SKY_RANGE),
        "magzp": np.clip(magzp, *p.WIDE_MAGZP_RANGE),
        "airmass": airmass,
        "moonillf": round(rng.uniform(0.4, 1) if moonlit else rng.uniform(-1, 0.3), 4),
        "coma_x": rng.normal(p.COMA_X[0], p.COMA_X[1] / 2),
    }


def _quadrant(exposure, pointing, rcid, rng):
    """Draw the row of one quadrant of an exposure."""
    ccdid, qid = rcid // 4 + 1, rcid % 4 + 1
    column, row = (ccdid - 1) % 4, (ccdid - 1) // 4
    east = (1.5 - column) * 1.92 + (0.434 if qid in (2, 3) else -0.434)
    north = (row - 1.5) * 1.88 + (0.434 if qid in (1, 2) else -0.434)
    dec = pointing[1] + north
    ra = pointing[0] + east / np.cos(np.radians(dec))
    band = p.WIDE_BANDS.get(exposure["filtercode"])
    limits = p.WIDE_SEEING_RANGE if band else p.SEEING_RANGE
    seeing = np.clip(exposure["seeing_px"] + rng.normal(0, p.QUADRANT_SEEING_SCATTER), *limits)
    background = exposure["background"] * rng.normal(1, p.QUADRANT_SKY_SCATTER)
    magzp = exposure["magzp"] + rng.normal(0, p.QUADRANT_MAGZP_SCATTER)
    psf = _draw_psf(rng, seeing, exposure["coma_x"], wide=band is not None)
    mag_loss = p.PSF_MAG_LOSS * (psf["psf_fwhm"] ** 2 - p.PSF_FWHM**2) if band else 0.0
    angle = np.radians(rng.normal(0, 0.05))
    scale = PIXEL_SCALE / 3600
    saturate = rng.normal(p.WIDE_SATURATE if band else p.SATURATE, p.SATURATE_SCATTER)
    return {
        **_corners(ra, dec),
        "ra": ra, "dec": dec, "infobits": 0, "field": exposure["field"], "ccdid": ccdid, "qid": qid,
        "rcid": rcid, "fid": band["fid"] if band else 3, "filtercode": exposure["filtercode"],
        "pid": exposure["expid"] * 100 + rcid,
        "nid": int(exposure["mjd"]) - 57754, "expid": exposure["expid"], "itid": 1, "imgtype": "object",
        "imgtypecode": "o", "obsdate": exposure["obsdate"], "obsjd": exposure["obsjd"],
        "exptime": p.EXPTIME, "filefracday": exposure["filefracday"],
        "seeing": round(seeing * PIXEL_SCALE, 4), "airmass": round(exposure["airmass"], 3),
        "moonillf": exposure["moonillf"], "moonesb": 0.0,
        "maglimit": round(_limiting_magnitude(psf["psf_fwhm"], background, magzp), 4),
        "crpix1": (QUADRANT[0] + 1) / 2, "crpix2": (QUADRANT[1] + 1) / 2, "crval1": ra, "crval2": dec,
        "cd11": -scale * np.cos(angle), "cd12": -scale * np.sin(angle),
        "cd21": scale * np.sin(angle), "cd22": -scale * np.cos(angle),
        "ipac_gid": 2, "meta_id": exposure["expid"] * 64 + rcid,
        "mjd": exposure["mjd"], "magzp": magzp, "seeing_px": seeing,
        "background": background, **_slopes(rng, "sky", p.SKY_SLOPE),
        "noise_excess": max(rng.normal(p.NOISE_EXCESS, p.NOISE_EXCESS_SCATTER), 1.0),
        "saturate": saturate, "full_well": saturate * rng.uniform(*p.FULL_WELL),
        **psf, **_slopes(rng, "psf", p.PSF_SLOPE),
        "psf_mag_offset": rng.normal(p.PSF_MAG_OFFSET, p.PSF_MAG_SCATTER) - mag_loss,
        "shift_x": rng.normal(0, p.ASTROMETRIC_SCATTER), "shift_y": rng.normal(0, p.ASTROMETRIC_SCATTER),
    }  # fmt: skip


def _slopes(rng, name, scatter):
    return {f"{name}_slope_{axis}": rng.normal(0, scatter) for axis in "xy"}


def _draw_psf(rng, seeing, coma_x, wide):
    """Draw the parameters of the PSF of a quadrant; coma is a smaller part of the wide ones of g and r."""
    (mean1, scatter1), (mean2, scatter2) = p.PSF_E1, p.PSF_E2
    covariance = p.PSF_E_CORRELATION * scatter1 * scatter2
    e1, e2 = rng.multivariate_normal((mean1, mean2), [[scatter1**2, covariance], [covariance, scatter2**2]])
    wider = seeing - p.REFERENCE_SEEING
    steep = rng.normal(p.PSF_STEEP + p.PSF_STEEP_SLOPE * wider, p.PSF_STEEP_SCATTER)
    if wide:
        fwhm = max(rng.normal(seeing - p.SEEING_EXCESS, p.SEEING_EXCESS_SCATTER), p.SMALLEST_FWHM)
    else:
        fwhm = rng.normal(p.PSF_FWHM + p.PSF_FWHM_SLOPE * wider, p.PSF_FWHM_SCATTER)
    coma = min(p.PSF_FWHM / fwhm, 1) if wide else 1
    values = (
        fwhm, np.clip(steep, 0, 1), np.clip(e1, -0.4, 0.4), np.clip(e2, -0.4, 0.4),
        coma * rng.normal(coma_x, p.COMA_X[1] * 0.75**0.5), coma * rng.normal(*p.COMA_Y),
    )  # fmt: skip
    return dict(zip(PSF_COLUMNS, map(float, values), strict=True))


def _corners(ra, dec):
    """Return the positions of the four corners of an image, ra1, dec1 .. ra4, dec4 [deg]."""
    half_x, half_y = (side * PIXEL_SCALE / 7200 for side in QUADRANT)
    half_x /= np.cos(np.radians(dec))
    signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    return {
        key: value
        for i, (sx, sy) in enumerate(signs, start=1)
        for key, value in ((f"ra{i}", ra + sx * half_x), (f"dec{i}", dec + sy * half_y))
    }


def _limiting_magnitude(psf_fwhm, background, magzp):
    """Return the 5-sigma limit of PSF photometry [mag]; a Gaussian has the noise of 4 pi sigma^2 pixels."""
    pixels = 4 * np.pi * ((psf_fwhm / 2.355) ** 2 + 1 / 12) * 1.6
    noise = p.NOISE_EXCESS * np.sqrt(pixels * (background / p.GAIN + (READ_NOISE / p.GAIN) ** 2))
    return magzp - 2.5 * np.log10(5 * noise)
