"""ZTF science images at IRSA: search of the metadata and FITS cutouts, through ztfquery.

The service is described at https://irsa.ipac.caltech.edu/docs/program_interface/ztf_api.html.
Its base URLs are those of ztfquery: ``metasearch.SEARCH_BASEURL``,
``buildurl.DATA_BASEURL`` and ``io.LOGIN_URL``.
"""

import logging
import posixpath
import warnings
from contextlib import contextmanager
from urllib.parse import quote, urlsplit

import numpy as np
import pandas as pd
import requests
from astropy.wcs import WCS
from ztfquery import buildurl, io, metasearch
from ztfquery.query import metatable_to_url

from .errors import AuthenticationError, BadAnswer, NothingFound, Unreachable

ORIGIN = "Zwicky Transient Facility"
OFFLINE_REMEDY = "try again later, or use the simulated sky (OFFLINE = True)"
FILTERCODES = ("zg", "zr", "zi")
QUADRANT = (3072, 3080)  # x, y of a science image [px]
TIMEOUT = (10, 60)  # seconds: to connect, and between two parts of an answer
COOKIE_DOMAIN = ".ipac.caltech.edu"
FITS_BLOCK = 2880  # bytes

_NUMBERS = ("filefracday", "field", "ccdid", "qid")
_CODES = ("filtercode", "imgtypecode")


def image_url(image):
    """Return the URL of a science image.

    Parameters
    ----------
    image : pandas.Series
        A row of ZTF metadata, with the columns ``filefracday``, ``field``, ``ccdid``, ``qid``, ``filtercode``
        and ``imgtypecode``.

    Returns
    -------
    str
        URL of the whole image.

    Raises
    ------
    ValueError
        The row lacks one of these values.
    """
    missing = [name for name in (*_NUMBERS, *_CODES) if name not in image or pd.isna(image[name])]
    if missing:
        raise ValueError(f"this row of ZTF metadata lacks {', '.join(missing)}; found {list(image.index)}")
    # ztfquery cuts numbers up as text: as floats, which a row of mixed types may hold, they would be misread
    row = {name: int(image[name]) for name in _NUMBERS} | {name: str(image[name]) for name in _CODES}
    return metatable_to_url(pd.DataFrame([row]), datakind="sci", source=buildurl.DATA_BASEURL)[0]


def image_wcs(image):
    """Return the tangent-plane WCS of an image from its metadata; without distortion, good to a few px.

    Parameters
    ----------
    image : pandas.Series
        A row of ZTF metadata, with the columns crpix, crval and cd.

    Returns
    -------
    astropy.wcs.WCS
    """
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crpix = [image["crpix1"], image["crpix2"]]
    wcs.wcs.crval = [image["crval1"], image["crval2"]]
    wcs.wcs.cd = [[image["cd11"], image["cd12"]], [image["cd21"], image["cd22"]]]
    return wcs


def image_name(image):
    """Return the file name of a science image, ``ztf_YYYYMMDDffffff_FFFFFF_zi_cCC_o_qQ_sciimg.fits``.

    Parameters
    ----------
    image : pandas.Series
        A row of ZTF metadata; see `image_url`.

    Returns
    -------
    str
    """
    return posixpath.basename(image_url(image))


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

    Parameters
    ----------
    auth : (str, str), optional
        User name and password of an IRSA account. Without it, the public data are asked anonymously;
        accounts stored by ztfquery are not used, and nothing is ever prompted for.

    Examples
    --------
    >>> Irsa()
    Irsa(anonymous)
    >>> Irsa(auth=("someone", "secret"))
    Irsa(with account)
    """

    origin = ORIGIN

    def __init__(self, auth=None):
        # an empty part would make ztfquery prompt; the message must not repeat what was given
        if auth is not None and not _is_account(auth):
            raise ValueError("auth: expected a user name and a password, both non-empty text, or None")
        self._auth = None if auth is None else tuple(auth)
        self._session = requests.Session()
        self._cookies = {} if auth is None else None

    def __repr__(self):
        return f"{type(self).__name__}({'anonymous' if self._auth is None else 'with account'})"

    def search_images(self, ra, dec, size, filtercode="zi", max_seeing=1.85):
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

        Returns
        -------
        pandas.DataFrame
            One row per image: the columns of ``ztfquery.metasearch.QUERIABLE_FIELD["sci"]``.

        Raises
        ------
        NothingFound
            No image matches.
        AuthenticationError, BadAnswer, Unreachable
            The account was refused; the answer is no table of images; the service cannot be reached.

        Notes
        -----
        The metadata column ``seeing`` is in arcsec according to IRSA's documentation; the header card SEEING
        of the images is in pixels of 1.012 arcsec. An overlapping image need not contain the patch's centre.
        """
        if filtercode not in FILTERCODES:
            raise ValueError(f"unknown filter code {filtercode!r}; known: {', '.join(FILTERCODES)}")
        condition = f"filtercode='{filtercode}' and seeing<{float(max_seeing)}"
        patch = f"RA {ra:g}, DEC {dec:g} deg, {size:g} deg wide"
        images = _search([float(ra), float(dec)], float(size), condition, self._login())
        missing = [name for name in (*_NUMBERS, *_CODES, "seeing") if name not in images]
        if missing:
            raise BadAnswer(
                f"IRSA answered the search of {patch} with no table of images: {_excerpt(images.columns)}"
            )
        if images.empty:
            account = " in the public data; an account may show more" if self._auth is None else ""
            raise NothingFound(f"IRSA holds no image of {patch} with {condition}{account}")
        return images

    def get_cutout(self, image, ra, dec, size=20):
        """Download a cutout of a science image.

        Parameters
        ----------
        image : pandas.Series
            A row from `search_images`.
        ra, dec : float
            Centre [deg, ICRS].
        size : float
            Width and height [arcsec]; the cutout of 20 arcsec has 20 x 20 pixels, at times one more or less.

        Returns
        -------
        bytes
            A FITS file.

        Raises
        ------
        NothingFound
            IRSA has no such image.
        AuthenticationError, BadAnswer, Unreachable
            An account is needed or was refused; the answer is no FITS file; no answer, or one of failure.
        """
        url = cutout_url(image, ra, dec, size)
        name = f"the cutout of {image_name(image)} at RA {ra:.6f}, DEC {dec:.6f} deg"
        cookies = self._login()
        try:
            response = self._session.get(url, cookies=cookies, timeout=TIMEOUT)
        except requests.exceptions.RequestException as error:
            raise Unreachable(f"IRSA did not deliver {name}: {error}; {OFFLINE_REMEDY}") from error
        _check_status(response, name)
        _check_fits(response.content, name)
        return response.content

    def _login(self):
        """Return the cookies of the account, asked for on first use; none when anonymous."""
        if self._cookies is None:
            self._cookies = _login_cookies(self._auth)
        return self._cookies


def _is_account(auth):
    return (
        isinstance(auth, (tuple, list))
        and len(auth) == 2
        and all(isinstance(part, str) and part for part in auth)
    )


def _login_cookies(auth):
    """Return the cookies of an IRSA account.

    ztfquery puts the password into the URL as it is, and so into the text of network errors. It is therefore
    quoted first, and no such error is kept, not even as the context of the exception raised.
    """
    cookies = None
    with _login_kept_out_of_logs():
        try:
            cookies = io.get_cookie(*(quote(part, safe="") for part in auth))
        except requests.exceptions.RequestException as error:
            failure = type(error).__name__
    if cookies is None:
        raise Unreachable(f"the login service of IRSA cannot be reached ({failure}); {OFFLINE_REMEDY}")
    if not _logged_in(cookies):
        raise AuthenticationError("IRSA gave no login for this account; check user name and password")
    return cookies


def _logged_in(cookies):
    """Tell whether cookies are those of a login: at IRSA, they hold for its whole domain."""
    at_irsa = urlsplit(io.LOGIN_URL).hostname.endswith(COOKIE_DOMAIN)
    return any(cookie.domain == COOKIE_DOMAIN or not at_irsa for cookie in cookies)


@contextmanager
def _login_kept_out_of_logs():
    """Drop log records with the login URL, which holds the password: urllib3 logs URLs for debugging."""
    logger = logging.getLogger("urllib3.connectionpool")

    def harmless(record):
        return "josso_password" not in record.getMessage()

    logger.addFilter(harmless)
    try:
        yield
    finally:
        logger.removeFilter(harmless)


def _search(radec, size, condition, cookies):
    """Return whatever table ztfquery makes of IRSA's answer."""
    query = metasearch.MetaQuery()
    try:
        with warnings.catch_warnings():
            # ztfquery only warns of failed and empty searches, which are exceptions here
            warnings.filterwarnings("ignore", module="ztfquery")
            query.query(kind="sci", radec=radec, size=size, sql_query=condition, cookies=cookies)
    except requests.exceptions.RequestException as error:
        raise Unreachable(f"IRSA did not answer the metadata search: {error}; {OFFLINE_REMEDY}") from error
    except ValueError as error:
        raise BadAnswer(f"IRSA answered the metadata search with no CSV table: {error}") from error
    return query.metatable


def _check_status(response, name):
    status = response.status_code
    if status in (401, 403):
        raise AuthenticationError(
            f"IRSA refuses {name} (HTTP status {status}); it needs an account with access"
        )
    if status in (404, 410):
        raise NothingFound(f"IRSA has no image for {name} (HTTP status {status})")
    if status == 429 or status >= 500:
        raise Unreachable(f"IRSA is busy or out of order (HTTP status {status} for {name}); {OFFLINE_REMEDY}")
    if status != 200:
        raise BadAnswer(f"IRSA answered HTTP status {status} for {name}; check position and size")


def _check_fits(content, name):
    if not content.startswith(b"SIMPLE  ="):
        text = _excerpt([content[:200].decode("utf-8", "replace")])
        raise BadAnswer(f"IRSA answered something that is no FITS file for {name}: {text}")
    if len(content) % FITS_BLOCK:
        raise BadAnswer(f"IRSA cut {name} short at {len(content)} bytes; download it again")


def _excerpt(texts, length=80):
    """Return the beginning of an unexpected answer, on one line."""
    text = " ".join(" ".join(map(str, texts)).split())
    return repr(text[:length])
