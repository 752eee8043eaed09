"""A Sphinx extension: names that a room, or the package, hands on from where they are at home.

Autodoc documents a constant if its comment begins with ``#:`` and is in the same module; rooms hand on the
constants of their modules, where the comments are. References to ``ztf_sg.normalize`` lead to the entry of
``ztf_sg.normalization.normalize``.
"""

import re
import sys
from importlib import import_module
from inspect import getsource
from pathlib import Path

from sphinx.pycode import ModuleAnalyzer

import ztf_sg

PACKAGE = Path(__file__).parents[1] / "ztf_sg"
LONGEST = 150  # value that is shown [characters]


def add_constants(app):
    """Hand the comments of the constants of all rooms to autodoc."""
    for room in ["ztf_sg.ztf", *(f"ztf_sg.{init.parent.name}" for init in PACKAGE.glob("*/__init__.py"))]:
        module, analyzer = import_module(room), ModuleAnalyzer.for_module(room)
        analyzer.analyze()
        for name in getattr(module, "__all__", dir(module)):
            value = getattr(module, name)
            if name.isupper() and not callable(value):
                analyzer.attr_docs["", name] = description(room, name, value)


def description(room, name, value):
    """Return the value of a constant, or its type, and the comment above it, beside it or below it."""
    constant = re.compile(rf'((?:^# .*\n)*)^{name} = [^#\n]*(?:# (.*)|\n"""(.*)""")?$', re.MULTILINE)
    lines = []
    for home in [room, *(home for home in sys.modules if home.startswith(f"{room}."))]:
        if not lines and (found := constant.search(getsource(sys.modules[home]))):
            lines = [line.removeprefix("# ") for line in [*found[1].splitlines(), found[2] or found[3] or ""]]
    short = isinstance(value, (bool, int, float, str, tuple, dict)) and len(repr(value)) <= LONGEST
    shown = repr(value) if short else type(value).__name__
    return [f"``{shown}``", "", *lines, "", ":meta hide-value:", ""]  # values may be paths of this machine


def reference_of_short_name(app, env, node, contnode):
    """Resolve a reference to a name of the package itself."""
    room = ztf_sg._HOME.get(node.get("reftarget", "").removeprefix("ztf_sg.").partition(".")[0])
    if node.get("refdomain") == "py" and room and node["reftarget"].startswith("ztf_sg."):
        target = node["reftarget"].replace("ztf_sg", f"ztf_sg.{room}", 1)
        domain = env.domains.python_domain
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, contnode)


def setup(app):
    """Register with Sphinx."""
    app.connect("builder-inited", add_constants)
    app.connect("missing-reference", reference_of_short_name)
    return {"parallel_read_safe": True, "version": "1"}
