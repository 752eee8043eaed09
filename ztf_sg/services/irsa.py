"""ZTF science images at IRSA: search of the metadata, FITS cutouts and whole images.

ztfquery writes the queries and addresses; :mod:`ztf_sg.services.http` sends them, because ztfquery has no
time limits and shows no HTTP status. The service is described at
https://irsa.ipac.caltech.edu/docs/program_interface/ztf_api.html. Its base URLs are those of ztfquery:
``metasearch.SEARCH_BASEURL``, ``buildurl.DATA_BASEURL`` and ``io.LOGIN_URL``.
"""

from functools import lru_cache, partial
from io import StringIO

import numpy as np
import pandas as pd
from ztfquery import buildurl, metasearch
from ztfquery.query import metatable_to_url

from ztf_sg.ztf import FILTERCODES, FITS_BLOCK, NAME_COLUMNS, WCS_COLUMNS, image_name

from .account import Account
from .errors import BadAnswer, NothingFound, ProprietaryData
from .http import HttpSession, NotAllowed
from .query_cache import QueryCache
from .retries import Retries

ORIGIN = "Zwicky Transient Facility"
ENDED_SESSIONS = 3  # for one request, after which it is not the session that is at fault


def image_url(image):
    """Return the URL of a science image.

    Parameters
    ----------
    image : pandas.Series
        A row of ZTF metadata, with the columns `ztf_sg.ztf.NAME_COLUMNS`.

    Returns
    -------
    str
        URL of the whole image.

    Raises
    ------
    ValueError
        The row lacks one of these values.
    """
    image_name(image)  # raises an error if the row lacks a value
    # ztfquery cuts numbers up as text: as floats, which a row of mixed types may hold, they would be misread
    numbers, codes = (
        (int(image[name]) for name in NAME_COLUMNS[:4]),
        (str(image[name]) for name in NAME_COLUMNS[4:]),
    )
    return _product_url(buildurl.DATA_BASEURL, *numbers, *codes)


@lru_cache(maxsize=2**16)
def _product_url(source, *values):
    row = dict(zip(NAME_COLUMNS, values, strict=True))
    return metatable_to_url(pd.DataFrame([row]), datakind="sci", source=source)[0]


def cutout_url(image, ra, dec, size=20):
    """Return the URL of a cutout from a science image.

    Parameters
    ----------
    image : pandas.Series
        A row of ZTF metadata; see `image_url`.
    ra, dec : float
        Centre [deg, ICRS].
    size : float
        Width and height [arcsec].

    Returns
    -------
    str
    """
    # never an exponent, as in 1e-05, which is ordinary near the equator
    ra, dec, size = (np.format_float_positional(float(x), trim="-") for x in (ra, dec, size))
    return f"{image_url(image)}?center={ra},{dec}&size={size}arcsec&gzip=false"


class Irsa:
    """The image service of IRSA.

    The public data are asked anonymously. Where IRSA wants an account for an image, or shows no image without
    one, the account is looked for as :mod:`ztf_sg.services.account` tells; nothing is ever prompted for.

    Parameters
    ----------
    auth : (str, str), optional
        User name and password of an IRSA account, used from the beginning.
    cache : path-like, optional
        Folder that keeps the answers to metadata searches.
    concurrency : int
        How many requests :func:`ztf_sg.fetch_cutouts` may have under way at a time.
    retries : Retries, optional
        How patiently IRSA is asked again.

    Examples
    --------
    >>> Irsa()
    Irsa(anonymous)
    >>> Irsa(auth=("someone", "secret"))
    Irsa(with account)
    """

    origin = ORIGIN

    def __init__(self, auth=None, cache=None, concurrency=4, retries=None):
        self.concurrency = concurrency
        self.retries = retries or Retries()
        self.downloader = HttpSession("IRSA", concurrency, lambda: self.retries.stopped)
        self.cache = QueryCache(cache)
        self._account = Account(auth, self.downloader)

    def __repr__(self):
        anonymous = not (self._account.given or self._account.sessions)
        return f"{type(self).__name__}({'anonymous' if anonymous else 'with account'})"

    def search_images(self, ra, dec, size, filtercode="zi", max_seeing=1.85, max_infobits=0):
        """Find the science images that overlap a patch of sky, by one search of the metadata.

        Parameters
        ----------
        ra, dec : float
            Centre of the patch [deg, ICRS].
        size : float
            Full width and height of the patch [deg]; 0 is a point.
        filtercode : {"zi", "zr", "zg"}
            Filter.
        max_seeing : float
            Images have a FWHM below this; see Notes.
        max_infobits : int
            Largest value of the quality flags: 0 is none raised, 2**25 - 1 leaves out only what the pipeline
            declared bad.

        Returns
        -------
        pandas.DataFrame
            One row per image: the columns of ``ztfquery.metasearch.QUERIABLE_FIELD["sci"]``. Its
            ``attrs["queries"]`` tells whether the answer was kept, see `query_cache.describe_queries`.

        Raises
        ------
        NothingFound
            No image matches.
        WrongPassword, MissingAccount
            The account was refused, or is set up by half.
        RefusedRequest, BadAnswer, Unreachable, ServiceDown
            IRSA finds fault with the search; answers no table of images; does not answer, now or for long.

        Notes
        -----
        The metadata column ``seeing`` is in arcsec according to IRSA's documentation; the header card SEEING
        of the images is in pixels of 1.012 arcsec. An overlapping image need not contain the patch's centre.
        """
        if filtercode not in FILTERCODES:
            raise ValueError(f"unknown filter code {filtercode!r}; known: {', '.join(FILTERCODES)}")
        condition = (
            f"filtercode='{filtercode}' and seeing<{float(max_seeing)} and infobits<={int(max_infobits)}"
        )
        mark = self._account.mark
        query = metasearch.MetaQuery()
        query.build_query(kind="sci", radec=[float(ra), float(dec)], size=float(size), sql_query=condition)
        name = f"the images of RA {ra:g}, DEC {dec:g} deg, {size:g} deg wide"
        try:
            images = self.cache.get(
                "IRSA", query.query_url + mark, lambda: self._search(query.query_url, name, condition)
            )
            images.attrs["queries"] = [images.attrs["query"]]
            return images
        except NothingFound:
            if mark or not self._account.is_known():
                raise
        # what the public may not see, the account may
        self.retries.call(lambda: self._account.sign_on(name))
        return self.search_images(ra, dec, size, filtercode, max_seeing, max_infobits)

    def get_cutout(self, image, ra, dec, size=20, read=bytes):
        """Download a cutout of a science image.

        Parameters
        ----------
        image : pandas.Series
            A row from `search_images`.
        ra, dec : float
            Centre [deg, ICRS].
        size : float
            Width and height [arcsec]; the cutout of 20 arcsec has 20 x 20 pixels, at times one more or less.
        read : callable
            Makes something of the bytes; by a BadAnswer that it raises it has IRSA asked again.

        Returns
        -------
        bytes
            A FITS file; or what `read` makes of it.

        Raises
        ------
        NothingFound
            IRSA has no such image.
        MissingAccount, WrongPassword, ProprietaryData
            The image needs an account and none is at hand; it was refused; it has no right to the image.
        RefusedRequest, BadAnswer, Unreachable, ServiceDown
            IRSA finds fault with the request; answers no FITS file; does not answer, now or for long.
        """
        name = f"the cutout of {image_name(image)} at RA {ra:.6f}, DEC {dec:.6f} deg"
        return self._download(cutout_url(image, ra, dec, size), name, read)

    def get_image(self, image, read=bytes):
        """Download a whole science image; parameters, result and errors as of `get_cutout`."""
        return self._download(image_url(image), image_name(image), read)

    def _download(self, url, name, read):
        def read_fits(content):
            if not content.startswith(b"SIMPLE  ="):
                if self._account.sessions:  # maybe the page for signing on, because the session has ended
                    self._account.sign_on(name, after=self._account.sessions)
                raise BadAnswer(f"IRSA answered {name} with what is no FITS file: {_excerpt(content)}")
            if len(content) % FITS_BLOCK:
                raise BadAnswer(f"IRSA cut {name} short at {len(content)} bytes")
            return read(content)

        return self._retrieve(url, name, read_fits)

    def _search(self, url, name, condition):
        images = self._retrieve(url, name, partial(_table, name=name))
        if images.empty:
            account = "" if self._account.sessions else " in the public data; an account may show more"
            raise NothingFound(f"IRSA holds none of {name} with {condition}{account}")
        return images

    def _retrieve(self, url, name, read):
        """Return what `read` makes of an answer, asked for until there is one."""
        ended = 0

        def attempt():
            nonlocal ended
            try:
                content = self._get(url, name)
            except _SessionEnded as error:
                ended += 1
                if ended == ENDED_SESSIONS:
                    raise _no_right_to(name) from error
                raise
            return read(content)

        return self.retries.call(attempt)

    def _get(self, url, name):
        """Send one request; sign on where IRSA does not answer it otherwise."""
        if self._account.given:
            self._account.sign_on(name)
        session = self._account.sessions
        try:
            return self.downloader.download(url, name)
        except NotAllowed as error:
            if error.status == 403 and session:
                raise _no_right_to(name) from error
            self._account.sign_on(name, after=session)
        try:
            return self.downloader.download(url, name)
        except NotAllowed as error:
            if error.status == 401:
                raise _SessionEnded(f"IRSA ended the session before it delivered {name}") from error
            raise _no_right_to(name) from error


class _SessionEnded(BadAnswer):
    """A session that was just opened is not accepted."""


def _no_right_to(name):
    return ProprietaryData(f"IRSA refuses {name} to this account; ask ZTF for access, or leave the image out")


def _table(content, name):
    """Read a table of images from the CSV text of a metadata search."""
    try:
        images = pd.read_csv(StringIO(content.decode()))
    except ValueError as error:
        raise BadAnswer(f"IRSA answered {name} with no CSV table: {error}") from error
    needed = [*NAME_COLUMNS, *WCS_COLUMNS, "seeing"]
    if any(column not in images for column in needed):
        raise BadAnswer(f"IRSA answered {name} with no table of images: {_excerpt(content)}")
    if images[needed].isna().any(axis=None):
        raise BadAnswer(f"IRSA answered {name} with a table that has gaps, or was cut short")
    return images


def _excerpt(content, length=80):
    """Return the beginning of an unexpected answer, on one line."""
    text = " ".join(content[:400].decode("utf-8", "replace").split())
    return repr(text[:length])
