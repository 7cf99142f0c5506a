"""Processors that the control groups of this process let it use.

A group may have a quota of processor time in each period, and a process is held by its own group
and by every group around it. Version 2 says it in `cpu.max`, version 1 in `cpu.cfs_quota_us` and
`cpu.cfs_period_us`; a machine may have both hierarchies at once. Only built-in functions are used:
this runs before the first result.
"""

from __future__ import annotations

from collections.abc import Iterator

_VERSION_1 = "cpu"  # the controller that has the quota


def processor_limit(proc: str = "/proc/self") -> int | None:
    """Whole processors that the quotas around the process allow, at least 1; None: no limit.

    `proc` is the process's folder in /proc. What cannot be read or understood sets no limit.
    """
    quotas = [
        quota
        for mount in _mounts(f"{proc}/mountinfo")
        for group in _groups(f"{proc}/cgroup")
        for folder in _folders(mount, group)
        if (quota := _quota(folder)) is not None
    ]
    return max(1, int(min(quotas))) if quotas else None


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _unescaped(path: str) -> str:
    r"""A path of mountinfo, where a space, tab, newline, backslash is \040, \011, \012, \134."""
    for code, character in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        path = path.replace("\\" + code, character)
    return path


def _mounts(path: str) -> Iterator[tuple[str, str, str]]:
    """Every mounted hierarchy with processor quotas: version ("" for 2), its root, where."""
    for line in _lines(path):
        fields, _, kind = line.partition(" - ")
        words, kinds = fields.split(), kind.split()
        if len(words) < 5 or len(kinds) < 3:
            continue
        version_1 = kinds[0] == "cgroup" and _VERSION_1 in kinds[2].split(",")
        if version_1 or kinds[0] == "cgroup2":
            yield _VERSION_1 if version_1 else "", _unescaped(words[3]), _unescaped(words[4])


def _groups(path: str) -> Iterator[tuple[str, str]]:
    """The groups of the process: version as above, and the path in its hierarchy."""
    for line in _lines(path):
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            yield "", group
        elif _VERSION_1 in controllers.split(","):
            yield _VERSION_1, group


def _folders(mount: tuple[str, str, str], group: tuple[str, str]) -> Iterator[str]:
    """The folders of a group and of all groups around it, as far as they are mounted."""
    (version, root, where), (group_version, path) = mount, group
    if version != group_version:
        return
    inside = _below(path, root)
    parts = [part for part in inside.split("/") if part]
    if ".." in parts:  # a group outside of the namespace: its own folder cannot be seen
        parts = []
    for count in range(len(parts), -1, -1):
        yield "/".join([where.rstrip("/"), *parts[:count]])


def _below(path: str, root: str) -> str:
    """A group's path from the mounted root on; a container may see its own group as the root."""
    if root != "/" and (path == root or path.startswith(root + "/")):
        return path[len(root) :]
    return path if root == "/" else ""


def _quota(folder: str) -> float | None:
    """Processors that the group of this folder may use; None without a limit."""
    words = " ".join(_lines(f"{folder}/cpu.max")).split()
    if not words:
        words = [
            " ".join(_lines(f"{folder}/cpu.cfs_{name}_us")).strip() for name in ("quota", "period")
        ]
    try:
        quota, period = int(words[0]), int(words[1])
    except (ValueError, IndexError):  # "max", or not there
        return None
    return quota / period if quota > 0 and period > 0 else None
