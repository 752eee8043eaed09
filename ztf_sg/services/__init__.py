"""Where catalogues and images come from: one module per service, the only place that knows a URL.

Import a service from its module, as some take long to load. `legacy_survey.LegacySurvey` and
`sweeps.LegacySurveySweeps` are catalogues, with ``query_region(ra, dec, limits, max_fracflux)``; `irsa.Irsa`
has images, with ``origin``, ``search_images`` and ``get_cutout``; `gaia.crossmatch_gaia` adds Gaia sources to
the objects of a catalogue; `fink.fetch_alerts` has alerts of moving and other objects, and
`skybot.bodies_in_field` the known bodies of a field; `release.fetch_release` fetches real cutouts that are
labelled. :class:`ztf_sg.simulation.MockSky` stands in for the first four of them, offline. They share `http`
(sends requests), `errors` (one for each thing to do about a fault), `retries` (asks again after one) and
`query_cache` (keeps answers, so that nothing is asked twice).
"""

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
from .retries import Retries, retries_of

__all__ = [
    "AuthenticationError",
    "BadAnswer",
    "MissingAccount",
    "NothingFound",
    "ProprietaryData",
    "RefusedRequest",
    "Retries",
    "ServiceDown",
    "ServiceError",
    "Stopped",
    "Unreachable",
    "UnusableAnswer",
    "WrongPassword",
    "retries_of",
]
