"""The source tree as graphs: which module imports which, which C file includes or calls which."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from paths import CORE, ROOT

PACKAGE = ROOT / "fastrnn"
Graph = dict[str, dict[str, int]]  # from each node to others, with the line


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """The modules below a package's folder by their full name, its extensions among them."""
    found = {}
    for path in sorted([*package.rglob("*.py"), *package.rglob("*.pyx")]):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        found[".".join(parts[:-1] if path.name == "__init__.py" else parts)] = path
    return found


@cache
def nodes(path: Path) -> list[ast.AST]:
    """All nodes of a Python file, the module first."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def _statements(path: Path) -> Iterator[ast.AST]:
    """Every node of a module's code; of an extension's, with what it includes, the imports."""
    if path.suffix != ".pyx":
        yield from nodes(path)
        return
    texts = [file.read_text(encoding="utf-8") for file in (path, *path.parent.rglob("*.pxi"))]
    imports = r"^[ \t]*((?:from [\w.]+ )?import (?:\([^)]*\)|[^\n(]*))"
    found = (line for text in texts for line in re.findall(imports, text, re.MULTILINE))
    yield from ast.walk(ast.parse("\n".join(found)))


def _targets(node: ast.AST, package: str) -> Iterator[tuple[str, str]]:
    """Every module that a statement may import, and what is taken from it ("" for itself)."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, "") for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        yield from ((base, alias.name) for alias in node.names)
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        function = ast.unparse(node.func).rpartition(".")[2]
        if function in ("import_module", "__import__"):
            yield str(node.args[0].value), ""


@cache
def imports(package: Path = PACKAGE) -> Graph:
    """Imports of each module from its package: at the top, inside functions and for types.

    A module that is imported brings the packages around it, but for those that the importing one is
    in itself. Those count only if a name is taken from them that is no module.
    """
    known, graph = modules(package), {}
    for name, path in known.items():
        around = name if path.name == "__init__.py" else name.rpartition(".")[0]
        lines: dict[str, int] = {}
        for node in _statements(path):
            for base, taken in _targets(node, around):
                target = f"{base}.{taken}" if f"{base}.{taken}" in known else base
                parts = target.split(".")
                brought = [".".join(parts[:n]) for n in range(1, len(parts))]
                for other in [target, *(b for b in brought if not f"{name}.".startswith(f"{b}."))]:
                    if other in known and other != name:
                        lines.setdefault(other, getattr(node, "lineno", 0))
        graph[name] = lines
    return graph


def without_comments(text: str) -> str:
    """C without its comments, on the same lines."""
    comment = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
    return comment.sub(lambda found: "\n" * found[0].count("\n"), text)


@cache
def sources(*folders: str) -> dict[str, str]:
    """The C files below src_c by their path there, comments removed."""
    files = [path for folder in folders for path in sorted((CORE / folder).rglob("*.*"))]
    return {
        str(path.relative_to(CORE)): without_comments(path.read_text(encoding="utf-8"))
        for path in files
        if path.suffix in (".c", ".h", ".inc", ".def")
    }


@cache
def includes() -> Graph:
    """Files of the core that each file includes, by their paths below src_c."""
    graph: Graph = {}
    for name, text in sources(".").items():
        lines = graph.setdefault(name, {})
        for number, line in enumerate(text.splitlines(), 1):
            if found := re.match(r'\s*#\s*include\s*"(.*)"', line):
                target = (CORE / name).parent.joinpath(found[1]).resolve()
                lines[str(target.relative_to(CORE))] = number
    return graph


@cache
def calls() -> Graph:
    """Other .c files whose functions each .c file names, and the first line that does."""
    texts = {name: text for name, text in sources(".").items() if name.endswith(".c")}
    definition = re.compile(r"^(?!static\b)\w[\w *]*?\b(fr_\w+)\([^;{}]*\)\s*\{", re.MULTILINE)
    home = {word: name for name, text in texts.items() for word in definition.findall(text)}
    graph: Graph = {}
    for name, text in texts.items():
        lines = graph.setdefault(name, {})
        for number, line in enumerate(text.splitlines(), 1):
            for word in re.findall(r"\bfr_\w+", line):
                if home.get(word, name) != name:
                    lines.setdefault(home[word], number)
    return graph


def circles(graph: Graph) -> list[list[str]]:
    """Nodes that reach themselves, together with those that they reach there and back."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        ahead = [start]
        while ahead:
            new = graph.get(ahead.pop(), {}).keys() - seen
            seen |= new
            ahead += new
        return seen

    reach = {node: reached(node) for node in graph}
    tied = {frozenset(b for b in reach[a] if a in reach.get(b, ())) for a in graph if a in reach[a]}
    return sorted(sorted(circle) for circle in tied)


def ties(graph: Graph, circle: Iterable[str]) -> str:
    """The edges that tie a circle, a line each."""
    circle = list(circle)
    lines = [f"{a}:{graph[a][b]} -> {b}" for a in circle for b in sorted(graph[a]) if b in circle]
    return "\n".join([f"circle of {len(circle)}:", *lines])
