"""Point ztfquery, pyvo and astroquery, which stay as they are, to an archive on loopback."""

import ztfquery.io
from ztfquery import buildurl, metasearch

from ztf_sg.services import legacy_survey
from ztf_sg.services.gaia import XMatchClass


def point_clients_to(url, patch=setattr):
    """Set the base URLs of the clients; `patch` may be ``monkeypatch.setattr``, which undoes it later."""
    patch(metasearch, "SEARCH_BASEURL", f"{url}/ibe/search/ztf/products/")
    patch(buildurl, "DATA_BASEURL", f"{url}/ibe/data/ztf/products/")
    patch(buildurl, "DEFAULT_SOURCE", f"{url}/ibe/data/ztf/products/")
    patch(ztfquery.io, "LOGIN_URL", f"{url}/account/signon/login.do")
    patch(legacy_survey, "TAP_URL", f"{url}/tap")
    patch(XMatchClass, "URL", f"{url}/xmatch/api/v1/sync")
