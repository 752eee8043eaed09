"""Where catalogues and images come from: one module per service, the only place that knows a URL.

A catalogue service has ``query_region(ra, dec, limits, max_fracflux)``, of which
:class:`~ztf_sg.services.cuts.Cuts` describes the parameters and
:meth:`LegacySurvey.query_region <ztf_sg.services.legacy_survey.LegacySurvey.query_region>` the rest; it
repeats requests itself. An image service has ``origin``, ``search_images`` and ``get_cutout``.
:class:`~ztf_sg.simulation.MockSky` is both, offline and simulated;
:class:`~ztf_sg.services.legacy_survey.LegacySurvey`, its files in
:class:`~ztf_sg.services.sweeps.LegacySurveySweeps`, and :class:`~ztf_sg.services.irsa.Irsa` are live.
:func:`~ztf_sg.services.gaia.crossmatch_gaia` adds Gaia sources to the objects of a catalogue; ``MockSky`` has
it as a method.

What the live services share: :class:`~ztf_sg.services.http.HttpSession` sends the requests, of pyvo and
astroquery too; :mod:`~ztf_sg.services.errors` has an exception for each thing to do about a fault;
:class:`~ztf_sg.services.retries.Retries` asks again after one;
:class:`~ztf_sg.services.query_cache.QueryCache` keeps answers on disk, so that nothing is asked twice.
"""

from .cuts import Cuts
from .errors import (
    AuthenticationError,
    BadAnswer,
    MissingAccount,
    NothingFound,
    ProprietaryData,
    RefusedRequest,
    ServiceDown,
    ServiceError,
    Stopped,
    Unreachable,
    UnusableAnswer,
    WrongPassword,
)
from .gaia import COLUMNS as GAIA_COLUMNS
from .gaia import add_matches, check_match, crossmatch_gaia
from .legacy_survey import LegacySurvey
from .query_cache import QueryCache, describe_queries
from .retries import Retries, retries_of
from .sweeps import LegacySurveySweeps, read_sweep

__all__ = [
    "GAIA_COLUMNS",
    "AuthenticationError",
    "BadAnswer",
    "Cuts",
    "LegacySurvey",
    "LegacySurveySweeps",
    "MissingAccount",
    "NothingFound",
    "ProprietaryData",
    "QueryCache",
    "RefusedRequest",
    "Retries",
    "ServiceDown",
    "ServiceError",
    "Stopped",
    "Unreachable",
    "UnusableAnswer",
    "WrongPassword",
    "add_matches",
    "check_match",
    "crossmatch_gaia",
    "describe_queries",
    "read_sweep",
    "retries_of",
]
