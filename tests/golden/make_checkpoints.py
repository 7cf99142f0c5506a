"""Makes the checkpoint files of this folder with PyTorch: python make_checkpoints.py

Every tensor holds `pattern(shape, seed)`, so that a test can tell its values without PyTorch.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations

HERE = Path(__file__).parent


def pattern(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """float32 values k/8 in [-8, 8), exact in every float type of 8 significant bits."""
    count = int(np.prod(shape))
    values = ((np.arange(count) * 37 + seed * 11) % 128 - 64) / 8
    return torch.from_numpy(values.reshape(shape).astype(np.float32))


def filled(module: nn.Module) -> nn.Module:
    for seed, tensor in enumerate(module.state_dict().values()):
        tensor.copy_(pattern(tuple(tensor.shape), seed))
    return module


class LanguageModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 5)
        self.rnn = nn.LSTM(5, 6, num_layers=2, bidirectional=True)
        self.head = nn.Linear(12, 11)


def layers() -> None:
    torch.save(filled(LanguageModel()).state_dict(), HERE / "lstm.pt")
    torch.save(
        filled(nn.GRU(3, 4)).state_dict(),
        HERE / "gru_legacy.pt",
        _use_new_zipfile_serialization=False,
    )
    torch.save(filled(nn.LSTM(3, 5, proj_size=2)).state_dict(), HERE / "lstm_projected.pt")
    torch.save(filled(nn.RNN(3, 4, bias=False)).state_dict(), HERE / "rnn.pt")
    torch.save(filled(nn.GRUCell(3, 4)).state_dict(), HERE / "gru_cell.pt")
    save_file(dict(filled(nn.LSTM(3, 4)).state_dict()), HERE / "lstm.safetensors")
    arrays = {name: t.numpy() for name, t in filled(nn.LSTM(3, 4)).state_dict().items()}
    np.savez_compressed(HERE / "lstm.npz", **arrays)


def tensors() -> dict[str, torch.Tensor]:
    """All kinds of tensors in one dictionary."""
    base = pattern((4, 6), 1)
    return {
        "plain": base,
        "tied": base,
        "transposed": base.t(),
        "window": base[1:3, 2:5],
        "every_second": base[:, ::2],
        "expanded": pattern((1, 3), 2).expand(4, 3),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": nn.Parameter(pattern((2, 3), 3)),
        "float64": pattern((5,), 4).double(),
        "float16": pattern((5,), 5).half(),
        "bfloat16": pattern((5,), 6).bfloat16(),
        "int64": torch.arange(-2, 3),
        "int32": torch.arange(-2, 3, dtype=torch.int32),
        "int16": torch.arange(-2, 3, dtype=torch.int16),
        "int8": torch.arange(-2, 3, dtype=torch.int8),
        "uint8": torch.arange(5, dtype=torch.uint8),
        "uint16": torch.arange(5).to(torch.uint16),
        "bool": torch.tensor([True, False, True]),
    }


def kinds() -> None:
    torch.save(tensors(), HERE / "kinds.pt")
    torch.save(tensors(), HERE / "kinds_protocol4.pt", pickle_protocol=4)
    torch.save(tensors(), HERE / "kinds_legacy.pt", _use_new_zipfile_serialization=False)
    half = {"w": pattern((2, 3), 6).bfloat16(), "n": torch.arange(3), "s": torch.tensor(1.5)}
    save_file(half, HERE / "kinds.safetensors", metadata={"made_by": "a test"})


def nested() -> None:
    model = filled(nn.LSTM(3, 4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.zeros(2, 1, 3))[0].sum().backward()
    optimizer.step()
    filled(model)
    torch.save(
        {
            "epoch": 7,
            "loss": 0.5,
            "model_state_dict": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "best": torch.tensor(1.0),
            "names": ["a", "b"],
        },
        HERE / "nested.pt",
    )
    coder = filled(nn.GRU(3, 4)).state_dict()
    torch.save(
        {"en": coder, "de": filled(nn.GRU(4, 4)).state_dict(), "en_optim": {"x": coder}},
        HERE / "encoder_decoder.pt",
    )


def wrapped() -> None:
    weights = filled(nn.LSTM(3, 4)).state_dict()
    torch.save({f"module.{k}": v for k, v in weights.items()}, HERE / "parallel.pt")
    compiled = {f"module._orig_mod.rnn._orig_mod.{k}": v for k, v in weights.items()}
    torch.save(compiled, HERE / "compiled.pt")
    raw = {f"rnns.0.module.{k}": v for k, v in weights.items()}
    raw["rnns.0.weight_hh_l0_raw"] = pattern((16, 4), 9)
    torch.save(raw, HERE / "fastai.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old = filled(nn.utils.weight_norm(nn.GRU(3, 4), "weight_hh_l0"))
    torch.save(old.state_dict(), HERE / "weight_norm_old.pt")
    new = filled(parametrizations.weight_norm(nn.GRU(3, 4), "weight_hh_l0"))
    torch.save(new.state_dict(), HERE / "weight_norm_new.pt")
    with torch.no_grad():
        weight: torch.Tensor = getattr(new, "weight_hh_l0")  # noqa: B009
        np.savez(HERE / "weight_norm_folded.npz", weight_hh_l0=weight.numpy())


def pickled() -> None:
    torch.save(nn.RNN(1, 1), HERE / "whole_module.pt")
    torch.jit.script(nn.Linear(1, 1)).save(  # type: ignore[no-untyped-call]
        str(HERE / "torchscript.pt")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(nn.LSTM(1, 1), nn.Linear(1, 1))
        quantised = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            model, {nn.LSTM, nn.Linear}
        )
    torch.save(quantised.state_dict(), HERE / "quantised.pt")


if __name__ == "__main__":
    for make in (layers, kinds, nested, wrapped, pickled):
        make()
