"""A Sphinx extension: the constants that a room hands on are documented by the comments beside them.

Autodoc looks for the comment of a constant in the module that is documented only, and wants it to begin with
``#:``; the comments are in the room's modules.
"""

import re
import sys
from inspect import getsource

LONGEST = 150  # value that is shown [characters]


def comment_of(room, name):
    """Return the comment above a constant, and that at the end of its line or below it."""
    constant = re.compile(rf'((?:^# .*\n)*)^{name} = [^#\n]*(?:# (.*)|\n"""(.*)""")?$', re.MULTILINE)
    for home in [room, *(home for home in sys.modules if home.startswith(f"{room}."))]:
        if found := constant.search(getsource(sys.modules[home])):
            return [line.removeprefix("# ") for line in [*found[1].splitlines(), found[2] or found[3] or ""]]
    return []


def describe_constant(app, what, name, obj, options, lines):
    """Take the comment and the value for a docstring."""
    if what == "data":
        room, _, constant = name.rpartition(".")
        lines[:] = comment_of(room, constant)
        if isinstance(obj, (bool, int, float, str, tuple, dict)) and len(repr(obj)) <= LONGEST:
            lines += ["", f"Value: ``{obj!r}``"]


def setup(app):
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", describe_constant)
    return {"parallel_read_safe": True, "version": "1"}
