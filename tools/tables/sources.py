"""Which code makes a trace: a hash of the source files that a module needs, found by following its imports."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OWN_PACKAGES = ("configs", "lib", "models", "tools")
LIBRARIES = ("numpy", "scipy", "scikit-image", "torch")
"""Packages whose versions count as code, because another version may compute another trace."""


def source_files(modules: Iterable[str]) -> list[Path]:
    """Files of the modules and of all own modules that they import, directly or not, in alphabetical order."""
    found: dict[str, Path] = {}
    pending = list(modules)
    while pending:
        module = pending.pop()
        path = _file(module)
        if module in found or path is None:
            continue
        found[module] = path
        pending += [name for name in _imports(path) if name.split(".")[0] in OWN_PACKAGES]
        # Importing a module runs the packages above it.
        pending += [module.rsplit(".", depth)[0] for depth in range(1, module.count(".") + 1)]
    return sorted(set(found.values()))


def source_hash(modules: Iterable[str], without_imports: Iterable[str] = ()) -> str:
    """SHA-256 of the names and contents of source files.

    Parameters
    ----------
    modules
        Modules that are hashed with all that they import, see :func:`source_files`.
    without_imports
        Modules of which only the file itself is hashed: what they import also draws pictures, which does not change a
        trace.
    """
    digest = hashlib.sha256()
    for path in [*source_files(modules), *filter(None, map(_file, without_imports))]:
        digest.update(f"{path.relative_to(ROOT)}\0".encode())
        digest.update(content_hash(path).encode())
    return digest.hexdigest()


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of all files in a folder (an image can be a folder)."""
    digest = hashlib.sha256()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for part in files:
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def version(package: str) -> str | None:
    """Version of an installed package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _file(module: str) -> Path | None:
    """File of a module or package; None for a name inside a module."""
    path = ROOT.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _imports(path: Path) -> Iterator[str]:
    """Names that a file imports. ``from a import b`` gives both a and a.b, as b may be a module."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
