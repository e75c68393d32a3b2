"""Check the import rule of the package: no circles, and no import from a higher room.

    python tools/import_rule.py

prints the circles and the imports that climb, and exits with 1 if there are any. Every import counts: at the top of a
module, inside a function, and under TYPE_CHECKING. `LEVELS` is the order of the rooms, lowest first; a module may
import from its own level and from lower ones. Not part of the package.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "keras_tagger"

# Lowest first. A module belongs to the longest prefix of its name.
LEVELS: tuple[tuple[str, ...], ...] = (
    ("errors", "files", "metrics", "pickles", "progress", "startup", "tables"),
    (
        "config",
        "audio",
        "interchange",
        "explain.methods",
        "export.layout",
        "views.drawing",
        "views.pages",
        "views.player",
        "views.spectra",
    ),
    ("tags", "heatmap"),
    ("attention",),
    ("data", "layers", "client", "library", "runtimes", "serving"),
    ("models",),
    ("storage", "explain", "export"),
    ("views",),
    ("tagger",),
    ("evaluation", "teachers"),
    ("train",),
    ("", "keras_registration"),
    ("catalog",),
    ("cli",),
    ("__main__",),
)


def modules(package: Path) -> dict[str, Path]:
    """Find the modules of a package by their names within it; "" is the package itself."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(module: str, path: Path, known: Mapping[str, Path], package: str) -> Iterator[tuple[str, int]]:
    """Find the modules of the package that a module imports, each with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            # `from package.room import module` imports the module; `from package.room import name` the room.
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name.partition(".")[2] in known else node.module for name in below]
        for name in names:
            root, _, inner = name.partition(".")
            if root == package and inner in known and inner != module:
                yield inner, node.lineno


def level(module: str) -> int:
    """Return the index of a module's level in `LEVELS`."""
    places = [
        (len(room), index)
        for index, rooms in enumerate(LEVELS)
        for room in rooms
        if module == room or (room and module.startswith(f"{room}."))
    ]
    if not places:
        raise ValueError(f"expected a room of LEVELS. Received: {module!r}.")
    return max(places)[1]


def graph(package: Path = PACKAGE) -> dict[str, dict[str, int]]:
    """Map every module to the modules that it imports, each with the line of the first import."""
    known = modules(package)
    found: dict[str, dict[str, int]] = {name: {} for name in known}
    for name, path in known.items():
        for other, line in imports(name, path, known, package.name):
            found[name].setdefault(other, line)
    return found


def circles(edges: Mapping[str, Mapping[str, int]]) -> list[list[str]]:
    """Find the sets of modules that import each other, directly or indirectly (Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in edges[node]:
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            members = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(members) > 1:
                found.append(sorted(members))

    for node in edges:
        if node not in order:
            visit(node)
    return found


def room_of(module: str) -> str:
    """Return the longest prefix of the module in `LEVELS`."""
    rooms = [room for rooms in LEVELS for room in rooms if module == room or (room and module.startswith(f"{room}."))]
    return max(rooms, key=len)


def room_circles(edges: Mapping[str, Mapping[str, int]]) -> list[list[str]]:
    """Find the sets of rooms that import each other."""
    rooms: dict[str, dict[str, int]] = {room_of(module): {} for module in edges}
    for module, others in edges.items():
        for other, line in others.items():
            if room_of(other) != room_of(module):
                rooms[room_of(module)].setdefault(room_of(other), line)
    return circles(rooms)


def climbing(edges: Mapping[str, Mapping[str, int]]) -> list[str]:
    """List the imports from a higher level."""
    return [
        f"{module or 'keras_tagger'}:{line} imports {other}"
        for module, others in edges.items()
        for other, line in others.items()
        if level(other) > level(module)
    ]


def main() -> int:
    """Print what breaks the rule, and return the exit status."""
    edges = graph()
    found = {
        "circles of modules": [" <-> ".join(circle) for circle in circles(edges)],
        "circles of rooms": [" <-> ".join(circle) for circle in room_circles(edges)],
        "imports that climb": climbing(edges),
    }
    print(f"{len(edges)} modules, {sum(map(len, edges.values()))} imports")
    for title, lines in found.items():
        print(f"{title}: {len(lines)}")
        for line in lines:
            print(f"  {line}")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
