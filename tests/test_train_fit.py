"""Whole trainings: where they stop, what they say and what they write down."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from processes import run_python
from safetensors.numpy import load_file
from train_fakes import Batch, Recorder, TinyRNN, kit, text

from fastrnn.train import Trainer, TrainingDiverged, read_history


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_training_learns_and_says_how_it_ended(tmp_path):
    k = kit()
    result = k.trainer.fit(
        k.source, validation=k.validation, epochs=20, out=tmp_path / "run", progress=False
    )
    assert (result.stopped, result.steps, result.epochs) == ("epochs", 20 * 9, 20)
    assert result.best_loss < 0.7
    assert result.best == tmp_path / "run.best.safetensors"
    assert result.last == tmp_path / "run.last.safetensors"
    assert result.history == tmp_path / "run.history.jsonl"


def test_out_is_a_folder_if_it_looks_like_one(tmp_path):
    k = kit()
    result = k.trainer.fit(k.source, epochs=1, out=f"{tmp_path}/new/", progress=False)
    assert result.last == tmp_path / "new" / "last.safetensors"
    other = kit()
    result = other.trainer.fit(other.source, epochs=1, out=tmp_path, progress=False)
    assert result.last == tmp_path / "last.safetensors"


def test_the_number_of_steps_ends_a_training_within_an_epoch():
    k = kit()
    assert k.trainer.fit(k.source, epochs=9, max_steps=13, progress=False).stopped == "max_steps"
    again = k.trainer.fit(k.source, max_steps=4, progress=False)
    assert (again.steps, k.trainer.steps) == (4, 17)


class Worsening:
    """A model whose validation loss is read from a list."""

    def __init__(self, losses):
        self.model, losses = TinyRNN(), iter(losses)
        self.model.loss = lambda *_: SimpleNamespace(
            loss=next(losses), count=1, state=None, correct=None
        )

    def fit(self, **options):
        one = text(8)
        k = kit(steps=7)
        k.validation.tokens = one
        trainer = Trainer(self.model, Recorder(self.model))
        return trainer.fit(k.source, validation=k.validation, progress=False, **options)


def test_training_stops_when_validation_no_longer_improves(tmp_path):
    model = Worsening([3.0, 2.0, 2.5, 1.9, 1.9, 2.2, 0.1])
    result = model.fit(epochs=50, patience=2, out=tmp_path / "run")
    assert (result.stopped, result.epochs) == ("patience", 6)
    assert (result.best_loss, result.best_step) == (1.9, 36)


def test_the_best_checkpoint_holds_the_parameters_of_the_best_step(tmp_path):
    k = kit()
    seen = {}

    class Watching(list):
        def append(self, record):
            if record["kind"] == "validation":
                seen[record["step"]] = k.model.flat.copy()
            super().append(record)

    result = k.trainer.fit(
        k.source,
        validation=k.validation,
        epochs=19,
        validate_every=7,
        out=tmp_path / "run",
        history=Watching(),
        progress=False,
    )
    best = load_file(result.best)
    flat = np.concatenate([best[name].ravel() for name in k.model.parameters])
    np.testing.assert_array_equal(flat, seen[result.best_step])
    assert result.best_step < result.steps


def test_the_model_can_end_with_the_best_parameters():
    def trained(**options):
        k = kit()
        evaluate, losses = k.model.loss, iter([3.0, 1.0, 2.0, 0.5, 2.5, 2.2])
        k.model.loss = lambda *batch: evaluate(*batch)._replace(loss=next(losses), count=1)
        k.validation.tokens = text(8)  # one batch
        k.repacked = k.model.repacked
        k.trainer.fit(k.source, validation=k.validation, progress=False, **options)
        return k

    fourth = trained(epochs=4)
    restored = trained(epochs=50, patience=2, restore_best=True)
    assert restored.trainer.steps == 6 * 9
    np.testing.assert_array_equal(restored.model.flat, fourth.model.flat)
    assert restored.model.repacked == restored.trainer.optimizer.count + 1
    last = trained(epochs=50, patience=2)
    assert not np.array_equal(last.model.flat, fourth.model.flat)
    velocity = last.trainer.optimizer.velocity
    np.testing.assert_array_equal(restored.trainer.optimizer.velocity, velocity)


def test_the_best_checkpoint_is_written_by_the_model_if_it_can(tmp_path):
    k = kit()
    k.model.save = lambda path: path.write_text("a model")
    result = k.trainer.fit(
        k.source, validation=k.validation, epochs=1, out=tmp_path / "run", progress=False
    )
    assert result.best.read_text() == "a model"


def test_validation_comes_every_so_many_steps_and_at_the_end():
    k, records = kit(), []
    k.trainer.fit(
        k.source,
        validation=k.validation,
        validate_every=5,
        max_steps=12,
        history=records,
        progress=False,
    )
    assert [r["step"] for r in records if r["kind"] == "validation"] == [5, 10, 12]


def test_a_plateau_schedule_hears_of_every_validation():
    class Plateau:
        def __init__(self):
            self.heard = []

        def lr(self, step):
            return 0.1

        def observe(self, metric):
            self.heard.append(metric)

    schedule = Plateau()
    k = kit(schedule=schedule)
    k.trainer.fit(k.source, validation=k.validation, epochs=3, progress=False)
    assert len(schedule.heard) == 3


def test_history_holds_means_between_its_lines(tmp_path):
    k = kit()
    path = tmp_path / "history.jsonl"
    k.trainer.fit(k.source, epochs=1, history=path, log_every=3, progress=False)
    coarse = read_history(path)
    other, fine = kit(), []
    other.trainer.fit(other.source, epochs=1, history=fine, log_every=1, progress=False)
    assert [record["step"] for record in coarse] == [3, 6, 9]
    means = [np.mean([r["loss"] for r in fine[i : i + 3]]) for i in (0, 3)]  # equal counts
    assert [r["loss"] for r in coarse[:2]] == pytest.approx(means, rel=1e-6)
    assert coarse[-1]["units"] == 180
    assert {"norm", "lr", "rate", "seconds", "time"} <= coarse[0].keys()


def test_history_is_appended_to_and_a_line_cut_short_is_left_out(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"kind": "note"}\n')
    k = kit()
    k.trainer.fit(k.source, max_steps=1, log_every=1, history=path, progress=False)
    with open(path, "a") as file:
        file.write('{"kind": "tr')
    assert [record["kind"] for record in read_history(path)] == ["note", "train"]
    path.write_text("[1]\n")
    with pytest.raises(ValueError, match="line 1 is no JSON object"):
        read_history(path)
    path.write_text("[" * 100_000 + "\n{}\n")
    with pytest.raises(ValueError, match="line 1 is no JSON object: it is nested too deeply"):
        read_history(path)


def test_divergence_in_a_training_names_the_last_checkpoint(tmp_path):
    k = kit(max_loss=1.0)
    with pytest.raises(TrainingDiverged, match=r"The last checkpoint is .*run\.last") as caught:
        k.trainer.fit(k.source, epochs=1, out=tmp_path / "run", progress=False)
    assert caught.value.step == 1


def test_a_validation_loss_that_is_not_finite_ends_the_training():
    with pytest.raises(TrainingDiverged, match="validation loss is not finite"):
        Worsening([1.0, float("nan")]).fit(epochs=3)


def test_lines_tell_loss_perplexity_norm_speed_and_time_left(monkeypatch, capsys):
    monkeypatch.setattr("fastrnn.train.progress._LINE_SECONDS", 0.0)
    k = kit()
    k.trainer.fit(k.source, validation=k.validation, epochs=1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    for word in ("step 2/9", "loss ", "ppl ", "norm ", "lr 0.05", "tokens/s", "0:00 left"):
        assert word in lines[1]
    assert "validation loss" in lines[-1]
    assert "(best)" in lines[-1]


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    k = kit()
    k.trainer.fit(k.source, validation=k.validation, epochs=1)
    shown = sys.stderr.getvalue()
    assert "/9 [" in shown
    assert "validation loss" in shown


def test_a_terminal_without_tqdm_gets_lines(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setitem(sys.modules, "tqdm", None)
    k = kit()
    k.trainer.fit(k.source, validation=k.validation, epochs=1)
    assert sys.stderr.getvalue().startswith("epoch 1  step 9  validation loss")


def test_progress_can_be_turned_off(capsys):
    k = kit()
    k.trainer.fit(k.source, validation=k.validation, epochs=1, progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "epochs and max_steps are both None"),
        ({"epochs": 0}, "epochs must be greater than zero"),
        ({"epochs": 1, "patience": 3}, "patience needs validation"),
        ({"epochs": 1, "validate_every": 3}, "validate_every needs validation"),
        ({"epochs": 1, "restore_best": True}, "restore_best needs validation"),
        ({"epochs": 1, "resume": True}, "resume needs out"),
        ({"epochs": 1, "log_every": 0}, "log_every must be greater than zero"),
    ],
)
def test_impossible_trainings_are_refused(options, message):
    k = kit()
    with pytest.raises(ValueError, match=message):
        k.trainer.fit(k.source, **options)


def test_a_source_without_batches_is_refused():
    k = kit()
    k.source.tokens = k.source.tokens[:1]
    with pytest.raises(ValueError, match="source gave no batches"):
        k.trainer.fit(k.source, epochs=1, progress=False)


def test_a_validation_in_which_nothing_counts_is_refused():
    k = kit()
    empty = np.full((4, 2), -1)
    k.validation.batches = lambda: iter([Batch(np.zeros_like(empty), empty)])
    with pytest.raises(ValueError, match="validation has nothing that counts"):
        k.trainer.fit(k.source, validation=k.validation, epochs=1, progress=False)


def test_a_training_may_run_in_a_thread():
    from concurrent.futures import ThreadPoolExecutor

    k = kit()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(k.trainer.fit, k.source, epochs=1, progress=False).result().steps == 9


def test_training_imports_what_it_needs_when_it_needs_it():
    code = """
        import sys, fastrnn
        fastrnn.train.Trainer, fastrnn.plot.loss_curve
        print({"tqdm", "safetensors", "matplotlib", "torch"} & set(sys.modules))
    """
    assert run_python(code).stdout == "set()\n"


def test_records_are_plain_json():
    k, records = kit(), []
    k.trainer.fit(k.source, validation=k.validation, epochs=1, history=records, progress=False)
    assert json.loads(json.dumps(records)) == records
