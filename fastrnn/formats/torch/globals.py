"""Meaning of the names in a checkpoint's pickle.

A pickle names things ("globals") and asks to call them. Here a name is looked up in a table whose
entries only build the records of `objects.py` and `ndarrays.py`, and plain containers. Nothing
is ever imported: a name that is not in the table, and whatever is made by calling it, is kept as
inert data. Python 2's names are brought to those of Python 3.
"""

from __future__ import annotations

from fastrnn.formats.errors import CheckpointError
from fastrnn.formats.torch.ndarrays import NUMPY_BUILDERS, ArrayRecord
from fastrnn.formats.torch.objects import (
    QUANTISED,
    Bag,
    Dtype,
    Handler,
    Name,
    OddKey,
    Storage,
    TensorRecord,
    extents,
    integer,
)
from fastrnn.formats.torch.reader import bytes_of

__all__ = ["as_key", "find_global", "is_part"]

MAX_NAME = 1000  # characters; a pickle can repeat a long one in a few bytes


def as_key(value: object) -> object:
    """`value` if its hash is cheap and honest, else a stand-in that equals nothing."""
    if value is None or isinstance(value, (str, bool, float, bytes, Bag, Name, Dtype, OddKey)):
        return value
    if isinstance(value, int) and -(1 << 60) < value < 1 << 60:
        return value
    return OddKey(value)


def _tensor(args: tuple[object, ...], dtype: object = None, metadata: object = None) -> object:
    storage, offset, size, stride = args[:4]
    if not isinstance(storage, Storage):
        raise CheckpointError("a tensor without a storage")
    shape, strides = extents(size, "a tensor's shape"), extents(stride, "a tensor's strides")
    if len(shape) != len(strides):
        raise CheckpointError(f"a tensor has {len(shape)} sizes but {len(strides)} strides")
    kind = dtype.name if isinstance(dtype, Dtype) else storage.dtype
    problem = ""
    if storage.device == "meta":
        problem = "a tensor on the meta device, which has no data"
    elif isinstance(metadata, dict) and any(metadata.values()):
        problem = "a lazily conjugated or negated tensor"
    elif kind in QUANTISED_STORAGES.values():
        problem = f"a tensor{QUANTISED}"
    start = integer(offset, "a tensor's storage offset")
    return TensorRecord(storage, kind, start, shape, strides, problem)


def _counted(low: int, high: int, build: Handler) -> Handler:
    """`build`, once the number of arguments is known to be right."""

    def checked(args: tuple[object, ...]) -> object:
        if not low <= len(args) <= high:
            raise CheckpointError(f"a call with {len(args)} arguments, expected {low} to {high}")
        return build(args)

    return checked


def _tensor_v3(args: tuple[object, ...]) -> object:
    if not isinstance(args[6], Dtype):
        raise CheckpointError("a tensor without an element type")
    return _tensor(args, args[6], args[7] if len(args) > 7 else None)


def _parameter(args: tuple[object, ...]) -> object:
    if not isinstance(args[0], (TensorRecord, ArrayRecord, Bag)):
        raise CheckpointError("a parameter that holds no tensor")
    return args[0]


def _typed(args: tuple[object, ...]) -> object:
    """`_rebuild_from_type_v2(function, type, arguments, state)`: a tensor with attributes."""
    function, inner = args[0], args[2]
    if not isinstance(function, Name) or not isinstance(inner, tuple):
        raise CheckpointError("a malformed tensor subclass")
    if function.build is _TYPED:
        raise CheckpointError("a tensor subclass inside a tensor subclass")
    return function.call(inner)


_TYPED = _counted(4, 4, _typed)


def _mapping(args: tuple[object, ...]) -> object:
    """A dictionary of nothing, of a dictionary, or of the pairs that Python 2 wrote."""
    given = args[0] if len(args) == 1 else ()
    if isinstance(given, dict):
        return dict(given)
    if len(args) > 1 or not isinstance(given, (list, tuple)):
        raise CheckpointError("a dictionary built from arguments that are no pairs")
    made: dict[object, object] = {}
    for pair in given:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise CheckpointError("a dictionary built from arguments that are no pairs")
        made[as_key(pair[0])] = pair[1]
    return made


def _default_mapping(args: tuple[object, ...]) -> object:
    """A defaultdict: its factory, which makes what is missing, is dropped."""
    return _mapping(args[1:])


def _encode(args: tuple[object, ...]) -> object:
    """`_codecs.encode(text, "latin1")`: how protocols 0 to 2 write bytes."""
    if len(args) == 2 and isinstance(args[0], str) and args[1] in ("latin1", "latin-1"):
        try:
            return args[0].encode("latin-1")
        except UnicodeEncodeError:
            raise CheckpointError("bytes in the pickle beyond Latin-1") from None
    return Bag("_codecs.encode", args)


def _bytes(args: tuple[object, ...]) -> object:
    """`bytes()`, and `bytearray` of bytes or of text in Latin-1."""
    if len(args) == 2:
        return _encode(args)
    content = bytes_of(args[0]) if len(args) == 1 else b"" if not args else None
    return Bag("builtins.bytes", args) if content is None else content


def _size(args: tuple[object, ...]) -> object:
    """`torch.Size(sizes)`, a tuple."""
    sizes = args[0] if len(args) == 1 else ()
    return tuple(sizes) if isinstance(sizes, (list, tuple)) else Bag("torch.Size", args)


def _instance(args: tuple[object, ...]) -> object:
    """`copyreg.__newobj__(class, *arguments)`."""
    if not args or not isinstance(args[0], Name):
        raise CheckpointError("an object in the pickle without a class")
    return args[0].call(args[1:])


def _reconstructed(args: tuple[object, ...]) -> object:
    """`copyreg._reconstructor(class, base, state)`, from protocols 0 and 1."""
    kind, base, state = args
    if not isinstance(kind, Name):
        raise CheckpointError("an object in the pickle without a class")
    if kind.build in (_mapping, _default_mapping):
        return _mapping((state,) if isinstance(state, dict) else ())
    made = Bag(kind.full)
    if isinstance(base, Name) and base.full != "builtins.object":
        made.entries = state if isinstance(state, dict) else None
        made.items = state if isinstance(state, list) else None
        made.arguments = () if isinstance(state, (dict, list)) else (state,)
    return made


def _first(args: tuple[object, ...]) -> object:
    return args[0]


STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16",
    "Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8",
    "Bool": "bool", "ComplexDouble": "complex128", "ComplexFloat": "complex64",
}  # fmt: skip
QUANTISED_STORAGES = {
    "QInt8": "qint8", "QUInt8": "quint8", "QInt32": "qint32", "QUInt4x2": "quint4x2",
    "QUInt2x4": "quint2x4",
}  # fmt: skip
DTYPES = (
    "float64", "float32", "float16", "bfloat16", "complex128", "complex64", "complex32", "bool",
    "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8",
    "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
    "float4_e2m1fn_x2",
)  # fmt: skip

# Called while a tensor or an array is made, so that nothing of them is missed in the result.
PARTS = (
    "torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer", "numpy.ndarray",
    "torch.serialization._get_layout", "torch.storage._load_from_bytes", "builtins.object",
    "builtins.list", "builtins.int", "builtins.float", "builtins.str", "builtins.tuple",
)  # fmt: skip

BUILDERS: dict[str, Handler] = {
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _default_mapping,
    "collections.Counter": _mapping,
    "builtins.dict": _mapping,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "_codecs.encode": _encode,
    "copyreg.__newobj__": _instance,
    "copyreg._reconstructor": _counted(3, 3, _reconstructed),
    "torch.Size": _size,
    "torch.jit._pickle.restore_type_tag": _counted(2, 2, _first),
    "torch.jit._pickle.build_tensorlist": _counted(1, 1, _first),
    "torch.jit._pickle.build_intlist": _counted(1, 1, _first),
    "torch.jit._pickle.build_doublelist": _counted(1, 1, _first),
    "torch.jit._pickle.build_boollist": _counted(1, 1, _first),
    "torch._tensor._rebuild_from_type_v2": _TYPED,
    "torch._utils._rebuild_tensor": _counted(4, 4, _tensor),
    "torch._utils._rebuild_tensor_v2": _counted(
        6, 7, lambda args: _tensor(args, metadata=args[6] if len(args) > 6 else None)
    ),
    "torch._utils._rebuild_tensor_v3": _counted(7, 8, _tensor_v3),
    "torch._utils._rebuild_parameter": _counted(3, 3, _parameter),
    "torch._utils._rebuild_parameter_with_state": _counted(4, 4, _parameter),
    "torch._utils._rebuild_device_tensor_from_numpy": _counted(4, 4, _parameter),
    "torch._utils._rebuild_xla_tensor": _counted(4, 4, _parameter),
    **NUMPY_BUILDERS,
}


def _storage_names() -> dict[str, Name]:
    types = {f"{name}Storage": dtype for name, dtype in (STORAGES | QUANTISED_STORAGES).items()}
    table = {
        f"{module}.{name}": Name(f"{module}.{name}", storage_dtype=dtype, is_part=True)
        for module in ("torch", "torch.cuda")
        for name, dtype in types.items()
    }
    untyped = "torch.storage.UntypedStorage"
    return table | {untyped: Name(untyped, storage_dtype="uint8", is_part=True)}


GLOBALS: dict[str, object] = {
    **{full: Name(full, build, is_part=True) for full, build in BUILDERS.items()},
    **{full: Name(full, is_part=True) for full in PARTS},
    **_storage_names(),
    **{f"torch.{name}": Dtype(name) for name in DTYPES},
}


def is_part(full: str) -> bool:
    """True for a name that only serves to make tensors, arrays and plain data."""
    found = GLOBALS.get(full)
    return isinstance(found, Name) and found.is_part


_PYTHON2_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg", "UserDict": "collections"}
_PYTHON2_NAMES = {
    "builtins.long": "builtins.int", "builtins.unicode": "builtins.str",
    "builtins.xrange": "builtins.range",
}  # fmt: skip


def find_global(module: str, name: str) -> object:
    """The inert stand-in for `module.name`: a Name or a Dtype."""
    if len(module) + len(name) > MAX_NAME:
        raise CheckpointError(f"a name of {len(module) + len(name)} characters in the pickle")
    full = f"{_PYTHON2_MODULES.get(module, module)}.{name}"
    full = _PYTHON2_NAMES.get(full, full)
    found = GLOBALS.get(full)
    return Name(full) if found is None else found
