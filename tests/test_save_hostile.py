"""Model files from strangers: every field may hold anything, and none may cost much."""

from __future__ import annotations

import copy
import json
import sys

import numpy as np
import pytest
from activations import ACTIVATIONS
from processes import run_python
from test_save import LAYERS, MODELS

import fastrnn
from fastrnn import models
from fastrnn._json import MAX_DEPTH, read_json
from fastrnn.formats import CheckpointError
from fastrnn.nn.making import only_from, unfilled
from fastrnn.nn.registry import KINDS

ALL = {
    **MODELS,
    **LAYERS,
    "gru_cell": lambda: fastrnn.GRUCell(3, 4),
    "rnn_cell": lambda: fastrnn.RNNCell(3, 4),
    "attention": lambda: fastrnn.Attention("additive", 3, 4),
    "dropout": lambda: fastrnn.Dropout(0.25),
    "locked_dropout": lambda: fastrnn.LockedDropout(0.25, batch_first=True),
    "embedding_dropout": lambda: fastrnn.EmbeddingDropout(fastrnn.Embedding(3, 4), 0.25),
    "weight_drop": lambda: fastrnn.WeightDrop(fastrnn.GRU(3, 4, 2, reset="before"), 0.25),
    "conv": lambda: fastrnn.Conv1d(2, 4, 2, padding="causal", dilation=2, groups=2),
    "pooling": lambda: fastrnn.Pooling("max"),
    "flip": fastrnn.Flip,
    "scale": lambda: fastrnn.ScaleShift(3),
    "prelu": lambda: fastrnn.PReLU(3, 0.5),
    "add": fastrnn.Add,
    "multiply": fastrnn.Multiply,
    "concatenate": fastrnn.Concatenate,
    "select": lambda: fastrnn.Select(1, 3),
    "reshape": lambda: fastrnn.Reshape(2, 3),
    "residual": lambda: fastrnn.Residual(fastrnn.GRU(3, 3)),
    "sequential": lambda: fastrnn.Sequential(fastrnn.Linear(2, 3), fastrnn.Tanh()),
    "graph": lambda: fastrnn.Graph(
        {"x": 3}, {"a": fastrnn.Linear(3, 3), "y": fastrnn.Multiply()}, {"y": ("a", "x")}, "y"
    ),
    **{kind.__name__: kind for kind in ACTIVATIONS},
    "bidirectional_lm": lambda: models.BidirectionalLanguageModel(5, 3, 4),
    "seq2seq": lambda: models.Seq2Seq(5, 6, 4, attention="additive", bidirectional=True),
    "captions": lambda: models.FeaturesToSequence(3, 6, 4, attention="scaled_dot"),
}
BAD = [
    None, True, 0, -1, 3.5, 1e300, 10**30, 10**400, "x", "", [], [1], [[]], ["LSTM", {}], {},
    {"a": 1}, 10**6, 2**31,
]  # fmt: skip


FREE = {  # numbers that take no memory
    "targets", "stride", "padding", "dilation", "start", "stop", "length", "channels",
}  # fmt: skip


def parts_of(path):
    """The header and the tensors' bytes."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def put(path, header, tensors, description):
    text = description if isinstance(description, str) else json.dumps(description)
    header = {**header, "__metadata__": {"fastrnn": text}}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + tensors)


def places(value, at=()):
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in inner:
        yield (*at, key)
        if isinstance(part, (dict, list)):
            yield from places(part, (*at, key))


def changed(description, place, value):
    """The description with another value there; without the place if the value is `changed`."""
    found = copy.deepcopy(description)
    owner = found
    for key in place[:-1]:
        owner = owner[key]
    if value is changed:
        del owner[place[-1]]
    else:
        owner[place[-1]] = value
    return found


def refusal(path):
    """What the error says, None if the file is loaded; other errors go through."""
    try:
        fastrnn.load(path)
    except CheckpointError as error:
        return str(error)
    return None


def test_every_kind_of_module_that_can_be_saved_is_here():
    assert {type(make()).__name__ for make in ALL.values()} == set(KINDS)


@pytest.mark.filterwarnings("ignore:dropout")
@pytest.mark.parametrize("name", ALL)
def test_anything_in_any_field_is_loaded_or_a_checkpoint_error(name, tmp_path):
    path = tmp_path / "model"
    ALL[name]().save(path) if hasattr(ALL[name](), "save") else fastrnn.save(ALL[name](), path)
    header, tensors = parts_of(path)
    description = json.loads(header["__metadata__"]["fastrnn"])
    for number, place in enumerate(places(description)):
        few = 1 if len(place) > 2 else 3
        for value in [*np.roll(np.arange(len(BAD)), -5 * number)[:few].tolist(), changed]:
            bad = value if value is changed else BAD[value]
            put(path, header, tensors, changed(description, place, bad))
            error = refusal(path)
            assert error is None or len(error) < 700 + len(str(path)), (place, bad)
            assert error is None or str(path) in error


NAMED = {  # place: (value, what the error names)
    ("config", "rnn"): (3, "rnn is no pair of a kind and its arguments"),
    ("config", "rnn", 0): ([], "rnn is a "),
    ("config", "rnn", 1): ("x", "rnn has no mapping"),
    ("config", "rnn", 1, "hidden_size"): ("wide", "rnn: hidden_size should be of type int"),
    ("config", "rnn", 1, "zoom"): (1, "rnn: got an unexpected keyword argument 'zoom'"),
    ("config", "head", 1, "bias"): (3, "head: bias should be of type bool"),
    ("config", "dropout"): ([], "dropout is"),
    ("config", "tie_weights"): (0, "tie_weights should be of type bool"),
    ("settings", "label_smoothing"): ("x", "label_smoothing is 'x'"),
    ("settings", "ignore_index"): (2.5, "ignore_index should be of type int"),
    ("settings", "weight_drop"): (2, "weight_drop is 2"),
    ("settings", "rnn"): (3, "config and settings both have 'rnn'"),
    ("settings", "zoom"): (3, "unexpected keyword argument 'zoom'"),
    ("settings",): (changed, "no 'settings' in it"),
    ("vocabulary",): (changed, "no 'vocabulary' in it"),
    ("extra",): (changed, "no 'extra' in it"),
    ("config",): (changed, "no 'config' in it"),
    ("format",): (0, "has no format"),
}


@pytest.mark.parametrize("place", NAMED, ids=lambda place: ".".join(map(str, place)))
def test_an_error_names_the_field(place, tmp_path):
    path, (value, message) = tmp_path / "model", NAMED[place]
    MODELS["language"]().save(path)
    header, tensors = parts_of(path)
    description = json.loads(header["__metadata__"]["fastrnn"])
    put(path, header, tensors, changed(description, place, value))
    with pytest.raises(CheckpointError, match=message):
        fastrnn.load(path)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("config", "targets"), 3, "targets is an int, expected the numbers of features"),
        (("config", "targets"), "01", "targets is a str, expected the numbers of features"),
        (("config", "scaler"), 3, "scaler is an int"),
        (("config", "scaler", "shift"), "x", "shift"),
        (("config", "scaler", "scale"), [10**400] * 3, "scale"),
        (("config", "horizon"), 5, "horizon"),
        (("settings", "objective"), [], "objective is"),
    ],
)
def test_an_error_names_the_field_of_a_forecaster(place, value, message, tmp_path):
    path = tmp_path / "model"
    MODELS["forecaster"]().save(path)
    header, tensors = parts_of(path)
    description = json.loads(header["__metadata__"]["fastrnn"])
    put(path, header, tensors, changed(description, place, value))
    with pytest.raises(CheckpointError, match=message):
        fastrnn.load(path)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory")
def test_sizes_that_a_file_claims_are_compared_before_memory_is_taken(tmp_path):
    """Every int of every description, ten thousand times as large: in 300 MB in all."""
    count = 0
    for name, make in ALL.items():
        path = tmp_path / "one"
        module = make()
        if not module.num_parameters:
            continue
        fastrnn.save(module, path)
        header, tensors = parts_of(path)
        description = json.loads(header["__metadata__"]["fastrnn"])
        sized = [
            place
            for place in places(description["config"])
            if type(_at(description["config"], place)) is int
            and _at(description["config"], place) > 0
            and not FREE & set(place)
        ]
        for place in [("config", *place) for place in sized] + [None] * bool(sized):
            large = description
            for one in [place] if place else [("config", *place) for place in sized]:
                large = changed(large, one, min(_at(large, one) * 10_000 or 0, 2**20))
            put(tmp_path / f"{name}-{count}.claims", header, tensors, large)
            count += 1
    done = run_python(
        f"""
        import os, re, resource
        from pathlib import Path
        import fastrnn
        from fastrnn.formats import CheckpointError
        fastrnn.set_num_threads(1)
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + (300 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for path in sorted(Path({str(tmp_path)!r}).glob("*.claims")):
            try:
                fastrnn.load(path)
                print("loaded", path.name)
            except CheckpointError as error:
                if "Unable to allocate" in str(error) or "memory" in str(error):
                    print(error)
        print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
        """
    )
    assert done.returncode == 0, done.stderr
    *complaints, peak = done.stdout.split("\n")[:-1]
    assert complaints == []
    assert int(peak) < 200_000
    assert count > 60


def test_all_layers_of_one_file_together_have_a_bound():
    with only_from({"weight": np.zeros(100_000)}), unfilled():
        for _ in range(5):
            fastrnn.Linear(300, 300)
        with pytest.raises(ValueError, match="together these parameters do not fit a file that"):
            fastrnn.Linear(300, 300)
    with only_from({}):
        for _ in range(10_000):
            fastrnn.Dropout()
        with pytest.raises(ValueError, match="more than 10000 modules in one file"):
            fastrnn.Dropout()
    fastrnn.Linear(3000, 3000)  # nothing holds outside


def _at(value, place):
    for key in place:
        value = value[key]
    return value


TEXTS = {
    "deep lists": ("[" * 100_000, "nested too deeply, more than 100 levels"),
    "deep objects": ('{"a":' * 5000 + "1" + "}" * 5000, "nested too deeply, more than 100 levels"),
    "just too deep": ("[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2), "nested too deeply"),
    "a long int": ("9" * 5000, "too many digits, 5000, expected 640"),
    "a large float": ("1e999", "1e999 is beyond all floats"),
    "no number": ("NaN", "NaN is no JSON"),
    "infinity": ("-Infinity", "-Infinity is no JSON"),
    "a key twice": ('{"a": 1, "b": 2, "a": 3}', "the key 'a' comes twice"),
    "a long key twice": (
        '{"' + "k" * 9999 + '": 1, "' + "k" * 9999 + '": 2}',
        "the key",
    ),
    "an end": ("[1", "delimiter"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_json_has_bounds_of_our_own(name, tmp_path):
    text, message = TEXTS[name]
    with pytest.raises(ValueError, match=message) as caught:
        read_json(text)
    assert len(str(caught.value)) < 200
    path = tmp_path / "model"
    MODELS["language"]().save(path)
    header, tensors = parts_of(path)
    whole = header["__metadata__"]["fastrnn"]
    for description in (text, whole.replace('"extra": null', f'"extra": {text}')):
        put(path, header, tensors, description)
        with pytest.raises(CheckpointError, match="no JSON"):
            fastrnn.load(path)


def test_nothing_is_saved_that_could_not_be_loaded(tmp_path):
    model, path = MODELS["language"](), tmp_path / "model"
    deep: list[object] = []
    for _ in range(MAX_DEPTH - 2):
        deep = [deep]
    endless: dict[str, object] = {}
    endless["a"] = endless
    for value in (deep, 10**600, {"a": [1.5, "x" * 10**5]}):
        model.extra = value
        model.save(path)
        assert fastrnn.load(path).extra == value
    for value in ([deep], 10**700, endless, (([deep],),)):
        model.extra = value
        with pytest.raises(ValueError, match="extra cannot be written as JSON"):
            model.save(path)
    assert fastrnn.load(path).extra == {"a": [1.5, "x" * 10**5]}


def test_a_value_that_is_shared_many_times_costs_nothing_to_check():
    value = []
    for _ in range(60):
        value = [value, value]
    from fastrnn._json import check_depth

    check_depth(value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": 3}, "a vocabulary's tokens are"),
        ({"tokens": [1, 2]}, "a vocabulary's tokens are"),
        ({"specials": "pad"}, "a vocabulary's specials are|specials is"),
        ({"specials": [[]]}, "a vocabulary's specials are|specials is"),
        ({"level": []}, "level is"),
        ({"level": "bytes"}, "level is"),
        ({"more": 1}, "level, specials and tokens, and nothing else"),
    ],
)
def test_a_damaged_vocabulary_is_a_value_error_that_names_the_field(change, message):
    described = fastrnn.data.Vocabulary("abc", specials=["unk"]).to_dict()
    with pytest.raises(ValueError, match=message):
        fastrnn.data.Vocabulary.from_dict({**described, **change})
