from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float32]
_Ints = npt.NDArray[np.int64]

class CellInfo(NamedTuple):
    name: str
    family: str
    gates: int
    states: int
    phases: int
    direct: bool
    project: bool
    gate_activations: bool
    unit_parameters: int
    unit_tensor: str

def cells() -> list[CellInfo]: ...
def families() -> dict[str, int]: ...

class Store:
    trained: bool
    @property
    def nbytes(self) -> int: ...
    def trim(self) -> None: ...

class Stack:
    def __init__(
        self,
        cell: str | Stack,
        input_size: int = 0,
        hidden_size: int = 0,
        num_layers: int = 0,
        num_directions: int = 0,
        proj_size: int = 0,
        bias: bool = False,
        merge_sum: bool = False,
        gates: str | tuple[str, float, float] = "sigmoid",
        single_step: bool = False,
    ) -> None: ...
    @property
    def store(self) -> Store: ...
    @property
    def num_parameters(self) -> int: ...
    @property
    def tensors(self) -> list[tuple[str, tuple[int, ...], int]]: ...
    @property
    def num_packed_bytes(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def input_size(self) -> int: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def num_directions(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def state_size(self) -> int: ...
    @property
    def has_cell(self) -> bool: ...
    def renewed(self, parameters: _Floats) -> Stack: ...
    def forward(
        self,
        owner: object,
        name: str,
        x: Any,
        state: Any = None,
        hx: Any = None,
        lengths: Any = None,
        batch_first: bool = False,
        first: list[_Floats] | None = None,
        table: Table | None = None,
    ) -> Any: ...
    def batch(
        self,
        owner: object,
        name: str,
        x: Any,
        state: Any = None,
        hx: Any = None,
        lengths: Any = None,
        batch_first: bool = False,
        first: list[_Floats] | None = None,
        table: Table | None = None,
    ) -> Batch: ...
    def run(self, batch: Batch) -> Any: ...
    def training_bytes(
        self, steps: int, rows: int, elements: int, checkpoint_every: int
    ) -> tuple[int, int]: ...

class Batch:
    @property
    def x(self) -> npt.NDArray[Any]: ...
    @property
    def lengths(self) -> _Ints | None: ...
    @property
    def learned(self) -> bool: ...
    @property
    def steps(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def elements(self) -> int: ...
    def results(self, y: _Floats) -> Any: ...

class Gradients:
    def __init__(self, batch: Batch, dy: Any, dstate: Any) -> None: ...
    @property
    def first(self) -> list[_Floats]: ...
    def results(self, dx: _Floats | None) -> tuple[Any, Any]: ...

class BackwardWeights:
    def __init__(self, stack: Stack, parameters: _Floats) -> None: ...
    @property
    def stack(self) -> Stack: ...
    def record(
        self, batch: Batch, layer: int, x: _Floats | None, checkpoint_every: int
    ) -> tuple[_Floats, Tape]: ...

class Tape:
    def backward(
        self,
        gradients: Gradients,
        dy: _Floats | None,
        parameters: _Floats,
        flow: _Floats | None = None,
        embedding: _Floats | None = None,
        dembedding: _Floats | None = None,
    ) -> _Floats | None: ...

class Dense:
    def __init__(self, like: int | Dense, out_features: int = 0, bias: bool = False) -> None: ...
    @property
    def store(self) -> Store: ...
    def renewed(self, weight: _Floats, bias: _Floats | None = None) -> Dense: ...
    def renewed_transposed(self, weight: _Floats) -> Dense: ...
    def run(self, x: Any, owner: object) -> _Floats: ...
    def forward(self, x: _Floats, y: _Floats) -> None: ...

def layer_norm(
    x: Any,
    weight: _Floats,
    bias: _Floats,
    eps: float,
    owner: object,
    normal: _Floats | None = None,
    inverse: _Floats | None = None,
) -> _Floats: ...
def layer_norm_back(
    dy: Any,
    weight: _Floats,
    normal: _Floats,
    inverse: _Floats,
    dweight: _Floats,
    dbias: _Floats,
    owner: object,
) -> _Floats: ...

class OverTime:
    def __init__(
        self,
        shape: tuple[int, ...],
        lengths: Any,
        batch_first: bool = False,
        starts: Any = None,
    ) -> None: ...
    def pool(self, kind: str, x: Any, keep: bool) -> _Floats: ...
    def pool_back(self, kind: str, dy: Any) -> _Floats: ...
    def flip(self, x: Any) -> _Floats: ...

def take_rows(table: _Floats, indices: Any, name: str) -> _Floats: ...
def add_scaled(x: Any, factor: float, y: _Floats | None, name: str) -> _Floats: ...
def activations() -> dict[str, tuple[str, str, tuple[str, ...], tuple[float, ...]]]: ...

class Activation:
    def __init__(self, name: str, a: float = 0.0, b: float = 0.0) -> None: ...
    def run(self, x: Any, owner: object) -> _Floats: ...
    @property
    def kept(self) -> str: ...
    def back(self, kept: Any, dy: Any, owner: object) -> _Floats: ...

def scale_channels(x: Any, weight: _Floats, bias: _Floats | None, owner: object) -> _Floats: ...
def scale_channels_back(
    x: Any,
    weight: _Floats,
    dy: Any,
    dweight: _Floats | None,
    dbias: _Floats | None,
    owner: object,
) -> _Floats: ...

class Convolution:
    def __init__(
        self,
        like: int | Convolution,
        outputs: int = 0,
        kernel: int = 0,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        before: int = 0,
        after: int = 0,
        bias: bool = False,
        backward: bool = False,
    ) -> None: ...
    @property
    def store(self) -> Store: ...
    def renewed(self, weight: _Floats, bias: _Floats | None = None) -> Convolution: ...
    def run(self, x: Any, over_time: bool, owner: object, past: Any = None) -> _Floats: ...
    def next_past(self, x: Any, over_time: bool, owner: object, past: Any = None) -> _Floats: ...
    def run_back(
        self,
        x: Any,
        over_time: bool,
        dy: Any,
        dweight: _Floats,
        dbias: _Floats | None,
        owner: object,
        past: Any = None,
    ) -> Any: ...

class Table:
    def __init__(self, stack: Stack, embedding: _Floats, name: str = "tokens") -> None: ...
    @property
    def tokens(self) -> int: ...
    @property
    def stack(self) -> Stack: ...
    @property
    def nbytes(self) -> int: ...

class Network:
    def __init__(
        self,
        kind: str,
        operations: list[tuple[str, tuple[int, ...], dict[str, Any]]],
        outputs: list[int],
    ) -> None: ...
    @property
    def kind(self) -> str: ...
    @property
    def kinds(self) -> list[str]: ...
    @property
    def weights(self) -> list[Any]: ...
    @property
    def ports(self) -> list[int | tuple[int, int]]: ...
    @property
    def outputs(self) -> list[tuple[int, int]]: ...
    @property
    def places(self) -> list[int]: ...
    @property
    def vocabulary(self) -> int: ...
    def shape_of(self, place: int) -> tuple[int, int, bool]: ...
    def part_of(self, place: int, part: int) -> tuple[int, int] | None: ...
    def run_error(self) -> str | None: ...
    def step_error(self) -> str | None: ...

class Slots:
    def __init__(self, network: Network, rows: int) -> None: ...
    def read(self, place: int, part: int) -> _Floats: ...
    def write(self, place: int, part: int, values: _Floats | None) -> None: ...
    def look(self, place: int, sources: _Ints) -> None: ...
    def run(self, x: list[Any], lengths: _Ints | None, batch_first: bool) -> list[_Floats]: ...

class Stream:
    def __init__(self, network: Network, rows: int) -> None: ...
    @property
    def network(self) -> Network: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def num_state_bytes(self) -> int: ...
    def read(self, tokens: _Ints, lengths: _Ints | None = None) -> None: ...
    def step(self, x: Any, out: Any = None) -> Any: ...
    def bind(self, x: Any, y: Any) -> Callable[[], Any]: ...
    @property
    def rows(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    def reorder(self, indices: Any) -> None: ...
    def reset(self) -> None: ...
    def read_part(self, place: int, part: int) -> _Floats: ...
    def write_parts(self, parts: list[tuple[int, int, _Floats | None]]) -> None: ...
    def look(self, place: int, sources: _Ints) -> None: ...

def linear_gradient(
    x: _Floats, dy: _Floats, dweight: _Floats | None, dbias: _Floats | None
) -> None: ...
def on_first_use(function: Callable[[], None]) -> None: ...
def choose(isa: str | None, threads: int) -> bool: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def select_isa(name: str) -> None: ...
def get_isa() -> str: ...
def threads_available() -> bool: ...
def allocation_size(size: int) -> int: ...
def parameter_tensors(
    cell: str,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    num_directions: int,
    proj_size: int,
    bias: bool,
    merge_sum: bool,
    gates: str | tuple[str, float, float] = "sigmoid",
) -> list[tuple[str, tuple[int, ...], int]]: ...
def calibrate_fma(rounds: int) -> int: ...
def calibrate_read(x: _Floats, sweeps: int) -> int: ...

# Losses and updates.
def cross_entropy(
    logits: _Floats,
    targets: _Ints,
    losses: _Floats | None = None,
    dlogits: _Floats | None = None,
    smoothing: float = 0.0,
    scale: float = 1.0,
) -> int: ...
def log_softmax(x: _Floats, y: _Floats) -> None: ...
def update(
    rule: str,
    parameters: _Floats,
    gradient: _Floats,
    m: _Floats | None = None,
    v: _Floats | None = None,
    a: _Floats | None = None,
    *,
    rate: float,
    weight_decay: float = 0.0,
    shrink: float = 1.0,
    momentum: float = 0.0,
    gain: float = 1.0,
    nesterov: float = 0.0,
    decay: float = 0.0,
    rest: float = 1.0,
    root: float = 1.0,
    eps: float = 0.0,
) -> None: ...
def squared_norm(x: _Floats) -> float: ...
def scale(x: _Floats, factor: float) -> None: ...
def clip(x: _Floats, bound: float) -> None: ...
def add_rows(tokens: _Ints, dy: _Floats, dw: _Floats, batch_first: bool = False) -> None: ...

# Attention.
class Attended:
    def __init__(
        self,
        queries: _Floats,
        keys: _Floats,
        values: _Floats,
        score: _Floats | None,
        lengths: _Ints | None,
        sources: _Ints | None,
        scale: float = 1.0,
    ) -> None: ...
    @property
    def weights(self) -> _Floats: ...
    @property
    def context(self) -> _Floats: ...
    def backward(
        self,
        dcontext: _Floats,
        dqueries: _Floats,
        dkeys: _Floats,
        dvalues: _Floats,
        dscore: _Floats | None,
        workspace: _Floats,
    ) -> None: ...

class Sampler:
    raw: _Floats
    logits: _Floats
    keys: _Ints
    positions: _Ints
    tokens: _Ints
    logprobs: _Floats
    def __init__(
        self,
        classes: int,
        capacity: int,
        ends: npt.NDArray[np.uint8],
        steps: int,
        *,
        processors: bool = False,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        typical_p: float = 1.0,
    ) -> None: ...
    def run(self, rows: int, stream: Stream | None = None, steps: int = 1) -> int: ...

class Chooser:
    logits: _Floats
    first: _Ints
    last: _Ints
    best: npt.NDArray[np.float64]
    best_rows: _Ints
    best_tokens: _Ints
    tokens: _Ints
    parents: _Ints
    scores: npt.NDArray[np.float64]
    logprobs: _Floats
    def __init__(
        self,
        classes: int,
        rows: int,
        groups: int,
        k: int,
        ends: npt.NDArray[np.uint8],
        steps: int,
        beams: int,
        branches: int = 0,
    ) -> None: ...
    def normalize(self, rows: int) -> int: ...
    def run(self, groups: int, stream: Stream | None = None, steps: int = 1) -> tuple[int, int]: ...

class Grammar:
    def __init__(
        self,
        offsets: _Ints,
        tokens: _Ints,
        needed: _Ints,
        logits: _Floats,
        states: _Ints,
        remaining: _Ints,
    ) -> None: ...
    def apply(self, rows: int) -> None: ...

def uniform(key: int, position: int) -> float: ...
