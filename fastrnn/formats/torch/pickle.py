"""A pickle reader that cannot run code.

A pickle is a program for a stack machine. This file interprets that machine, of protocols 0 to 5
and of Python 2, without ever importing a name: names are looked up in the table of `globals.py`,
and what is not in it becomes a Bag, an inert record of what the pickle said about it. Sizes, the
number of instructions and the depth of the stack are bounded, and so is what calls may copy: time
and memory are at most some hundred times the pickle's bytes. The format's source is the
instruction list in Python's `pickletools`.
"""

from __future__ import annotations

import codecs
import io
import struct
from collections.abc import Callable
from dataclasses import replace

from fastrnn._errors import safe
from fastrnn.formats.errors import CheckpointError
from fastrnn.formats.torch.globals import as_key, find_global
from fastrnn.formats.torch.ndarrays import ArrayRecord, NumpyType
from fastrnn.formats.torch.objects import Bag, Dtype, Name, Storage, TensorRecord, storage_from
from fastrnn.formats.torch.reader import Reader, bytes_of, python2_text, text_of, unescaped

__all__ = ["Pickle", "load_pickle", "read_pickle"]

MAX_OPS = 1 << 28
MAX_STACK = 1_000_000
MAX_MARKS = 10_000
MAX_MEMO = 1 << 26
MAX_INT_BYTES = 255
MAX_DIGITS = 620  # of an integer written as text: as many as MAX_INT_BYTES hold
COPIES = 16  # bytes that calls may copy, as a multiple of the bytes read so far

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LOAD_BYTES = "torch.storage._load_from_bytes"


class Pickle:
    """Content of one pickle: its object, and the storages and names in it.

    `storages` also has those of tensors that the pickle drops; `names` are the classes and
    functions in it that are no part of a tensor.
    """

    def __init__(self, root: object, storages: dict[str, Storage], names: list[str], size: int):
        self.root = root
        self.storages = storages
        self.names = names
        self.size = size


def read_pickle(reader: Reader) -> Pickle:
    """The pickle at the reader's position, as inert records."""
    machine, start = _Machine(reader), reader.position
    root = machine.run()
    foreign = (n.full for n in machine.names.values() if isinstance(n, Name) and not n.is_part)
    return Pickle(root, machine.storages, list(dict.fromkeys(foreign)), reader.position - start)


def load_pickle(reader: Reader) -> object:
    """The object of the pickle at the reader's position alone."""
    return _Machine(reader).run()


class _Machine:
    """The stack machine; `run` ends at the STOP instruction."""

    def __init__(self, reader: Reader, *, is_inner: bool = False) -> None:
        self.reader = reader
        self.start = reader.position
        self.is_inner = is_inner
        self.storages: dict[str, Storage] = {}
        self.names: dict[tuple[str, str], object] = {}
        self.stack: list[object] = []
        self.outer: list[list[object]] = []  # the stacks below each mark
        self.memo: dict[int, object] = {}
        self.copied = 0

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
        elif isinstance(target, Bag):
            target.items = [] if target.items is None else target.items
            target.items.extend(items)
        else:
            raise CheckpointError("the pickle appends to an object that is no list")

    def append_one(self) -> None:
        item = self.pop()
        self.extend([item])

    def update(self, items: list[object]) -> None:
        if len(items) % 2:
            raise CheckpointError("a dictionary in the pickle has a key without a value")
        target = self.top()
        if isinstance(target, Bag):
            target.entries = {} if target.entries is None else target.entries
            target = target.entries
        if not isinstance(target, dict):
            raise CheckpointError("the pickle sets items of an object that is no dictionary")
        target.update(zip(map(as_key, items[::2]), items[1::2], strict=True))

    def set_one(self) -> None:
        value, key = self.pop(), self.pop()
        self.update([key, value])

    def new_dict(self) -> None:
        items = self.since_mark()
        self.push({})
        self.update(items)

    def remember(self, index: int) -> None:
        if len(self.memo) >= MAX_MEMO:
            raise CheckpointError(f"the pickle remembers more than {MAX_MEMO} objects")
        self.memo[index] = self.top()

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise CheckpointError(f"the pickle recalls object {index}, which it never stored")
        self.push(self.memo[index])

    def name(self, module: str, name: str) -> object:
        """The record of a name; the same one each time."""
        key = module, name
        if key not in self.names:
            self.names[key] = find_global(module, name)
        return self.names[key]

    def named(self) -> object:
        module = text_of(self.reader.line())
        return self.name(module, text_of(self.reader.line()))

    def named_on_stack(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise CheckpointError("a name in the pickle that is no string")
        self.push(self.name(module, name))

    def extension(self, width: int) -> None:
        """EXT: a number that stands for a name in a registry of the program that wrote it."""
        self.push(self.name("copyreg", f"extension {self.reader.number(width)}"))

    def call(self) -> None:
        """REDUCE, NEWOBJ."""
        arguments, function = self.pop(), self.pop()
        if not isinstance(arguments, tuple):
            raise CheckpointError("the pickle calls something with arguments that are no tuple")
        self.push(self.result(function, arguments))

    def call_with_keywords(self) -> None:
        """NEWOBJ_EX: the keywords are kept as the last argument."""
        keywords, arguments, function = self.pop(), self.pop(), self.pop()
        if not isinstance(arguments, tuple):
            raise CheckpointError("the pickle calls something with arguments that are no tuple")
        self.push(self.result(function, (*arguments, keywords) if keywords else arguments))

    def call_since_mark(self) -> None:
        """OBJ: a class and its arguments."""
        items = self.since_mark()
        if not items:
            raise CheckpointError("the pickle makes an object of no class")
        self.push(self.result(items[0], tuple(items[1:])))

    def instance(self) -> None:
        """INST: as OBJ, the class by its name."""
        function = self.named()
        self.push(self.result(function, tuple(self.since_mark())))

    def result(self, function: object, arguments: tuple[object, ...]) -> object:
        """Result of a call; for a name that is not listed, a record of the call."""
        if isinstance(function, (Bag, Dtype)):
            what = f"the result of {safe(function.outline(0), 200)}"
            return Bag(what, (function, *arguments))
        if not isinstance(function, Name):
            raise CheckpointError("the pickle calls something that is no name")
        if function.build is None and function.full != _LOAD_BYTES:
            return function.call(arguments)
        self.charge(arguments)
        return self.stored(arguments) if function.build is None else function.call(arguments)

    def charge(self, parts: tuple[object, ...]) -> None:
        """Count what is about to be copied: a pickle can repeat a large argument in two bytes."""
        self.copied += sum(len(part) for part in parts if isinstance(part, _SIZED))
        if self.copied > 1000 + COPIES * (self.reader.position - self.start):
            raise CheckpointError("the pickle copies the same data again and again")

    def stored(self, arguments: tuple[object, ...]) -> object:
        """`_load_from_bytes(file)`: a storage that was pickled alone, as a legacy file in bytes."""
        content = bytes_of(arguments[0]) if len(arguments) == 1 else None
        if content is None or self.is_inner:
            return Bag(_LOAD_BYTES, arguments)
        found = _packed_storage(bytes(content), f"in the pickle, {len(self.storages)}")
        self.storages[found.key] = found
        return found

    def build(self) -> None:
        """BUILD: the state of an object; kept where it is inert, else dropped."""
        state, target = self.pop(), self.top()
        if isinstance(target, (NumpyType, ArrayRecord)):
            self.charge(state if isinstance(state, tuple) else ())
            target.set_state(state)
        elif isinstance(target, Bag):
            target.state = state
        elif not isinstance(target, (dict, TensorRecord, Name, Storage)):
            raise CheckpointError("the pickle sets the state of an object that has none")

    def persistent(self) -> None:
        pid = self.pop()
        if isinstance(pid, tuple) and len(pid) > 1 and pid[0] == "module":
            self.push(pid[1])  # a class with its source text, from PyTorch before 1.6
            return
        storage = storage_from(pid)
        self.storages[storage.key] = storage
        self.push(storage)

    def integer_text(self) -> None:
        """INT: digits, or the truth values of protocol 0."""
        line = self.reader.line()
        self.push(line == b"01" if line in (b"00", b"01") else _number(line))

    def float_text(self) -> None:
        line = self.reader.line()
        try:
            self.push(float(line))
        except ValueError:
            raise _no_number(line) from None

    def unicode_text(self) -> None:
        try:
            self.push(codecs.raw_unicode_escape_decode(self.reader.long_line())[0])
        except UnicodeDecodeError:
            raise CheckpointError("a text in the pickle with a broken escape") from None


_SIZED = (list, tuple, dict, str, bytes)


def _number(line: bytes) -> int:
    """An integer of a text instruction."""
    line = line[:-1] if line[-1:] == b"L" else line
    digits = line[1:] if line[:1] in (b"-", b"+") else line
    if len(digits) > MAX_DIGITS:
        raise CheckpointError(f"an integer of {len(digits)} digits, expected at most {MAX_DIGITS}")
    if not digits.isdigit():
        raise _no_number(line)
    return int(line)


def _no_number(line: bytes) -> CheckpointError:
    return CheckpointError(f"{safe(text_of(line), 40)!r} in the pickle, expected a number")


def _packed_storage(content: bytes, key: str) -> Storage:
    """The storage in the bytes of a legacy file that holds nothing else."""
    reader = Reader(io.BytesIO(content), len(content))
    if _inside(reader) != LEGACY_MAGIC:
        raise CheckpointError("a storage in the pickle that is no PyTorch file")
    for _ in range(2):  # the protocol, facts about the system
        _inside(reader)
    found = _inside(reader)
    _inside(reader)  # the keys of the storages, here one
    if not isinstance(found, Storage):
        raise CheckpointError("a storage in the pickle that is none")
    reader.take(8)  # the number of elements
    data = memoryview(content)[reader.position :]
    return replace(found, key=key, data=data)


def _inside(reader: Reader) -> object:
    """As `load_pickle`, where no storage may hold another file."""
    return _Machine(reader, is_inner=True).run()


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
    ord("U"): lambda m: m.push(python2_text(m.sized(1))),  # SHORT_BINSTRING, from Python 2
    ord("T"): lambda m: m.push(python2_text(m.sized(4))),  # BINSTRING, from Python 2
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
    0x8F: lambda m: m.push(Bag("builtins.set")),  # EMPTY_SET
    0x90: lambda m: m.extend(m.since_mark()),  # ADDITEMS
    0x91: lambda m: m.push(Bag("builtins.frozenset", items=m.since_mark())),  # FROZENSET
    ord("h"): lambda m: m.recall(m.reader.number(1)),  # BINGET
    ord("j"): lambda m: m.recall(m.reader.number(4)),  # LONG_BINGET
    ord("q"): lambda m: m.remember(m.reader.number(1)),  # BINPUT
    ord("r"): lambda m: m.remember(m.reader.number(4)),  # LONG_BINPUT
    0x94: lambda m: m.remember(len(m.memo)),  # MEMOIZE
    ord("c"): lambda m: m.push(m.named()),  # GLOBAL
    0x93: _Machine.named_on_stack,  # STACK_GLOBAL
    ord("R"): _Machine.call,  # REDUCE
    0x81: _Machine.call,  # NEWOBJ
    0x92: _Machine.call_with_keywords,  # NEWOBJ_EX
    ord("o"): _Machine.call_since_mark,  # OBJ
    ord("i"): _Machine.instance,  # INST
    0x82: lambda m: m.extension(1),  # EXT1
    0x83: lambda m: m.extension(2),  # EXT2
    0x84: lambda m: m.extension(4),  # EXT4
    ord("b"): _Machine.build,  # BUILD
    ord("Q"): _Machine.persistent,  # BINPERSID
    # The text instructions of protocol 0.
    ord("2"): lambda m: m.push(m.top()),  # DUP
    ord("I"): _Machine.integer_text,  # INT
    ord("L"): lambda m: m.push(_number(m.reader.long_line())),  # LONG
    ord("F"): _Machine.float_text,  # FLOAT
    ord("S"): lambda m: m.push(python2_text(unescaped(m.reader.long_line()))),  # STRING
    ord("V"): _Machine.unicode_text,  # UNICODE
    ord("g"): lambda m: m.recall(_number(m.reader.line())),  # GET
    ord("p"): lambda m: m.remember(_number(m.reader.line())),  # PUT
}
