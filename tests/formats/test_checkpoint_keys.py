"""What lies beside the model in a checkpoint: what comes along, and how a key reaches the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pickles import archive, call, mapping, named, numbers, opened, tensor, text

from fastrnn.formats import CheckpointError, open_checkpoint, read_checkpoint

VALUES = np.arange(6, dtype="<f4")


def vector(size: int, start: int = 0) -> bytes:
    return tensor(bytes([0x4B, start]), numbers(size), numbers(1))


def names(tmp_path: Path, body: bytes, key: Any = None) -> list[str]:
    path = tmp_path / "file.pt"
    path.write_bytes(archive(body, VALUES.tobytes()))
    return list(read_checkpoint(path, key))


GENERATOR = mapping(weight=tensor(), bias=vector(2))
MODEL = mapping(**{"rnn.weight_ih_l0": tensor(), "rnn.bias_ih_l0": vector(2)})
MODEL_NAMES = ["rnn.weight_ih_l0", "rnn.bias_ih_l0"]
GENERATOR_NAMES = ["generator.weight", "generator.bias"]
OPTIMISER = mapping(
    state=b"}K\x00" + mapping(exp_avg=vector(1), step=vector(2, 1)) + b"s", param_groups=b"]"
)


# ---- without a key ----------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict", "net"])
def test_a_state_dict_beside_the_model_comes_under_its_own_name(
    tmp_path: Path, wrapper: str
) -> None:
    for body in (
        mapping(**{wrapper: MODEL, "generator": GENERATOR}),
        mapping(**{"generator": GENERATOR, "epoch": b"K\x07", wrapper: MODEL}),
    ):
        assert names(tmp_path, body) == MODEL_NAMES + GENERATOR_NAMES


def test_several_state_dicts_beside_the_model_all_come(tmp_path: Path) -> None:
    crf = mapping(transitions=tensor(), start=vector(3))
    heads = mapping(a=GENERATOR, b=GENERATOR)
    body = mapping(model=MODEL, crf=crf, heads=heads)
    assert names(tmp_path, body) == [
        *MODEL_NAMES, "crf.transitions", "crf.start",
        "heads.a.weight", "heads.a.bias", "heads.b.weight", "heads.b.bias",
    ]  # fmt: skip


def test_a_sibling_inside_a_wrapper_of_a_wrapper_comes_too(tmp_path: Path) -> None:
    inner = mapping(model=MODEL, generator=GENERATOR)
    assert names(tmp_path, mapping(state_dict=inner)) == MODEL_NAMES + GENERATOR_NAMES


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        ({"optimizer": OPTIMISER}, "optimiser state with 2 tensors"),
        ({"opt": GENERATOR}, "optimiser state with 2 tensors"),
        ({"scheduler": mapping(last_lr=b"]", best=tensor(shape=b")", strides=b")"))}, "1 tensors"),
        ({"rng": mapping(cpu=tensor(kind="FloatStorage", shape=b")", strides=b")"))}, "1 tensors"),
        ({"callbacks": mapping(Stop=mapping(best=vector(1), path=text("x")))}, "1 tensors"),
        ({"best": tensor()}, "a tensor"),
        ({"losses": b"](" + tensor() + tensor() + b"e"}, "list of 2 with 2 tensors"),
        ({"ema": MODEL}, "which are the model's own again; key='ema' reads it"),
        ({"copy": mapping(**{"module.rnn.weight_ih_l0": tensor()})}, "the model's own again"),
        ({"model_ema": mapping(**{"rnn.weight_ih_l0": tensor(strides=numbers(1, 2)),
                                  "rnn.bias_ih_l0": vector(2, 1)})}, "another state of the model"),
    ],
)  # fmt: skip
def test_what_is_no_part_of_the_model_stays_beside_it_and_is_named(
    tmp_path: Path, beside: dict[str, bytes], reason: str
) -> None:
    found = opened(tmp_path, archive(mapping(**beside, model=MODEL), VALUES.tobytes()))
    assert list(found.tensors) == MODEL_NAMES
    (name,) = beside
    assert reason in found.skipped[name]
    assert names(tmp_path, mapping(**beside, model=MODEL), name)


def test_a_sibling_whose_names_would_collide_stays_beside_the_model(tmp_path: Path) -> None:
    model = mapping(**{"generator.weight": tensor()})
    body = mapping(model=model, generator=mapping(weight=vector(3)))
    found = opened(tmp_path, archive(body, VALUES.tobytes()))
    assert found.tensors["generator.weight"].shape == (2, 3)
    assert "key='generator'" in found.skipped["generator"]


def test_a_sibling_with_a_stranger_in_it_still_comes(tmp_path: Path) -> None:
    generator = mapping(weight=tensor(), config=call("project", "Config"))
    found = opened(tmp_path, archive(mapping(model=MODEL, generator=generator), VALUES.tobytes()))
    assert list(found.tensors) == [*MODEL_NAMES, "generator.weight"]
    assert found.skipped == {"generator.config": "object (project.Config)"}


def test_a_list_of_a_model_and_other_things_is_the_model(tmp_path: Path) -> None:
    other = call("torch.nn.modules.loss", "CrossEntropyLoss")
    assert names(tmp_path, b"](" + MODEL + other + OPTIMISER + b"e") == MODEL_NAMES
    assert names(tmp_path, b"(" + OPTIMISER + MODEL + b"t") == MODEL_NAMES
    two = names(tmp_path, b"](" + MODEL + GENERATOR + b"e")
    assert two == ["0.rnn.weight_ih_l0", "0.rnn.bias_ih_l0", "1.weight", "1.bias"]
    assert names(tmp_path, b"](" + tensor() + tensor() + b"e") == ["0", "1"]


# ---- with a key -------------------------------------------------------------------------------

WHOLE = mapping(
    model=MODEL,
    optimizer=OPTIMISER,
    models=mapping(generator=GENERATOR, critic=b"](" + tensor() + vector(2) + b"e"),
    best=tensor(),
    trainer=named("project", "Trainer") + b")R" + mapping(ema=GENERATOR, step=b"K\x05") + b"b",
    **{"dotted.name": GENERATOR},
)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("model", MODEL_NAMES),
        ("models.generator", ["weight", "bias"]),
        (("models", "generator"), ["weight", "bias"]),
        ("models", ["generator.weight", "generator.bias", "critic.0", "critic.1"]),
        ("models.critic", ["0", "1"]),
        ("models.critic.1", ["1"]),
        (("models", "critic", 0), ["0"]),
        ("optimizer", ["state.0.exp_avg", "state.0.step"]),
        ("optimizer.state.0", ["exp_avg", "step"]),
        (("optimizer", "state", 0), ["exp_avg", "step"]),
        ("best", ["best"]),
        ("model.rnn", ["weight_ih_l0", "bias_ih_l0"]),
        ("model.rnn.weight_ih_l0", ["weight_ih_l0"]),
        ("trainer", ["ema.weight", "ema.bias"]),
        ("trainer.ema", ["weight", "bias"]),
        ("dotted.name", ["weight", "bias"]),
        ((), [
            "best", "model.rnn.weight_ih_l0", "model.rnn.bias_ih_l0",
            "optimizer.state.0.exp_avg", "optimizer.state.0.step",
            "models.generator.weight", "models.generator.bias", "models.critic.0",
            "models.critic.1", "trainer.ema.weight", "trainer.ema.bias",
            "dotted.name.weight", "dotted.name.bias",
        ]),
    ],
)  # fmt: skip
def test_a_key_reaches_every_part_of_the_file(
    tmp_path: Path, key: Any, expected: list[str]
) -> None:
    assert names(tmp_path, WHOLE, key) == expected


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("genrator", "'genrator', expected one of 'model', 'optimizer', 'models', 'best'"),
        ("models.genrator", "'models.genrator', expected one of 'generator', 'critic'"),
        ("", "expected one of 'model'"),
        ("best.x", "leads into a bare tensor"),
        ("trainer.step", "key is 'trainer.step', which is int 5"),
        ("optimizer.param_groups", "no tensors"),
        (("models", "critic", 2), "expected one of '0', '1'"),
    ],
)
def test_a_key_that_is_not_there_is_an_error_that_lists_what_is(
    tmp_path: Path, key: Any, words: str
) -> None:
    with pytest.raises(CheckpointError, match=words):
        names(tmp_path, WHOLE, key)


@pytest.mark.parametrize("key", [5, ["model"], b"model", ("model", None)])
def test_a_key_of_the_wrong_type_is_named(tmp_path: Path, key: Any) -> None:
    with pytest.raises(TypeError, match=r"key has type \w+, expected a str"):
        names(tmp_path, WHOLE, key)


def test_numbers_and_strings_beside_a_key_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    path.write_bytes(archive(mapping(a=mapping(w=tensor(), rate=b"K\x05")), VALUES.tobytes()))
    assert open_checkpoint(path, "a").values == {"rate": 5}


def test_a_key_takes_a_part_of_a_file_of_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **{"enc.w": np.zeros(1), "dec.w": np.ones(2), "b": np.ones(3)})
    assert list(read_checkpoint(path, "dec")) == ["w"]
    assert list(read_checkpoint(path, "dec.w")) == ["dec.w"]
    assert list(read_checkpoint(path, ())) == ["enc.w", "dec.w", "b"]
    with pytest.raises(CheckpointError, match=r"expected one of 'enc\.w', 'dec\.w', 'b'"):
        read_checkpoint(path, "x")
