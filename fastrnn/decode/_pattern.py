"""The syntax of regular expressions: from a pattern to a nondeterministic automaton.

Thompson's construction (1968): every part of a pattern has one entry and one exit; edges without
characters join them. Repetitions with counts are written out. The pattern is read once, from left
to right; groups that are open wait in a list, so that their depth is bounded by memory alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NoReturn

from fastrnn.decode._charsets import Charset, charset, complement, named

MAX_COUNT = 1000
MAX_STATES = 50_000  # of the nondeterministic automaton
MAX_WORK = 5_000_000  # sets, states and arrows looked at from a pattern to its automaton: seconds
_SHOWN = 60  # characters of a pattern in an error
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_SIGNS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_COUNTS = re.compile(r"\{(?=[0-9,]*[0-9])([0-9]*)(,?)([0-9]*)\}")
_LINE_END: Charset = ((10, 10),)

Part = tuple[int, int]  # entry and exit


class Budget:
    """The budget of a pattern, beyond which it is refused."""

    def __init__(self) -> None:
        self._left = MAX_WORK

    def spend(self, steps: int) -> None:
        """Take note of so many steps; ValueError where there were too many."""
        self._left -= steps
        if self._left < 0:
            raise ValueError(
                f"pattern takes more than {MAX_WORK} steps to compile, expected a smaller one, "
                f"such as fewer or lower counts"
            )


@dataclass
class Nfa:
    """edges[state]: a set of characters, by its number, and the target; jumps: without any."""

    sets: dict[Charset, int] = field(default_factory=dict)
    edges: list[tuple[int, int] | None] = field(default_factory=list)
    jumps: list[list[int]] = field(default_factory=list)

    def state(self) -> int:
        self.check(1)
        self.edges.append(None)
        self.jumps.append([])
        return len(self.edges) - 1

    def check(self, more: int) -> None:
        """ValueError unless so many more states fit."""
        if len(self.edges) + more > MAX_STATES:
            raise ValueError(f"pattern needs more than {MAX_STATES} states, expected a smaller one")

    def edge(self, characters: Charset) -> Part:
        entry, end = self.state(), self.state()
        self.edges[entry] = self.sets.setdefault(characters, len(self.sets)), end
        return entry, end

    def copy(self, first: int, last: int) -> int:
        """The states from `first` to before `last` once more; returns how far they are away."""
        by = len(self.edges) - first
        self.edges += [e if e is None else (e[0], e[1] + by) for e in self.edges[first:last]]
        self.jumps += [[target + by for target in found] for found in self.jumps[first:last]]
        return by


@dataclass
class _Group:
    """A group that is still open: where it starts, its alternatives and the last one's exit."""

    at: int
    first: int  # of its states
    alternatives: list[Part]


class Parser:
    """Reads a pattern into an Nfa."""

    def __init__(self, pattern: str, budget: Budget) -> None:
        self.pattern, self.at = pattern, 0
        self.nfa, self.budget = Nfa(), budget

    def parse(self) -> Part:
        """The whole pattern, a group that is closed by its end."""
        groups = [self._open(-1)]
        while self.at < len(self.pattern):
            if self._take("("):
                groups.append(self._open(self.at - 1))
            elif self._take("|"):
                groups[-1].alternatives.append(self._empty())
            elif self._peek() == ")":
                if len(groups) == 1:
                    self._refuse("an unmatched )")
                self.at += 1
                group = groups.pop()
                self._append(groups[-1], self._closed(group), group.first)
            else:
                first = len(self.nfa.edges)
                self._append(groups[-1], self._single(), first)
        if len(groups) > 1:
            self._refuse("a ( that is never closed", groups[-1].at)
        return self._closed(groups[0])

    def _refuse(self, what: str, at: int | None = None) -> NoReturn:
        where = self.at if at is None else at
        raise ValueError(f"pattern has {what} at position {where}: {shown(self.pattern, where)}")

    def _peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def _take(self, text: str) -> bool:
        found = self.pattern.startswith(text, self.at)
        self.at += len(text) if found else 0
        return found

    def _empty(self) -> Part:
        state = self.nfa.state()
        return state, state

    def _open(self, at: int) -> _Group:
        if at >= 0 and self._peek() == "?" and not self._take("?:"):
            self._refuse("a (?...) group, of which only (?:...) is supported,", at)
        first = len(self.nfa.edges)
        return _Group(at, first, [self._empty()])

    def _closed(self, group: _Group) -> Part:
        if len(group.alternatives) == 1:
            return group.alternatives[0]
        entry, end = self.nfa.state(), self.nfa.state()
        for inner, outer in group.alternatives:
            self.nfa.jumps[entry].append(inner)
            self.nfa.jumps[outer].append(end)
        return entry, end

    def _append(self, group: _Group, part: Part, first: int) -> None:
        """Put a part, with the repetition behind it, at the end of the last alternative."""
        entry, end = group.alternatives[-1]
        inner, outer = self._repeated(part, first)
        self.nfa.jumps[end].append(inner)
        group.alternatives[-1] = entry, outer

    def _repeated(self, part: Part, first: int) -> Part:
        counts = self._counts()
        if counts is None:
            return part
        if self._peek() in ("*", "+", "?") or _COUNTS.match(self.pattern, self.at):
            self._refuse(f"{self._peek()!r} after a repetition, which is not supported,")
        low, high = counts
        more, last = max(low, high or 0, 1) - 1, len(self.nfa.edges)
        self.nfa.check(more * (last - first))
        copies = [part]
        for _ in range(more):
            by = self.nfa.copy(first, last)
            copies.append((part[0] + by, part[1] + by))
        return self._joined(copies, low, high)

    def _joined(self, copies: list[Part], low: int, high: int | None) -> Part:
        """`low` copies one after the other, then optional ones; the last loops without a limit."""
        jumps = self.nfa.jumps
        entry, end = self.nfa.state(), self.nfa.state()
        before = entry
        for i, (inner, outer) in enumerate(copies):
            if i >= low:
                jumps[before].append(end)
            if high != 0:
                jumps[before].append(inner)
            before = outer
        if high is None:
            jumps[before].append(copies[-1][0])
        jumps[before].append(end)
        return entry, end

    def _counts(self) -> tuple[int, int | None] | None:
        """The repetition of what stands before, (least, most), or None if nothing says so."""
        sign = self._peek()
        if sign in _SIGNS:
            self.at += 1
            return _SIGNS[sign]
        found = _COUNTS.match(self.pattern, self.at)
        if found is None:
            if sign == "{":
                self._refuse("'{' that starts no {m}, {m,} or {m,n}")
            return None
        low, high = self._count(found[1]) or 0, self._count(found[3])
        if not found[2]:
            high = low
        if high is not None and high < low:
            self._refuse(f"{{{low},{high}}}, whose counts fall,")
        self.at = found.end()
        return low, high

    def _count(self, digits: str) -> int | None:
        digits = digits.lstrip("0") or digits[:1]
        if len(digits) > len(str(MAX_COUNT)) or int(digits or 0) > MAX_COUNT:
            self._refuse(f"a count above {MAX_COUNT}")
        return int(digits) if digits else None

    def _single(self) -> Part:
        if self._peek() in ("*", "+", "?"):
            self._refuse(f"{self._peek()!r} with nothing to repeat")
        if self._peek() in ("^", "$"):
            self._refuse(f"{self._peek()!r}, which is not supported (the whole text is matched),")
        if self._take("["):
            return self.nfa.edge(self._class())
        if self._take("."):
            return self.nfa.edge(complement(_LINE_END))
        return self.nfa.edge(self._character())

    def _character(self) -> Charset:
        """One character outside of brackets, or an escape."""
        if self._take("\\"):
            return self._escape()
        character = self._peek()
        if character in ("{", "}", "]"):
            self._refuse(f"{character!r}, which must be written \\{character},")
        self.at += 1
        return _one(character)

    def _escape(self) -> Charset:
        name = self._peek()
        self.at += 1
        if name in _ESCAPES:
            return _one(_ESCAPES[name])
        inside = named(name) if name else None
        if inside is not None:
            self.budget.spend(len(inside))
            return inside
        if not name or name.isalnum():
            self._refuse(f"the escape \\{name}, which is not supported,", self.at - 2)
        return _one(name)

    def _class(self) -> Charset:
        start, negated = self.at - 1, self._take("^")
        found: list[Charset] = []
        while not found or self._peek() != "]":
            if self.at >= len(self.pattern):
                self._refuse("a [ that is never closed", start)
            found.append(self._range())
        self.at += 1
        inside = charset(part for ranges in found for part in ranges)
        return complement(inside) if negated else inside

    def _range(self) -> Charset:
        start, low = self.at, self._member()
        if self._peek() != "-" or self.pattern[self.at + 1 : self.at + 2] in ("", "]"):
            return low
        self.at += 1
        high = self._member()
        if not (_is_one(low) and _is_one(high) and low <= high):
            self._refuse("a range that does not rise from one character to another", start)
        return ((low[0][0], high[0][1]),)

    def _member(self) -> Charset:
        if self._take("\\"):
            return self._escape()
        self.at += 1
        return _one(self.pattern[self.at - 1])


def shown(pattern: str, at: int = 0) -> str:
    """The pattern in an error, or the part of a long one that position `at` is in."""
    if len(pattern) <= _SHOWN:
        return repr(pattern)
    start = max(0, min(at, len(pattern)) - _SHOWN // 2)
    end = start + _SHOWN
    before, behind = "..." if start else "", "..." if end < len(pattern) else ""
    return f"{before}{pattern[start:end]!r}{behind}"


def _one(character: str) -> Charset:
    return ((ord(character), ord(character)),)


def _is_one(characters: Charset) -> bool:
    return len(characters) == 1 and characters[0][0] == characters[0][1]
