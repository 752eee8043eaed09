"""Columns of lists of objects: which hold positions, names, types and proper motions, by their headers."""

import re
from typing import NamedTuple

import astropy.units as u

# The keys of right ascension and declination, most wanted first: of several pairs the first counts.
RA_DEC = (
    ("ra", ("dec", "decl", "de", "declination")),
    ("rightascension", ("declination", "dec")),
    ("raicrs", ("decicrs", "deicrs", "declicrs")),
    ("raj2000", ("decj2000", "dej2000", "declj2000")),
    ("ra2000", ("dec2000", "de2000")),
    ("_raicrs", ("_decicrs", "_deicrs")),
    ("_raj2000", ("_decj2000", "_dej2000")),
    ("_ra", ("_dec", "_de")),
    ("ramean", ("decmean",)),
    ("meanra", ("meandec",)),
    ("rastack", ("decstack",)),
    ("alphaj2000", ("deltaj2000",)),
    ("alphawinj2000", ("deltawinj2000",)),
    ("alphasky", ("deltasky",)),
    ("sra", ("sdec",)),
    ("targetra", ("targetdec",)),
    ("objra", ("objdec",)),
    (".ra", (".dec",)),  # of a column of SkyCoord, such as coord.ra
)
GALACTIC = (
    ("glon", ("glat",)),
    ("gallon", ("gallat",)),
    ("gall", ("galb",)),
    ("l", ("b",)),
)
B1950 = ("rab1950", "ra1950", "_rab1950")
PLAIN_KEYS = ("ra", "rightascension", "sra")  # whose frame the header of a file may tell
NAME_KEYS = (
    *("name", "objname", "objectname", "targetname", "targname", "mainid", "object", "sourcename"),
    *("id", "objid", "objectid", "oid", "sourceid", "gaiasourceid", "gaiaid", "source", "designation"),
    *("iauname", "target", "identifier", "ztfid", "lsid", "ticid", "number"),
)
INDEX_KEYS = ("unnamed0", "_indexlevel0", "index")  # of rows; names only if they are text
MOTION_KEYS = {
    "PMRA": ("pmra", "pmracosdec", "pmracosde"),
    "PMDEC": ("pmdec", "pmde"),
}
EPOCH_KEYS = ("refepoch", "epoch")
# Words of headers that tell the unit of an angle, or nothing.
UNIT_WORDS = {
    **dict.fromkeys(("d", "deg", "degs", "degree", "degrees"), u.deg),
    **dict.fromkeys(("h", "hh", "hr", "hrs", "hour", "hours", "hourangle", "hms"), u.hourangle),
    **dict.fromkeys(("rad", "radian", "radians"), u.rad),
    **dict.fromkeys(("dd", "dms", "mm", "ss", "mas", "yr", "year"), None),
}
GLUED_UNIT = re.compile(r"(ra|dec|decl|de)(deg|degrees|hours)")

GAIA_EPOCH = 2016.0  # of the positions of Gaia DR3 [Julian year]
SHOWN_COLUMNS = 30


class Header(NamedTuple):
    """What the header of a column says.

    Attributes
    ----------
    key : str
        Its small letters and digits, without the unit.
    unit : astropy.units.Unit or None
        That of an angle.
    """

    key: str
    unit: u.UnitBase | None


class ListColumns(NamedTuple):
    """The columns of a list that are of use.

    Attributes
    ----------
    numbers : dict
        The number of each column, from 0, by its standard name: RA, DEC, and if they are there NAME, TYPE,
        PMRA, PMDEC, REF_EPOCH.
    units : dict
        The units that the headers of RA and DEC tell, or None.
    galactic : bool
        Whether RA and DEC are galactic longitude and latitude.
    indexed : bool
        Whether NAME is an index of rows, not a column of names.
    plain : bool
        Whether their headers leave the frame open.
    epoch : float
        The epoch of the positions if neither a column nor the file tells it [Julian year].
    """

    numbers: dict
    units: dict
    galactic: bool
    indexed: bool
    plain: bool
    epoch: float


def find_columns(names):
    """Return the ListColumns of a list of objects.

    Headers count in any case, with or without a unit and punctuation: ``RA (deg)``, ``ra_deg``, ``R.A.``. Of
    several pairs the first of `RA_DEC` counts, and galactic positions only if there is none. Of several
    columns with the same header but for the unit, such as ``RA (hms)`` and ``RA (deg)``, the one in degrees
    counts, else the one in upper case.

    The epoch is that of Gaia DR3, whose columns the archive names ra and dec, and VizieR RA_ICRS and DE_ICRS.
    VizieR's RAJ2000 and DEJ2000, and the positions of SIMBAD, whose names are in main_id, are those of J2000.

    Parameters
    ----------
    names : sequence
        The headers, in the order of the columns.

    Raises
    ------
    ValueError
        If no two columns hold positions, several do with the same right, or positions are those of B1950.
    """
    headers = [parse_header(name) for name in names]
    pair = _find_pair(names, headers)
    if pair is None:
        raise ValueError(_no_positions(names, headers))
    numbers = dict(zip(("RA", "DEC"), pair, strict=True))
    key = headers[pair[0]].key
    motions = {target: _find(names, headers, keys) for target, keys in MOTION_KEYS.items()}
    if None not in motions.values():
        numbers |= motions | {"REF_EPOCH": _first(headers, EPOCH_KEYS)}
    name = _first(headers, NAME_KEYS + INDEX_KEYS)
    numbers |= {"NAME": name, "TYPE": _find(names, headers, ("type",))}
    of_simbad = name is not None and headers[name].key == "mainid"
    return ListColumns(
        {target: number for target, number in numbers.items() if number is not None},
        {target: headers[number].unit for target, number in zip(("RA", "DEC"), pair, strict=True)},
        key in dict(GALACTIC),
        name is not None and headers[name].key in INDEX_KEYS,
        key in PLAIN_KEYS,
        2000.0 if of_simbad or key.endswith("2000") else GAIA_EPOCH,
    )


def parse_header(name):
    """Return the Header of a column.

    Examples
    --------
    >>> parse_header("RA (J2000, hms)")
    Header(key='raj2000', unit=Unit("hourangle"))
    """
    text = str(name).strip().lower()
    prefix, _, field = text.rpartition(".")
    if prefix and field in ("ra", "dec"):
        return Header(f".{field}", None)
    words = re.findall(r"[a-z0-9]+", text)
    if len(words) == 1 and (glued := GLUED_UNIT.fullmatch(words[0])):
        words = glued.groups()
    # the first word is no unit: d, h and rad alone are names of other things
    units = [UNIT_WORDS[word] for word in words[1:] if UNIT_WORDS.get(word)]
    key = "".join(word for number, word in enumerate(words) if number == 0 or word not in UNIT_WORDS)
    return Header("_" * text.startswith("_") + key, units[0] if units else None)


def shown_columns(names):
    """Return headers as text for a message."""
    shown = ", ".join(repr(str(name)) for name in names[:SHOWN_COLUMNS])
    return shown + f" and {len(names) - SHOWN_COLUMNS} more" * (len(names) > SHOWN_COLUMNS)


def _find_pair(names, headers):
    for longitude, latitudes in (*RA_DEC, *GALACTIC):
        pair = _find(names, headers, (longitude,)), _find(names, headers, latitudes)
        if None not in pair:
            return pair
    return None


def _find(names, headers, keys):
    """Return the number of the column that has the first of the keys that are there, or None.

    Raises
    ------
    ValueError
        If several have it with the same right.
    """
    for key in keys:
        found = [number for number, header in enumerate(headers) if header.key == key]
        if not found:
            continue
        ranks = {
            number: (_unit_rank(headers[number].unit), not str(names[number]).isupper()) for number in found
        }
        best = [number for number in found if ranks[number] == min(ranks.values())]
        if len(best) > 1:
            several = ", ".join(repr(str(names[number])) for number in best)
            raise ValueError(
                f"has several columns with the same meaning: {several}; rename or leave out all but one"
            )
        return best[0]
    return None


def _unit_rank(unit):
    return 0 if unit == u.deg else 1 if unit is None else 2


def _first(headers, keys):
    """Return the number of the first column with the first of the keys that are there, or None."""
    found = [header.key for header in headers]
    return next((found.index(key) for key in keys if key in found), None)


def _no_positions(names, headers):
    if any(header.key in B1950 for header in headers):
        return (
            "has positions of equinox B1950 only; convert them, and hand over the result: "
            "SkyCoord(ra, dec, unit='deg', frame='fk4').icrs"
        )
    remedy = "name two of them RA and DEC [deg, ICRS]"
    if any(_is_number(name) for name in names):
        remedy = "the first line seems to be an object: put a line of names before it, such as name,RA,DEC"
    return f"has no columns of positions, only {shown_columns(list(names))}; {remedy}"


def _is_number(name):
    return isinstance(name, str) and re.fullmatch(r"\s*[+-]?\d+([.,]\d*)?\s*", name) is not None
