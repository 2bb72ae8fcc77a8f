"""What other packages bring: through entry points, by name; and which packages what is in use comes from."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, packages_distributions, version


def brought(group: str, ours: Collection[str]) -> dict[str, EntryPoint]:
    """The entry points of a group. One whose name is taken, by us or by an earlier one, is left out, and a warning says so."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        if point.name not in ours and found.setdefault(point.name, point) == point:
            continue
        other = "simreal" if point.name in ours else origin(found[point.name])
        says = f"the entry point {point.name!r} of {origin(point)} in {group} is not used: {other} has one of that name"
        warnings.warn(f"{says}; call yours something else", stacklevel=2)
    return found


def versions_of(points: Mapping[str, EntryPoint], names: Iterable[str]) -> dict[str, str]:
    """The versions of the packages that bring some of these names, by package; ours are not among them."""
    found = [points[name].dist for name in names if name in points]
    return {package.name: package.version for package in found if package}


def installed(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those of some packages that are installed, by package."""
    found = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def packages_of(*objects: object) -> tuple[str, ...]:
    """The packages, as pip calls them, that the classes of some objects come from, each once."""
    modules = [type(one).__module__.partition(".")[0] for one in objects]
    return tuple(dict.fromkeys(package for module in modules for package in _distributions().get(module, ())))


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()  # reads the files of all packages


def origin(point: EntryPoint) -> str:
    """The package that has an entry point, and what it names."""
    return f"{point.dist.name if point.dist else 'a package'} ({point.value})"
