"""Point ztfquery, pyvo and astroquery, which stay as they are, to an archive on loopback."""

from types import SimpleNamespace

import astroquery.imcce.core
import ztfquery.io
from astroquery.imcce import conf
from ztfquery import buildurl, metasearch

from ztf_sg.services import fink, legacy_survey
from ztf_sg.services.gaia import XMatchClass


def point_clients_to(url, patch=setattr):
    """Set the base URLs of the clients; `patch` may be ``monkeypatch.setattr``, which undoes it later."""
    patch(metasearch, "SEARCH_BASEURL", f"{url}/ibe/search/ztf/products/")
    patch(buildurl, "DATA_BASEURL", f"{url}/ibe/data/ztf/products/")
    patch(buildurl, "DEFAULT_SOURCE", f"{url}/ibe/data/ztf/products/")
    patch(ztfquery.io, "LOGIN_URL", f"{url}/account/signon/login.do")
    patch(legacy_survey, "TAP_URL", f"{url}/tap")
    patch(XMatchClass, "URL", f"{url}/xmatch/api/v1/sync")
    patch(fink, "URL", f"{url}/fink")
    skybot = SimpleNamespace(
        skybot_server=f"{url}/skybot/conesearch", timeout=conf.timeout, field_names=conf.field_names
    )
    patch(astroquery.imcce.core, "conf", skybot)
