"""Draw the imports between the rooms of the package: the sub-folders and modules right below ``ztf_sg/``.

python tools/draw_imports.py

Prints one line per room, the lowest first: each room imports only from the lines above its own. Imports
inside functions count, too.
"""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "ztf_sg"
# The order of the house: a room imports only from rooms of earlier levels.
LEVELS = (
    ("files", "parallel", "checks", "compilation"),
    ("ztf",),
    ("cutouts",),
    ("positions",),
    ("normalization", "features", "muygps", "model_file", "training_range", "priors"),
    ("streaks",),
    ("services",),
    ("simulation",),
    ("fetching",),
    ("classification", "pixels"),
    ("survey",),
    ("own_objects",),
    ("evaluation", "plotting"),
    ("cli",),
    ("__main__",),
)
RANKS = {room: number for number, level in enumerate(LEVELS) for room in level}


def module_imports(package=PACKAGE):
    """Return which modules of a package each of its modules imports.

    Parameters
    ----------
    package : pathlib.Path
        Folder of the package.

    Returns
    -------
    dict of str to set of str
        Dotted names; that of a folder stands for its ``__init__``.
    """
    sources = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {name: _imports_of(name, path, sources) for name, path in sources.items()}


def room_imports(imports):
    """Return which rooms each room imports, from the imports of the modules; the package itself is a room."""
    rooms = {}
    for module, imported in imports.items():
        found = rooms.setdefault(_room(module), set())
        found |= {_room(name) for name in imported} - {_room(module)}
    return rooms


def find_circle(imports):
    """Return the modules of a circle of imports in their order, or an empty list if there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def upward_imports(rooms):
    """Return the pairs of rooms whose first imports the second, though the second has no lower rank."""
    return [(room, imported) for room in rooms for imported in rooms[room] if rank(imported) >= rank(room)]


def rank(room):
    """Return the level of a room; one that is not listed, as the package itself, is above all others."""
    return RANKS.get(room, len(LEVELS))


def _room(module):
    """Return the room of a module; ``ztf_sg/__init__.py`` is in the room ``ztf_sg``."""
    return module.split(".")[min(1, module.count("."))]


def _imports_of(name, path, modules):
    """Return the modules that one module imports, out of `modules`."""
    parts = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = parts[: len(parts) + 1 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            dotted = {f"{base}.{alias.name}" for alias in node.names}
            found |= {each if each in modules else base for each in dotted}
    return found & set(modules)


def main():
    """Print the drawing, then what is wrong with it."""
    imports = module_imports()
    rooms = room_imports(imports)
    for room in sorted(rooms, key=rank):
        print(f"{room:15s} -> {', '.join(sorted(rooms[room], key=rank)) or 'nothing'}")
    circle = find_circle(imports)
    if circle:
        print("circle:", " imports ".join(reversed(circle)))
    for room, imported in upward_imports(rooms):
        print(f"upwards: {room} imports {imported}")


if __name__ == "__main__":
    main()
