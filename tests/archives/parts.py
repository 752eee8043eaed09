"""A sky of real images, of each of which only a part is there: what `Ibe` serves in place of the mock sky."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.time import Time

from .sky import HEIGHT, PIXEL_SCALE, WIDTH, Quadrant, Sky, product_path

# The columns of the metadata that are cards of the header, too.
CARDS = {
    **{"infobits": "INFOBITS", "field": "FIELDID", "ccdid": "CCDID", "qid": "QID", "rcid": "RCID"},
    **{"fid": "FILTERID", "pid": "DBPID", "nid": "DBNID", "expid": "EXPID", "obsjd": "OBSJD"},
    **{"exptime": "EXPTIME", "airmass": "AIRMASS", "moonillf": "MOONILLF", "moonesb": "MOONESB"},
    **{"maglimit": "MAGLIM", "crval1": "CRVAL1", "crval2": "CRVAL2"},
    **{f"cd{axes}": f"CD{axes[0]}_{axes[1]}" for axes in ("11", "12", "21", "22")},
}
# The reference pixel of ZTF's science images is their middle, which tells where a part of one belongs.
REFERENCE_PIXEL = (WIDTH + 1) / 2, (HEIGHT + 1) / 2
CORNERS = (1, 1), (WIDTH, 1), (WIDTH, HEIGHT), (1, HEIGHT)  # [px, from 1]


class ImageParts(Sky):
    """The images of a folder, parts of ZTF's science images with their headers; there is no catalogue.

    The metadata are those of the whole images. A whole image has NaN where its pixels are not there, and
    cutouts end there as if it was the image's edge.
    """

    seed = 0

    def __init__(self, folder):
        self._folder = tempfile.TemporaryDirectory(prefix="archives_")
        paths = sorted(Path(folder).glob("*.fits"))
        parts = [ImagePart(path, Path(self._folder.name) / path.name) for path in paths]
        self.quadrants = {product_path(part.row): part for part in parts}
        rows = [part.row | {"product": product} for product, part in self.quadrants.items()]
        self.images = pd.DataFrame(rows).assign(meta_id=np.arange(len(rows)))


class ImagePart(Quadrant):
    """An image of which a part is there, in the file `source`; `path` is for the whole image."""

    def __init__(self, source, path):
        super().__init__(None, None, None, path)
        with fits.open(source) as hdus:
            data, header = next((hdu.data, hdu.header) for hdu in hdus if hdu.data is not None)
        self.pixels = data.astype(">f4")
        first = [round(REFERENCE_PIXEL[axis] - header[f"CRPIX{axis + 1}"]) for axis in (0, 1)]
        self.limits = [(x, x + n) for x, n in zip(first, data.shape[::-1], strict=True)]
        header = fits.PrimaryHDU(self.pixels, header).header
        header["NAXIS1"], header["NAXIS2"] = WIDTH, HEIGHT
        header["CRPIX1"], header["CRPIX2"] = REFERENCE_PIXEL
        self.header = header.tostring().encode()
        self.row = _row(header, self.wcs)

    def part(self, ranges):
        (x0, x1), (y0, y1) = ranges
        (left, _), (bottom, _) = self.limits
        return self.pixels[y0 - bottom : y1 - bottom, x0 - left : x1 - left]

    def _paint(self):
        image = np.full((HEIGHT, WIDTH), np.nan, dtype=np.float32)
        columns, rows = (slice(*ends) for ends in self.limits)
        image[rows, columns] = self.pixels
        return image


def _row(header, wcs):
    """Return the row of metadata of a whole image, from its header."""
    ra, dec = wcs.all_pix2world(*REFERENCE_PIXEL, 1)
    row = {"ra": float(ra), "dec": float(dec)} | {name: header[card] for name, card in CARDS.items()}
    for number, corner in enumerate(CORNERS, start=1):
        row[f"ra{number}"], row[f"dec{number}"] = map(float, wcs.all_pix2world(*corner, 1))
    return row | {
        **{"itid": 1, "imgtype": "object", "imgtypecode": "o", "ipac_gid": 2},
        "filtercode": f"z{header['FILTER'][-1]}",
        "filefracday": int(header["FILENAME"].split("_")[1]),
        "obsdate": Time(header["OBSJD"], format="jd").iso + "+00",
        "seeing": header["SEEING"] * PIXEL_SCALE,  # [arcsec]; the card has px
        **{"crpix1": REFERENCE_PIXEL[0], "crpix2": REFERENCE_PIXEL[1]},
    }
