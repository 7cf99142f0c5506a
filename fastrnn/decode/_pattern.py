"""The syntax of regular expressions: from a pattern to a nondeterministic automaton.

Thompson's construction (1968): every part of a pattern has one entry and one exit; edges without
characters join them. Repetitions with counts are written out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

_MAX_COUNT = 1000
_MAX_STATES = 50_000
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_CLASSES: dict[str, Callable[[str], bool]] = {
    "d": str.isdecimal,
    "s": str.isspace,
    "w": lambda c: c.isalnum() or c == "_",
}
_SPECIAL = "\\^$.|?*+()[]{}"

Part = tuple[int, int]  # entry and exit


@dataclass
class Nfa:
    """edges[state]: (characters, target) pairs; jumps[state]: targets without a character."""

    edges: list[list[tuple[frozenset[str], int]]] = field(default_factory=list)
    jumps: list[list[int]] = field(default_factory=list)

    def state(self) -> int:
        if len(self.edges) >= _MAX_STATES:
            raise ValueError(
                f"pattern needs more than {_MAX_STATES} states, expected a smaller one"
            )
        self.edges.append([])
        self.jumps.append([])
        return len(self.edges) - 1


class Parser:
    """Reads a pattern from left to right into an Nfa over the given alphabet."""

    def __init__(self, pattern: str, alphabet: frozenset[str]) -> None:
        self.pattern, self.alphabet = pattern, alphabet
        self.at, self.nfa = 0, Nfa()

    def parse(self) -> Part:
        part = self._alternatives()
        if self.at < len(self.pattern):
            self._refuse("an unmatched )")
        return part

    def _refuse(self, what: str, at: int | None = None) -> NoReturn:
        where = self.at if at is None else at
        raise ValueError(f"pattern has {what} at position {where}: {self.pattern!r}")

    def _peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def _take(self, text: str) -> bool:
        found = self.pattern.startswith(text, self.at)
        self.at += len(text) if found else 0
        return found

    def _alternatives(self) -> Part:
        first = self._sequence()
        if self._peek() != "|":
            return first
        entry, end = self.nfa.state(), self.nfa.state()
        parts = [first]
        while self._take("|"):
            parts.append(self._sequence())
        for inner, outer in parts:
            self.nfa.jumps[entry].append(inner)
            self.nfa.jumps[outer].append(end)
        return entry, end

    def _sequence(self) -> Part:
        entry = end = self.nfa.state()
        while self._peek() not in ("", "|", ")"):
            inner, outer = self._repeated()
            self.nfa.jumps[end].append(inner)
            end = outer
        return entry, end

    def _repeated(self) -> Part:
        start = self.at
        part = self._single()
        counts = self._counts()
        if counts is None:
            return part
        if self._peek() in ("*", "+", "?") or self._looks_like_counts():
            self._refuse(f"{self._peek()!r} after a repetition, which is not supported,")
        low, high = counts
        behind = self.at
        copies = [part]
        for _ in range(max(low, high or 0, 1) - 1):  # parse it again: a copy with states of its own
            self.at = start
            copies.append(self._single())
        self.at = behind
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
        for sign, counts in {"*": (0, None), "+": (1, None), "?": (0, 1)}.items():
            if self._take(sign):
                return counts
        if not self._looks_like_counts():
            if self._peek() == "{":
                self._refuse("'{' that starts no {m}, {m,} or {m,n}")
            return None
        start = self.at
        inside, _, rest = self.pattern[self.at + 1 :].partition("}")
        self.at = len(self.pattern) - len(rest)
        first, comma, second = inside.partition(",")
        low = int(first or 0)
        high = low if not comma else int(second) if second else None
        if max(low, high or 0) > _MAX_COUNT:
            self._refuse(f"a count above {_MAX_COUNT}", start)
        if high is not None and high < low:
            self._refuse(f"{{{inside}}}, whose counts fall,", start)
        return low, high

    def _looks_like_counts(self) -> bool:
        inside, closing, _ = self.pattern[self.at + 1 :].partition("}")
        digits = inside.replace(",", "", 1)
        is_ascii = digits.isascii() and digits.isdecimal()
        return self._peek() == "{" and bool(closing) and is_ascii

    def _single(self) -> Part:
        if self._take("("):
            return self._group()
        if self._peek() in ("*", "+", "?"):
            self._refuse(f"{self._peek()!r} with nothing to repeat")
        if self._peek() in ("^", "$"):
            self._refuse(f"{self._peek()!r}, which is not supported (the whole text is matched),")
        if self._take("["):
            return self._edge(self._class())
        if self._take("."):
            return self._edge(self.alphabet - {"\n"})
        return self._edge(self._character())

    def _group(self) -> Part:
        start = self.at - 1
        if self._peek() == "?" and not self._take("?:"):
            self._refuse("a (?...) group, of which only (?:...) is supported,", start)
        part = self._alternatives()
        if not self._take(")"):
            self._refuse("a ( that is never closed", start)
        return part

    def _edge(self, characters: frozenset[str]) -> Part:
        entry, end = self.nfa.state(), self.nfa.state()
        self.nfa.edges[entry].append((characters & self.alphabet, end))
        return entry, end

    def _character(self) -> frozenset[str]:
        """One character outside of brackets, or an escape."""
        if self._take("\\"):
            return self._escape()
        character = self._peek()
        if character in ("{", "}", "]"):
            self._refuse(f"{character!r}, which must be written \\{character},")
        self.at += 1
        return frozenset(character)

    def _escape(self) -> frozenset[str]:
        name = self._peek()
        self.at += 1
        if name in _ESCAPES:
            return frozenset(_ESCAPES[name])
        if name and name.lower() in _CLASSES:
            inside = frozenset(filter(_CLASSES[name.lower()], self.alphabet))
            return inside if name.islower() else self.alphabet - inside
        if not name or name.isalnum():
            self._refuse(f"the escape \\{name}, which is not supported,", self.at - 2)
        return frozenset(name)

    def _class(self) -> frozenset[str]:
        start, negated = self.at - 1, self._take("^")
        found: frozenset[str] = frozenset()
        is_first = True
        while is_first or self._peek() != "]":
            if self.at >= len(self.pattern):
                self._refuse("a [ that is never closed", start)
            found |= self._range()
            is_first = False
        self.at += 1
        return self.alphabet - found if negated else found

    def _range(self) -> frozenset[str]:
        start, low = self.at, self._member()
        if self._peek() != "-" or self.pattern[self.at + 1 : self.at + 2] in ("", "]"):
            return low
        self.at += 1
        high = self._member()
        if len(low) != 1 or len(high) != 1 or min(low) > min(high):
            self._refuse("a range that does not rise from one character to another", start)
        return frozenset(c for c in self.alphabet if min(low) <= c <= min(high))

    def _member(self) -> frozenset[str]:
        if self._take("\\"):
            return self._escape()
        self.at += 1
        return frozenset(self.pattern[self.at - 1])
