"""Positions -> FITS cutouts, from any image service, with a manifest beside them.

An image service has an ``origin`` (what its images' ORIGIN header says), ``search_images(ra, dec, size,
filtercode, max_seeing)``, which returns ZTF metadata, and ``get_cutout(image, ra, dec, size)``, which
returns the bytes of a FITS file. It may have ``check_positions(positions)``, which raises an error for a
list of positions that it cannot serve.
"""

import os
from io import BytesIO
from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS, WcsError
from tqdm.auto import tqdm

from ztf_sg.dataset import CLASS_NAMES, CUTOUT_SHAPE, CutoutError, read_cutout
from ztf_sg.positions import labels_of_types, position_table
from ztf_sg.services.errors import NothingFound
from ztf_sg.services.irsa import QUADRANT, image_name, image_wcs

CUTOUT_SIZE = 20.0  # [arcsec]
PATCH_SIZE = 1.0  # width of the patches of sky that share one metadata query [deg]
EDGE_MARGIN = 15  # least distance of an object from the edge of its image [px]
POSITION_TOLERANCE = 0.1 / 3600  # by how much a listed position may differ from the manifest's [deg]
CENTRING_TOLERANCE = 3 * u.arcsec  # how far an object may be from the middle of its cutout
MANIFEST = "manifest.csv"
MANIFEST_COLUMNS = ("file", "RA", "DEC", "type", "source_image", "origin", "filter", "max_seeing", "status")
SAVED = "saved"


class ManifestError(ValueError):
    """A folder of cutouts that does not go with the request; the message says why and what to do."""


def fetch_cutouts(
    positions, directory, service, n_cutouts=None, filtercode="zi", max_seeing=1.85, progress=True
):
    """Fetch a cutout of every position into a folder, as ``star_N.fits`` or ``galaxy_N.fits``.

    N is the position's row. What the folder's manifest lists is not fetched again, so that an
    interrupted run can be continued; a cutout that cannot be used is listed with the reason.

    Parameters
    ----------
    positions : pandas.DataFrame
        Columns RA, DEC [deg, ICRS] and type (a Tractor type); all of one class.
    directory : path-like
        Folder for the files and their ``manifest.csv``.
    service : image service
        See the module's description.
    n_cutouts : int, optional
        Stop when so many cutouts are there, from the top of the list; all positions otherwise.
    filtercode : str
        ZTF filter: "zg", "zr" or "zi".
    max_seeing : float
        Only images sharper than this [arcsec, FWHM].
    progress : bool
        Show a progress bar, unless there is nothing to fetch.

    Returns
    -------
    pandas.DataFrame
        The manifest rows of these positions, see :func:`read_manifest`.

    Raises
    ------
    ManifestError
        If the folder holds cutouts of another origin, filter, seeing limit or list of positions, or
        files that its manifest does not list.
    ValueError
        If the positions are not all stars or all galaxies, or not those of a simulated sky.
    """
    directory = Path(directory)
    positions = position_table(positions)
    names = _names(positions)
    directory.mkdir(parents=True, exist_ok=True)
    request = {"origin": service.origin, "filter": filtercode, "max_seeing": float(max_seeing)}
    done = _check_folder(directory, names, positions, request)
    wanted = len(positions) if n_cutouts is None else min(n_cutouts, len(positions))
    if hasattr(service, "check_positions"):
        service.check_positions(positions)
    images = ImageChooser(service, filtercode, max_seeing)
    saved, rows = 0, []
    complete = sum(done[name]["status"] == SAVED for name in names if name in done) >= wanted
    kind = names[0].split("_")[0]
    with tqdm(total=wanted, desc=f"{kind} cutouts", unit="file", disable=complete or not progress) as bar:
        for name, position in zip(names, positions.itertuples(), strict=True):
            if saved >= wanted:
                break
            row = done.get(name)
            if row is None:
                row = _fetch_one(directory / name, position, images) | request
                _append_to_manifest(directory, row)
            rows.append(row)
            saved += row["status"] == SAVED
            bar.update(saved - bar.n)
    return pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS))


class ImageChooser:
    """Finds for each position the image on which it lies best centred, with one search a patch of sky.

    Parameters
    ----------
    service : image service
    filtercode : str
    max_seeing : float
        [arcsec, FWHM].

    Attributes
    ----------
    searches : int
        Number of metadata queries sent so far.
    """

    def __init__(self, service, filtercode="zi", max_seeing=1.85):
        self.service = service
        self.filtercode = filtercode
        self.max_seeing = max_seeing
        self.searches = 0
        self._patches = {}

    def choose(self, ra, dec):
        """Return the metadata row of the best centred image.

        Raises
        ------
        NothingFound
            If no image holds the position at a safe distance from its edges.
        """
        images = self._images_around(ra, dec)
        x, y = pixel_positions(images, ra, dec)
        x0, y0 = ((side - 1) / 2 for side in QUADRANT)
        inside = (np.minimum(x, QUADRANT[0] - 1 - x) >= EDGE_MARGIN) & (
            np.minimum(y, QUADRANT[1] - 1 - y) >= EDGE_MARGIN
        )
        if not inside.any():
            raise NothingFound(
                f"no image holds RA {ra:.5f}, DEC {dec:.5f} at {EDGE_MARGIN} px from its edges"
            )
        return images.iloc[np.argmin(np.where(inside, np.hypot(x - x0, y - y0), np.inf))]

    def _images_around(self, ra, dec):
        row = int(dec // PATCH_SIZE)
        width = PATCH_SIZE / max(np.cos(np.radians((row + 0.5) * PATCH_SIZE)), 0.01)
        column = int(ra // width)
        if (row, column) not in self._patches:
            self.searches += 1
            centre = (column + 0.5) * width % 360, (row + 0.5) * PATCH_SIZE
            try:
                images = self.service.search_images(
                    *centre, 1.1 * PATCH_SIZE, self.filtercode, self.max_seeing
                )
            except NothingFound:
                images = pd.DataFrame()
            self._patches[row, column] = images
        return self._patches[row, column]


def pixel_positions(images, ra, dec):
    """Return where a position lies on each of a table of images, by their tangent-plane WCS.

    Parameters
    ----------
    images : pandas.DataFrame
        ZTF metadata with crpix, crval and cd columns; n rows.
    ra, dec : float
        [deg, ICRS].

    Returns
    -------
    x, y : numpy.ndarray
        Pixel coordinates counted from 0, shape (n,). Distortion is left out: good to a few px.
    """
    pixels = [image_wcs(image).wcs_world2pix([[ra, dec]], 0)[0] for image in images.to_dict("records")]
    return np.array(pixels).reshape(-1, 2).T


def trim_cutout(hdu, shape=CUTOUT_SHAPE):
    """Bring a cutout that is one pixel too large to size, by dropping its first row or column.

    Parameters
    ----------
    hdu : astropy.io.fits.PrimaryHDU
        Cutout of 20 or 21 px on a side.
    shape : tuple of int
        The (height, width) wanted.

    Returns
    -------
    astropy.io.fits.PrimaryHDU
        With its WCS moved along.

    Raises
    ------
    CutoutError
        If the cutout has any other size.
    """
    height, width = hdu.data.shape
    if height - shape[0] not in (0, 1) or width - shape[1] not in (0, 1):
        raise CutoutError(f"{height} x {width} px cannot be trimmed to {shape[0]} x {shape[1]}")
    top, left = height - shape[0], width - shape[1]
    trimmed = fits.PrimaryHDU(hdu.data[top:, left:], hdu.header)
    for key, shift in (("CRPIX1", left), ("CRPIX2", top)):
        if shift and key in trimmed.header:
            trimmed.header[key] -= shift
    return trimmed


def read_manifest(directory):
    """Read the manifest of a folder of cutouts; an empty table if it has none.

    Returns
    -------
    pandas.DataFrame
        Columns file, RA, DEC [deg], type, source_image, origin, filter, max_seeing [arcsec] and status.

    Raises
    ------
    ManifestError
        If the manifest lacks a column.
    """
    path = Path(directory) / MANIFEST
    if not path.exists():
        return pd.DataFrame(columns=list(MANIFEST_COLUMNS))
    table = pd.read_csv(path, dtype={"source_image": str, "status": str}, keep_default_na=False)
    missing = [name for name in MANIFEST_COLUMNS if name not in table]
    if missing:
        raise ManifestError(
            f"{path}: lacks {', '.join(missing)}; move the folder's files away and fetch them again"
        )
    return table.drop_duplicates("file", keep="last", ignore_index=True)


def _names(positions):
    labels = np.unique(labels_of_types(positions["type"]))
    if len(labels) != 1 or labels[0] < 0:
        types = ", ".join(sorted(set(positions["type"])))
        raise ValueError(
            f"positions must be all stars or all galaxies; their types are: {types or 'none, it is empty'}"
        )
    return [f"{CLASS_NAMES[labels[0]]}_{row}.fits" for row in range(len(positions))]


def _check_folder(directory, names, positions, request):
    """Return the manifest's rows by file, after making sure that they go with the request."""
    _mend_manifest(directory)
    manifest = read_manifest(directory)
    for key, value in request.items():
        others = manifest.loc[manifest[key] != value, key].tolist()
        if others:
            raise ManifestError(
                f"{directory}: its cutouts were made with {key} {others[0]!r}, not {value!r}; name another"
            )
    listed = {row["file"]: row for row in manifest.to_dict("records")}
    places = dict(zip(names, positions.itertuples(), strict=True))
    for path in directory.glob("*.fits"):
        known = path.name in listed
        if not known and not _is_cutout_of(path, places.get(path.name), request["origin"]):
            raise ManifestError(
                f"{directory}: holds FITS files that its manifest does not list, such as {path.name}; "
                "name another folder"
            )
    for name, position in places.items():
        row = listed.get(name)
        if row and max(abs(row["RA"] - position.RA), abs(row["DEC"] - position.DEC)) > POSITION_TOLERANCE:
            raise ManifestError(
                f"{directory}: {name} was made for RA {row['RA']}, DEC {row['DEC']}, but the list now has "
                f"RA {position.RA}, DEC {position.DEC}; name another folder"
            )
    return {
        name: listed[name]
        for name in names
        if name in listed and (listed[name]["status"] != SAVED or (directory / name).exists())
    }


def _mend_manifest(directory):
    """Drop a last line that a stopped run did not finish."""
    path = directory / MANIFEST
    content = path.read_bytes() if path.exists() else b""
    if content and not content.endswith(b"\n"):
        partial = path.with_suffix(".part")
        partial.write_bytes(content[: content.rfind(b"\n") + 1])
        os.replace(partial, path)


def _is_cutout_of(path, position, origin):
    """Tell whether a stopped run of this request has saved the file, but not listed it yet."""
    try:
        header = fits.getheader(path)
        place = WCS(header).wcs_pix2world([[header["NAXIS1"] / 2, header["NAXIS2"] / 2]], 0)[0]
    except (OSError, KeyError, ValueError, WcsError):
        return False
    if position is None or header.get("ORIGIN") != origin:
        return False
    listed = SkyCoord(position.RA, position.DEC, unit="deg")
    return SkyCoord(*place, unit="deg").separation(listed) < CENTRING_TOLERANCE


def _fetch_one(path, position, images):
    """Fetch, check and save the cutout of one position; return its manifest row."""
    row = {"file": path.name, "RA": position.RA, "DEC": position.DEC, "type": position.type}
    row |= {"source_image": "", "status": SAVED}
    try:
        image = images.choose(position.RA, position.DEC)
        row["source_image"] = image_name(image)
        save_cutout(images.service.get_cutout(image, position.RA, position.DEC, CUTOUT_SIZE), path)
    except (NothingFound, CutoutError) as error:
        row["status"] = f"skipped: {error}"
    return row


def save_cutout(content, path):
    """Check a fetched cutout and save it under its name, or not at all.

    Parameters
    ----------
    content : bytes
        A FITS file.
    path : pathlib.Path

    Raises
    ------
    CutoutError
        If it is not a usable cutout.
    """
    file = BytesIO(content)
    file.name = path.name
    data, header = read_cutout(file)
    hdu = trim_cutout(fits.PrimaryHDU(data, header))
    partial = path.with_suffix(".part")
    try:
        hdu.writeto(partial, overwrite=True)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _append_to_manifest(directory, row):
    path = directory / MANIFEST
    line = pd.DataFrame([row], columns=list(MANIFEST_COLUMNS))
    line.to_csv(path, mode="a", header=not path.exists(), index=False, float_format="%.7f")
