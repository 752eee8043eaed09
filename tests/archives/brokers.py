"""The REST interface of the broker Fink, and SkyBoT of the IMCCE, with a few alerts and bodies."""

import json
from functools import cached_property

import numpy as np
from astropy.coordinates import Angle, SkyCoord

from .answers import Answer, text

SIZE = 63  # of a stamp [px]
KINDS = ("Science", "Template", "Difference")
OBJECTS = ("ZTF18aaaaaaa", "ZTF19bbbbbbb")
BODIES = {"8467": "8467", "Vesta": "4", "10P": "10P"}  # what may be asked for, and ssnamenr of the alerts
FIELD = (150.0, 20.0)  # where the bodies of SkyBoT are [deg]
SKYBOT_FIELDS = (
    ("num", "char", ""),
    ("name", "char", ""),
    ("ra", "char", "h:m:s"),
    ("de", "char", "d:m:s"),
    ("class", "char", ""),
    ("magV", "float", ""),
    ("errpos", "float", "arcsec"),
    ("angdist", "float", "arcsec"),
    ("dracosdec", "float", "arcsec/h"),
    ("ddec", "float", "arcsec/h"),
)
VOTABLE = (
    '<?xml version="1.0" encoding="UTF-8" ?>\n<vot:VOTABLE version="1.3" '
    'xmlns:vot="http://www.ivoa.net/xml/VOTable/v1.3"><vot:RESOURCE name="Skybot.ConeSearch">'
    '<vot:INFO name="QUERY_STATUS" value="OK"/><vot:TABLE ID="SkybotConeSearch_results">{}'
    "<vot:DATA><vot:TABLEDATA>{}</vot:TABLEDATA></vot:DATA></vot:TABLE></vot:RESOURCE></vot:VOTABLE>\n"
)


class Brokers:
    def __init__(self, seed):
        self.seed = seed

    @cached_property
    def alerts(self):
        """Return the alerts: three of each object, and two of each body, the second far from its position."""
        rng = np.random.default_rng([self.seed, 7])
        names = [(name, "null", -999.0) for name in OBJECTS for _ in range(3)]
        names += [
            (f"ZTF20c{body.lower():a>6}", body, distance)
            for body in BODIES.values()
            for distance in (0.4, 12.0)
        ]
        return [_alert(rng, number, *each) for number, each in enumerate(names)]

    def stamps(self, candid):
        """Return the stamps of an alert, (3, 63, 63)."""
        stamps = np.random.default_rng([self.seed, candid % 1000]).normal(0, 10, (3, SIZE, SIZE)).astype("f4")
        stamps[:, :2] = np.nan
        return stamps

    def fink(self, request, path):
        question = json.loads(request.get_data() or "{}")
        if request.method != "POST":
            return text("method not allowed", "text/plain")
        if path == "objects":
            return _rows([each for each in self.alerts if each["i:objectId"] == question["objectId"]])
        if path == "sso":
            return self._bodies(question["n_or_d"])
        if path == "cutouts" and (question["kind"], question["output-format"]) == ("All", "array"):
            return self._cutouts(question)
        return Answer(404, b"Not Found")

    def _bodies(self, name):
        if name not in BODIES:
            return Answer(400, f"{{'status': 'error', 'text': '{name} is not a valid name'}}".encode())
        return _rows([each for each in self.alerts if each["i:ssnamenr"] == BODIES[name]])

    def _cutouts(self, question):
        known = {(each["i:objectId"], str(each["i:candid"])) for each in self.alerts}
        if (question["objectId"], question["candid"]) not in known:
            return Answer(500, b"Internal Server Error")  # as the service does
        stamps = self.stamps(int(question["candid"]))
        names = [f"b:cutout{kind}_stampData" for kind in KINDS]
        answer = dict(zip(names, stamps.tolist(), strict=True))
        return text(json.dumps(answer), "application/json")

    @cached_property
    def bodies(self):
        """Return the bodies of SkyBoT: number, name, RA, DEC [deg], class, V, error ["], rates ["/h]."""
        ra, dec = FIELD
        return [
            ("8467", "Benoitcarry", ra + 0.01, dec, "MB>Inner", 17.6, 0.03, -30.0, 12.0),
            ("-", "2019 RB21", ra, dec + 0.02, "NEA>Apollo", 19.1, 2.5, 1200.0, -600.0),
        ]

    def skybot(self, request):
        ra, dec, radius = (float(request.args[key]) for key in ("-ra", "-dec", "-rd"))
        centre = SkyCoord(ra, dec, unit="deg")
        rows = []
        for number, name, body_ra, body_dec, kind, *rest in self.bodies:
            distance = centre.separation(SkyCoord(body_ra, body_dec, unit="deg"))
            if distance.deg <= radius:
                position = (
                    Angle(body_ra, "deg").to_string("hourangle", sep=" ", precision=6, pad=True),
                    Angle(body_dec, "deg").to_string("deg", sep=" ", precision=5, pad=True, alwayssign=True),
                )
                cells = (number, name, *position, kind, *rest[:2], distance.arcsec, *rest[2:])
                rows.append("".join(f"<vot:TD>{str(cell).replace('>', '&gt;')}</vot:TD>" for cell in cells))
        fields = "".join(map(_field, SKYBOT_FIELDS))
        body = VOTABLE.format(fields, "".join(f"<vot:TR>{row}</vot:TR>" for row in rows))
        return Answer(200, body.encode(), "text/xml")


def _field(field):
    name, kind, unit = field
    size = ' arraysize="*"' if kind == "char" else ""
    unit = f' unit="{unit}"' if unit else ""
    return f'<vot:FIELD ID="{name}" name="{name}" datatype="{kind}"{size}{unit}/>'


def _rows(alerts):
    return text(json.dumps(alerts), "application/json")


def _alert(rng, number, name, body, distance):
    """Return an alert as Fink gives it, without stamps."""
    return {
        "d:roid": 3 if body != "null" else 0,
        "i:objectId": name,
        "i:candid": 10**18 + 2**55 + number,
        "i:jd": float(rng.uniform(2458000, 2461000)),
        "i:fid": int(rng.integers(1, 3)),
        "i:ra": float(rng.uniform(0, 360)),
        "i:dec": float(rng.uniform(-30, 80)),
        "i:magpsf": float(rng.uniform(15, 20)),
        "i:fwhm": 2.1,
        "i:magzpsci": 26.2,
        "i:isdiffpos": "t",
        "i:ssnamenr": body,
        "i:ssdistnr": distance,
    }
