"""ZTF science images at IRSA: search of the metadata, FITS cutouts and whole images.

ztfquery writes the queries and addresses, and holds the base URLs; :mod:`ztf_sg.services.http` sends them,
because ztfquery has no time limits and shows no HTTP status. The service is described at
https://irsa.ipac.caltech.edu/docs/program_interface/ztf_api.html.
"""

from io import StringIO

import numpy as np
import pandas as pd
from ztfquery import buildurl, metasearch

from ztf_sg.ztf import (
    CUTOUT_SIZE,
    FITS_BLOCK,
    MAX_SEEING,
    NAME_COLUMNS,
    WCS_COLUMNS,
    check_filtercode,
    image_name,
)

from .account import Account
from .errors import BadAnswer, NothingFound, ProprietaryData
from .http import HttpSession, NotAllowed
from .query_cache import QueryCache
from .retries import Retries

LOG_INS = 3  # for one request, after which it is not the session that is at fault


def image_url(image):
    """Return the URL of the whole science image of a metadata row."""
    return buildurl.filename_to_scienceurl(image_name(image), source=buildurl.DATA_BASEURL)


def cutout_url(image, ra, dec, size=CUTOUT_SIZE):
    """Return the URL of a cutout from a science image; parameters as of :meth:`Irsa.get_cutout`.

    Raises
    ------
    ValueError
        The row lacks one of the columns `ztf_sg.ztf.NAME_COLUMNS`.
    """
    # never an exponent, as in 1e-05, which is ordinary near the equator
    ra, dec, size = (np.format_float_positional(float(x), trim="-") for x in (ra, dec, size))
    return f"{image_url(image)}?center={ra},{dec}&size={size}arcsec&gzip=false"


class Irsa:
    """The image service of IRSA.

    Each method asks once, and raises an error if that does not work. :func:`ztf_sg.fetch_cutouts` and
    :class:`~ztf_sg.fetching.ImageChooser` ask again after a fault, as `retries` says. By hand, do the same by
    ``service.retries.call(service.search_images, ra, dec, size)``.

    The public data are asked anonymously. Where IRSA wants an account for an image, or shows no image without
    one, it is logged in to the account that :func:`~ztf_sg.services.account.find_account` finds, and asked
    anew.

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
    >>> Irsa(auth=("someone", "secret"))
    Irsa(with account)
    """

    origin = "Zwicky Transient Facility"

    def __init__(self, auth=None, cache=None, concurrency=4, retries=None):
        self.concurrency = concurrency
        self.retries = retries or Retries()
        self.session = HttpSession("IRSA", concurrency, lambda: self.retries.stopped)
        self.cache = QueryCache(cache)
        self._account = Account(auth, self.session)

    def __reduce__(self):
        """Let copies, and other processes, begin with sessions of their own."""
        return type(self), (self._account.given, self.cache.directory, self.concurrency, self.retries)

    def __repr__(self):
        return f"{type(self).__name__}({'with account' if self._account.is_in_use else 'anonymous'})"

    def search_images(self, ra, dec, size, filtercode="zi", max_seeing=MAX_SEEING, max_infobits=0):
        """Find the science images that overlap a patch of sky, by one search of the metadata.

        Parameters
        ----------
        ra, dec : float
            Centre of the patch [deg, ICRS].
        size : float
            Full width and height of the patch [deg]; 0 is a point.
        filtercode : {"zi", "zr", "zg"}
        max_seeing : float
            Images have a FWHM below this [arcsec]. (The header card SEEING of the images is in pixels.)
        max_infobits : int
            Largest value of the quality flags: 0 is none raised, 2**25 - 1 leaves out only what the pipeline
            declared bad.

        Returns
        -------
        pandas.DataFrame
            One row per image, which need not contain the patch's centre: the columns of
            ``ztfquery.metasearch.QUERIABLE_FIELD["sci"]``. ``attrs["queries"]`` tells whether the answer was
            kept, see `query_cache.describe_queries`.

        Raises
        ------
        NothingFound
            No image matches.
        WrongPassword, MissingAccount
            The account was refused, or is set up by half.
        RefusedRequest, BadAnswer, Unreachable
            IRSA finds fault with the search; answers no table of images; does not answer now.
        """
        check_filtercode(filtercode)
        seeing, infobits = float(max_seeing), int(max_infobits)
        condition = f"filtercode='{filtercode}' and seeing<{seeing} and infobits<={infobits}"
        query = metasearch.MetaQuery()
        query.build_query(kind="sci", radec=[float(ra), float(dec)], size=float(size), sql_query=condition)
        name = f"the images of RA {ra:g}, DEC {dec:g} deg, {size:g} deg wide"
        try:
            return self._search(query.query_url, name, condition)
        except NothingFound:
            if self._account.is_in_use or not self._account.is_known():
                raise
        # what the public may not see, the account may
        self._account.log_in(name)
        return self._search(query.query_url, name, condition)

    def get_cutout(self, image, ra, dec, size=CUTOUT_SIZE):
        """Download a cutout of a science image, the bytes of a FITS file.

        Parameters
        ----------
        image : pandas.Series
            A row from `search_images`.
        ra, dec : float
            Centre [deg, ICRS].
        size : float
            Width and height [arcsec]; the cutout of 20 arcsec has 20 x 20 pixels, at times one more or less.

        Raises
        ------
        NothingFound
            IRSA has no such image.
        MissingAccount, WrongPassword, ProprietaryData
            The image needs an account and none is at hand; it was refused; it has no right to the image.
        RefusedRequest, BadAnswer, Unreachable
            IRSA finds fault with the request; answers no FITS file; does not answer now.
        """
        name = f"the cutout of {image_name(image)} at RA {ra:.6f}, DEC {dec:.6f} deg"
        return self._download(cutout_url(image, ra, dec, size), name)

    def get_image(self, image):
        """Download a whole science image; parameters, result and errors as of `get_cutout`."""
        return self._download(image_url(image), image_name(image))

    def _download(self, url, name):
        session = self._account.sessions
        content = self._get(url, name)
        if not content.startswith(b"SIMPLE  ="):
            if session:  # maybe the page for logging in, because the session has ended
                self._account.log_in(name, after=session)
            raise BadAnswer(f"IRSA answered {name} with what is no FITS file: {_excerpt(content)}")
        if len(content) % FITS_BLOCK:
            raise BadAnswer(f"IRSA cut {name} short at {len(content)} bytes")
        return content

    def _search(self, url, name, condition):
        """Return the table of images that IRSA answers, or has answered."""

        def ask():
            images = _table(self._get(url, name), name)
            if images.empty:
                account = "" if self._account.sessions else " in the public data; an account may show more"
                raise NothingFound(f"IRSA holds none of {name} with {condition}{account}")
            return images

        images = self.cache.get("IRSA", url + self._account.cache_key, ask)
        images.attrs["queries"] = [images.attrs["query"]]
        return images

    def _get(self, url, name):
        """Return an answer; log in where IRSA does not answer otherwise, but not forever."""
        if self._account.given:
            self._account.log_in(name)
        for log_ins in range(LOG_INS + 1):
            session = self._account.sessions
            try:
                return self.session.download(url, name)
            except NotAllowed as error:
                if session and (error.status == 403 or log_ins == LOG_INS):
                    raise ProprietaryData(
                        f"IRSA refuses {name} to this account; ask ZTF for access, or leave the image out"
                    ) from error
            self._account.log_in(name, after=session)


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


def _excerpt(content):
    """Return the beginning of an unexpected answer, on one line."""
    return repr(" ".join(content[:400].decode("utf-8", "replace").split())[:80])
