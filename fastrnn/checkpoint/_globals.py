"""The closed list of names that a checkpoint's pickle may use.

A pickle names things ("globals") and asks to call them. Here a name is looked up in a table whose
entries only build the records of `_objects.py`; no name is ever imported, and a name that is not
in the table ends the reading.
"""

from __future__ import annotations

from ._errors import CheckpointError, shown
from ._objects import (
    Dtype,
    Global,
    Handler,
    Opaque,
    Storage,
    TensorRecord,
    extents,
    integer,
)

__all__ = ["find_global"]


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
    if not isinstance(args[0], (TensorRecord, Opaque)):
        raise CheckpointError("a parameter that holds no tensor")
    return args[0]


def _typed(args: tuple[object, ...]) -> object:
    """`_rebuild_from_type_v2(function, type, arguments, state)`: a tensor with attributes."""
    function, inner = args[0], args[2]
    if not isinstance(function, Global) or not isinstance(inner, tuple):
        raise CheckpointError("a malformed tensor subclass")
    if function.build is _TYPED:
        raise CheckpointError("a tensor subclass inside a tensor subclass")
    return function.build(inner)


def _mapping(args: tuple[object, ...]) -> object:
    if args:
        raise CheckpointError("a dictionary built from arguments, expected an empty one")
    return {}


_TYPED = _counted(4, 4, _typed)

_QUANTISED = "a quantised model; save model.state_dict() of the float model instead"


def _opaque(name: str) -> Handler:
    what = Opaque(name)
    return lambda args: what


def _refused(reason: str) -> Handler:
    def refuse(args: tuple[object, ...]) -> object:
        raise CheckpointError(reason)

    return refuse


STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16",
    "Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8",
    "Bool": "bool", "ComplexDouble": "complex128", "ComplexFloat": "complex64",
}  # fmt: skip
DTYPES = (
    "float64", "float32", "float16", "bfloat16", "complex128", "complex64", "complex32", "bool",
    "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8",
    "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
    "float4_e2m1fn_x2",
)  # fmt: skip

# Objects often found beside the tensors of a checkpoint. They are skipped, by module and name.
INERT: dict[str, tuple[str, ...]] = {
    "torch": ("Size", "Tensor", "device"),
    "torch.nn.parameter": ("Buffer", "Parameter"),
    "torch.serialization": ("_get_layout",),
    "torch._utils": (
        "_rebuild_device_tensor_from_numpy", "_rebuild_meta_tensor_no_storage",
        "_rebuild_nested_tensor", "_rebuild_sparse_tensor", "_rebuild_wrapper_subclass",
    ),
    "builtins": (
        "bool", "bytearray", "bytes", "complex", "float", "frozenset", "int", "list", "object",
        "range", "set", "slice", "str", "tuple",
    ),
    "_codecs": ("encode",),
    "numpy": ("dtype", "ndarray"),
    "numpy.core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
    "numpy.core.numeric": ("_frombuffer",),
    "numpy._core.numeric": ("_frombuffer",),
    "collections": ("Counter", "deque"),
    "argparse": ("Namespace",),
    "types": ("SimpleNamespace",),
    "pathlib": ("Path", "PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath"),
    "pathlib._local": ("PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath"),
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "uuid": ("UUID",),
    "pytorch_lightning.utilities.parsing": ("AttributeDict",),
    "lightning.fabric.utilities.data": ("AttributeDict",),
    "lightning_fabric.utilities.data": ("AttributeDict",),
}  # fmt: skip


def _listed() -> dict[str, Global]:
    table = {
        "collections.OrderedDict": Global("collections.OrderedDict", _mapping),
        "collections.defaultdict": Global("collections.defaultdict", lambda args: {}),
        "builtins.dict": Global("builtins.dict", _mapping),
        "torch.storage.UntypedStorage": Global(
            "UntypedStorage", _refused("a bare storage"), "uint8"
        ),
        "torch._tensor._rebuild_from_type_v2": Global("_rebuild_from_type_v2", _TYPED),
        "torch.ScriptObject": Global("torch.ScriptObject", _refused(_QUANTISED)),
    }
    builders: dict[str, Handler] = {
        "_rebuild_tensor": _counted(4, 4, _tensor),
        "_rebuild_tensor_v2": _counted(
            6, 7, lambda args: _tensor(args, metadata=args[6] if len(args) > 6 else None)
        ),
        "_rebuild_tensor_v3": _counted(7, 8, _tensor_v3),
        "_rebuild_parameter": _counted(3, 3, _parameter),
        "_rebuild_parameter_with_state": _counted(4, 4, _parameter),
        "_rebuild_qtensor": _refused(_QUANTISED),
    }
    table |= {f"torch._utils.{name}": Global(name, build) for name, build in builders.items()}
    for name, dtype in STORAGES.items():
        full = f"torch.{name}Storage"
        table[full] = Global(full, _refused("a bare storage"), dtype)
    for module, names in INERT.items():
        for name in names:
            table[f"{module}.{name}"] = Global(name, _opaque(f"{module}.{name}"))
    return table


GLOBALS = _listed()
CONSTANTS: dict[str, object] = {f"torch.{name}": Dtype(name) for name in DTYPES}
_QUANTISED_NAMES = ("torch.qint", "torch.quint", "torch.QInt", "torch.QUInt", "torch.per_")


def find_global(module: str, name: str) -> object:
    """The inert stand-in for `module.name`; CheckpointError when it is not on the list."""
    if module == "__builtin__":
        module = "builtins"
    full = f"{module}.{name}"
    found = GLOBALS.get(full) or CONSTANTS.get(full)
    if found is not None:
        return found
    if full.startswith(_QUANTISED_NAMES) or ".quantized." in full or ".quantization." in full:
        raise CheckpointError(_QUANTISED)
    if full.startswith("torch.nn."):
        raise CheckpointError(
            f"a whole pickled module ({shown(full)}); save model.state_dict() instead"
        )
    raise CheckpointError(
        f"the pickle asks for {shown(full)!r}, which plain tensors do not need; it was refused and "
        "nothing was run (for a whole pickled model, save model.state_dict() instead)"
    )
