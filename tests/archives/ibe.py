"""IRSA's image server (IBE) and its sign-on.

Described at https://irsa.ipac.caltech.edu/docs/program_interface/ztf_api.html.
"""

import re
import secrets
import sqlite3
import threading

import numpy as np
from ztfquery.metasearch import QUERIABLE_FIELD

from .answers import Answer, html, text, votable_error
from .sky import OffImage

COLUMNS = QUERIABLE_FIELD["sci"]
PUBLIC_SINCE = "2021-03-31 00:00:00+00"
COOKIE = "JOSSO_SESSIONID"
UNITS = {"arcsec": 1, "arcmin": 60, "deg": 3600, "pix": 1.012, "": 3600}


class Ibe:
    """Search, products and sign-on.

    `accounts` maps a user to (password, whether it has rights to proprietary data); `proprietary` is a share
    of the images, or a function of a row of metadata.
    """

    def __init__(self, sky, accounts=None, proprietary=0.0):
        self.sky, self.accounts = sky, accounts or {}
        self._sessions = {}
        self._lock = threading.Lock()
        images = sky.images.assign(ipac_pub_date=PUBLIC_SINCE, poly=_polygons(sky.images))
        if not callable(proprietary):
            chosen = np.random.default_rng(sky.seed).random(len(images)) < proprietary
            images["proprietary"] = chosen
        else:
            images["proprietary"] = [bool(proprietary(row)) for _, row in images.iterrows()]
        self.proprietary = dict(zip(images["product"], images["proprietary"], strict=True))
        self._images = images
        self._corners = np.stack([images[[f"ra{i}", f"dec{i}"]].to_numpy() for i in (1, 2, 3, 4)], axis=1)
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        images[COLUMNS].to_sql("sci", self._database, index=True, index_label="row_number")

    def login(self, request):
        """Answer a page in any case; it brings a cookie only for the right password."""
        answer = html(200, "IRSA sign-on")
        user = request.args.get("josso_username")
        password, _ = self.accounts.get(user, (None, False))
        if password is not None and request.args.get("josso_password") == password:
            token = secrets.token_hex(16)
            with self._lock:
                self._sessions[token] = user
            answer.headers["Set-Cookie"] = f"{COOKIE}={token}; Path=/"
        return answer

    def expire_sessions(self):
        with self._lock:
            self._sessions.clear()

    def user(self, request):
        """Return the user who is signed on, or None."""
        with self._lock:
            return self._sessions.get(request.cookies.get(COOKIE))

    def _has_rights(self, request):
        user = self.user(request)
        return user is not None and self.accounts[user][1]

    def search(self, request):
        args = {name.lower(): value for name, value in request.args.items()}
        try:
            rows = self._select(args, self._has_rights(request))
            names = [name.strip() for name in args["columns"].split(",")] if args.get("columns") else COLUMNS
            table = rows[names]
        except (ValueError, KeyError, sqlite3.Error) as error:
            return votable_error(400, f"Invalid query: {error}")
        return text(table.to_csv(index=False), "text/csv")

    def _select(self, args, rights):
        if args.get("ct") != "csv":
            raise ValueError("this server knows only ct=csv")
        where = args.get("where", "").strip()
        if not where and "pos" not in args:
            raise ValueError("a WHERE parameter is required in the absence of POS")
        keep = ~self._images["proprietary"].to_numpy() | rights
        if where:
            keep &= self._matches(where)
        if "pos" not in args:
            return self._images[keep]
        ra, dec = _numbers(args["pos"], 2)
        size = [float(v) for v in args.get("size", "0").split(",")]
        if min(size) < 0 or len(size) > 2:
            raise ValueError(f"SIZE={args['size']}")
        keep &= _overlap(self._corners, ra, dec, size[0], size[-1])
        rows = self._images[keep]
        if "mcen" in args and max(size) == 0 and len(rows):
            east = (rows["ra"] - ra) * np.cos(np.radians(dec))
            rows = rows.iloc[[int(np.argmin(np.hypot(east, rows["dec"] - dec)))]]
        return rows

    def _matches(self, where):
        with self._lock:
            found = self._database.execute(f"SELECT row_number FROM sci WHERE ({where})").fetchall()
        matches = np.zeros(len(self._images), dtype=bool)
        matches[[row for (row,) in found]] = True
        return matches

    def product(self, request, path, fault=None):
        """Answer an image, or with ``center`` a cutout; `fault` may be one of the cutouts' faults."""
        if path not in self.sky.quadrants:
            return html(404, "Not Found")
        if COOKIE in request.cookies and self.user(request) is None:
            return html(401, "Login required: your session has expired")
        if self.proprietary[path] and not self._has_rights(request):
            return html(401, "Login required") if self.user(request) is None else html(403, "Forbidden")
        quadrant = self.sky.quadrants[path]
        if "center" not in request.args:
            return _fits(quadrant, quadrant.file_bytes())
        try:
            position = _numbers(request.args["center"], 2)
            size = _size(request.args.get("size", ""))
        except ValueError as error:
            return html(400, f"Bad Request: {error}")
        try:
            return self._cutout(quadrant, *position, size, fault)
        except OffImage:
            return html(400, "Bad Request: the center is off the image")

    def _cutout(self, quadrant, ra, dec, size, fault):
        ranges = quadrant.cutout_range(ra, dec, *size)
        trimmed = quadrant.trimmed_range(ra, dec, *size)
        if fault == "wrong_position":
            ranges = self._elsewhere(quadrant, ra, dec, size)
        elif fault == "wrong_image":
            other = self._other_image(quadrant, ra, dec, size)
            quadrant, ranges = other or (quadrant, ranges)
            fault = fault if other else None
        elif fault == "cutout_5":
            ranges = [(first, first + 5) for first, _ in trimmed]
        elif fault == "cutout_19":
            ranges = [(first, past - 1) for first, past in trimmed]
        elif fault == "cutout_21":
            ranges = [(max(first - 1, 0), past) for first, past in trimmed]
        else:
            fault = None
        answer = _fits(quadrant, quadrant.cutout_bytes(ranges))
        answer.fault = fault
        return answer

    def _elsewhere(self, quadrant, ra, dec, size):
        try:
            return quadrant.cutout_range(ra, dec + 60 / 3600, *size)
        except OffImage:
            return quadrant.cutout_range(ra, dec - 60 / 3600, *size)

    def _other_image(self, quadrant, ra, dec, size):
        for other in self.sky.quadrants.values():
            try:
                if other is not quadrant:
                    return other, other.cutout_range(ra, dec, *size)
            except OffImage:
                continue
        return None


def _fits(quadrant, body):
    return Answer(200, body, "application/fits", header_size=len(quadrant.header))


def _polygons(images):
    corners = zip(*(images[f"{axis}{i}"] for i in (1, 2, 3, 4) for axis in ("ra", "dec")), strict=True)
    return ["POLYGON ICRS " + " ".join(f"{v:.6f}" for v in row) for row in corners]


def _numbers(text, count):
    values = [float(v) for v in text.split(",")]
    if len(values) != count or not np.isfinite(values).all():
        raise ValueError(f"expected {count} numbers, got {text!r}")
    return values


def _size(text):
    """Return width and height [arcsec] from such as ``20arcsec`` or ``0.1,0.2deg``."""
    match = re.fullmatch(r"([\d.eE+-]+)(?:,([\d.eE+-]+))?\s*([a-z]*)", text)
    if not match or match[3] not in UNITS:
        raise ValueError(f"size={text!r}")
    width = float(match[1]) * UNITS[match[3]]
    return width, (float(match[2]) * UNITS[match[3]] if match[2] else width)


def _overlap(corners, ra, dec, width, height):
    """Tell which polygons (n, 4, RA and DEC) overlap a box.

    Two convex shapes do, unless a line separates them. On the tangent plane at the box's centre, great
    circles are straight lines.
    """
    lon, lat = np.radians(corners[..., 0] - ra), np.radians(corners[..., 1])
    dec = np.radians(dec)
    depth = np.sin(dec) * np.sin(lat) + np.cos(dec) * np.cos(lat) * np.cos(lon)
    x = np.cos(lat) * np.sin(lon) / depth
    y = (np.cos(dec) * np.sin(lat) - np.sin(dec) * np.cos(lat) * np.cos(lon)) / depth
    image = np.degrees(np.stack([x, y], axis=-1))
    box = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.array([width, height]) / 2
    edges = np.roll(image, -1, axis=1) - image
    normals = np.stack([-edges[..., 1], edges[..., 0]], axis=-1)
    axes = np.concatenate([normals, np.broadcast_to(np.eye(2), (len(image), 2, 2))], axis=1)
    ours, theirs = image @ axes.swapaxes(1, 2), box @ axes.swapaxes(1, 2)
    apart = (ours.max(axis=1) < theirs.min(axis=1)) | (theirs.max(axis=1) < ours.min(axis=1))
    return ~apart.any(axis=1) & (depth > 0).all(axis=1)
