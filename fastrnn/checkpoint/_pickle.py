"""A pickle reader that cannot run code.

A pickle is a program for a stack machine. This file interprets the part of that machine which
describes data: constants, containers, the memo, and calls of the names listed in `_globals.py`.
Every other instruction ends the reading with a CheckpointError. Sizes, the number of
instructions and the depth of the stack are bounded, so that a hostile file costs little. The
format's source is the instruction list in Python's `pickletools`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from ._errors import CheckpointError
from ._globals import find_global
from ._objects import Dtype, Global, Opaque, Storage, TensorRecord, storage_from
from ._reader import Reader, text_of

__all__ = ["load_pickle"]

MAX_OPS = 10_000_000
MAX_STACK = 1_000_000
MAX_MARKS = 10_000
MAX_MEMO = 5_000_000
MAX_INT_BYTES = 255


def load_pickle(reader: Reader, storages: dict[str, Storage] | None = None) -> object:
    """The object of the pickle at the reader's position; built of inert records only.

    Every storage that the pickle names is added to `storages`, also of tensors it drops.
    """
    return _Machine(reader, {} if storages is None else storages).run()


def _key(value: object) -> object:
    """`value` if its hash is cheap and honest, else a stand-in that equals nothing."""
    if value is None or isinstance(value, (str, bool, float, bytes, Opaque)):
        return value
    if isinstance(value, int) and -(1 << 60) < value < 1 << 60:
        return value
    return Opaque("a key that is no plain value")


class _Machine:
    """The stack machine; `run` ends at the STOP instruction."""

    def __init__(self, reader: Reader, storages: dict[str, Storage]) -> None:
        self.reader = reader
        self.storages = storages
        self.stack: list[object] = []
        self.outer: list[list[object]] = []  # the stacks below each mark
        self.memo: dict[int, object] = {}

    def run(self) -> object:
        take = self.reader.take
        for _ in range(MAX_OPS):
            code = take(1)[0]
            if code == 0x2E:  # STOP
                return self.pop()
            action = _ACTIONS.get(code)
            if action is None:
                raise CheckpointError(f"the pickle instruction 0x{code:02x} is not allowed here")
            action(self)
            if len(self.stack) > MAX_STACK:
                raise CheckpointError(f"the pickle's stack grew beyond {MAX_STACK} objects")
        raise CheckpointError(f"the pickle has more than {MAX_OPS} instructions")

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> object:
        if not self.stack:
            raise CheckpointError("the pickle takes from an empty stack")
        return self.stack.pop()

    def top(self) -> object:
        if not self.stack:
            raise CheckpointError("the pickle looks at an empty stack")
        return self.stack[-1]

    def mark(self) -> None:
        if len(self.outer) >= MAX_MARKS:
            raise CheckpointError(f"the pickle nests deeper than {MAX_MARKS} levels")
        self.outer.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[object]:
        if not self.outer:
            raise CheckpointError("the pickle closes a mark that was never set")
        items, self.stack = self.stack, self.outer.pop()
        return items

    def protocol(self) -> None:
        version = self.reader.number(1)
        if version > 5:
            raise CheckpointError(f"pickle protocol {version}, expected at most 5")

    def sized(self, width: int) -> bytes:
        return self.reader.take(self.reader.number(width))

    def long(self, width: int) -> None:
        count = self.reader.number(width)
        if count > MAX_INT_BYTES:
            raise CheckpointError(f"an integer of {count} bytes, expected at most {MAX_INT_BYTES}")
        self.push(self.reader.number(count, signed=True))

    def double(self) -> None:
        self.push(struct.unpack(">d", self.reader.take(8))[0])

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise CheckpointError("the pickle takes from an empty stack")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.push(items)

    def extend(self, items: list[object]) -> None:
        target = self.top()
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise CheckpointError("the pickle appends to an object that is no list")

    def append_one(self) -> None:
        item = self.pop()
        self.extend([item])

    def update(self, items: list[object]) -> None:
        if len(items) % 2:
            raise CheckpointError("a dictionary in the pickle has a key without a value")
        target = self.top()
        if isinstance(target, dict):
            target.update(zip(map(_key, items[::2]), items[1::2], strict=True))
        elif not isinstance(target, Opaque):
            raise CheckpointError("the pickle sets items of an object that is no dictionary")

    def set_one(self) -> None:
        value, key = self.pop(), self.pop()
        self.update([key, value])

    def new_dict(self) -> None:
        items = self.since_mark()
        self.push({})
        self.update(items)

    def new_set(self) -> None:
        self.since_mark()
        self.push(Opaque("frozenset"))

    def remember(self, index: int) -> None:
        if len(self.memo) >= MAX_MEMO:
            raise CheckpointError(f"the pickle remembers more than {MAX_MEMO} objects")
        self.memo[index] = self.top()

    def recall(self, width: int) -> None:
        index = self.reader.number(width)
        if index not in self.memo:
            raise CheckpointError(f"the pickle recalls object {index}, which it never stored")
        self.push(self.memo[index])

    def named(self) -> None:
        module = self.reader.line()
        self.push(find_global(module, self.reader.line()))

    def named_on_stack(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise CheckpointError("a name in the pickle that is no string")
        self.push(find_global(module, name))

    def call(self, extra: int = 0) -> None:
        """REDUCE, NEWOBJ and, with one more operand, NEWOBJ_EX."""
        for _ in range(extra):
            self.pop()
        arguments, function = self.pop(), self.pop()
        if isinstance(function, (Opaque, Dtype)):
            self.push(Opaque("an object made by an object that is no tensor"))
            return
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise CheckpointError("the pickle calls something that is no listed name")
        self.push(function.build(arguments))

    def build(self) -> None:
        """BUILD: attributes of an object, which are always dropped."""
        self.pop()
        if not isinstance(self.top(), (dict, Opaque, TensorRecord)):
            raise CheckpointError("the pickle sets the state of an object that has none")

    def persistent(self) -> None:
        storage = storage_from(self.pop())
        self.storages[storage.key] = storage
        self.push(storage)


_ACTIONS: dict[int, Callable[[_Machine], object]] = {
    0x80: _Machine.protocol,  # PROTO
    0x95: lambda m: m.reader.take(8),  # FRAME: only a hint for buffering
    ord("("): _Machine.mark,
    ord("0"): _Machine.pop,
    ord("1"): _Machine.since_mark,  # POP_MARK
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("J"): lambda m: m.push(m.reader.number(4, signed=True)),  # BININT
    ord("K"): lambda m: m.push(m.reader.number(1)),  # BININT1
    ord("M"): lambda m: m.push(m.reader.number(2)),  # BININT2
    0x8A: lambda m: m.long(1),  # LONG1
    0x8B: lambda m: m.long(4),  # LONG4
    ord("G"): _Machine.double,  # BINFLOAT
    ord("U"): lambda m: m.push(text_of(m.sized(1))),  # SHORT_BINSTRING, from Python 2
    ord("T"): lambda m: m.push(text_of(m.sized(4))),  # BINSTRING, from Python 2
    ord("C"): lambda m: m.push(m.sized(1)),  # SHORT_BINBYTES
    ord("B"): lambda m: m.push(m.sized(4)),  # BINBYTES
    0x8E: lambda m: m.push(m.sized(8)),  # BINBYTES8
    0x96: lambda m: m.push(m.sized(8)),  # BYTEARRAY8
    0x8C: lambda m: m.push(text_of(m.sized(1))),  # SHORT_BINUNICODE
    ord("X"): lambda m: m.push(text_of(m.sized(4))),  # BINUNICODE
    0x8D: lambda m: m.push(text_of(m.sized(8))),  # BINUNICODE8
    ord("]"): lambda m: m.push([]),
    ord("a"): _Machine.append_one,  # APPEND
    ord("e"): lambda m: m.extend(m.since_mark()),  # APPENDS
    ord("l"): lambda m: m.push(m.since_mark()),  # LIST
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push(tuple(m.since_mark())),  # TUPLE
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    ord("}"): lambda m: m.push({}),
    ord("d"): _Machine.new_dict,  # DICT
    ord("s"): _Machine.set_one,  # SETITEM
    ord("u"): lambda m: m.update(m.since_mark()),  # SETITEMS
    0x8F: lambda m: m.push(Opaque("set")),  # EMPTY_SET
    0x90: lambda m: m.extend(m.since_mark()),  # ADDITEMS
    0x91: _Machine.new_set,  # FROZENSET
    ord("h"): lambda m: m.recall(1),  # BINGET
    ord("j"): lambda m: m.recall(4),  # LONG_BINGET
    ord("q"): lambda m: m.remember(m.reader.number(1)),  # BINPUT
    ord("r"): lambda m: m.remember(m.reader.number(4)),  # LONG_BINPUT
    0x94: lambda m: m.remember(len(m.memo)),  # MEMOIZE
    ord("c"): _Machine.named,  # GLOBAL
    0x93: _Machine.named_on_stack,  # STACK_GLOBAL
    ord("R"): _Machine.call,  # REDUCE
    0x81: _Machine.call,  # NEWOBJ
    0x92: lambda m: m.call(extra=1),  # NEWOBJ_EX
    ord("b"): _Machine.build,  # BUILD
    ord("Q"): _Machine.persistent,  # BINPERSID
}
