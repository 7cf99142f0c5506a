"""Learning rate schedules against PyTorch's."""

from __future__ import annotations

import json
import math

import pytest

from fastrnn import schedules
from fastrnn.optim.schedules import Constant, Cosine, Exponential, Plateau, StepDecay, Warmup

RATE = 0.3


def of_pytorch(make, steps):
    """The rates that a scheduler of PyTorch gives to so many steps."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def warm_cosine(lib, optimizer):
    parts = [
        lib.LinearLR(optimizer, start_factor=0.1, total_iters=5),
        lib.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.01),
    ]
    return lib.SequentialLR(optimizer, parts, milestones=[5])


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Constant(RATE), lambda lib, o: lib.ConstantLR(o, factor=1.0)),
        (Cosine(RATE, 24, 0.02), lambda lib, o: lib.CosineAnnealingLR(o, 24, eta_min=0.02)),
        (StepDecay(RATE, 7, 0.5), lambda lib, o: lib.StepLR(o, 7, gamma=0.5)),
        (Exponential(RATE, 0.9), lambda lib, o: lib.ExponentialLR(o, gamma=0.9)),
        (Warmup(Constant(RATE), 10, 0.2), lambda lib, o: lib.LinearLR(o, 0.2, total_iters=10)),
        (Warmup(Cosine(RATE, 20, 0.01), 5, 0.1), warm_cosine),
    ],
    ids=["constant", "cosine", "step", "exponential", "warmup", "warmup-cosine"],
)
def test_rates_equal_pytorch_s(ours, theirs):
    wanted = of_pytorch(theirs, 25)
    assert [ours.lr(step) for step in range(25)] == pytest.approx(wanted, rel=1e-12)
    assert [ours.lr(step) for step in (24, 3, 0)] == pytest.approx(
        [wanted[24], wanted[3], wanted[0]]
    )


METRICS = [5, 4, 4, 4, 3.9999, 4.1, 3, 3, 3, 3, math.nan, 2.9999, 2.999, 2.5, 7, 7, 7, 7, 7, 7, 7]


@pytest.mark.parametrize(
    "options",
    [
        {"factor": 0.5, "patience": 1},
        {"factor": 0.5, "patience": 2, "cooldown": 2},
        {"factor": 0.1, "patience": 0, "threshold": 0.5, "threshold_mode": "abs"},
        {"factor": 0.5, "patience": 1, "mode": "max"},
        {"factor": 0.5, "patience": 1, "mode": "max", "threshold_mode": "abs", "threshold": 0.1},
        {"factor": 0.2, "patience": 0, "low": 0.05},
        {"factor": 0.2, "patience": 0, "eps": 0.01},
    ],
)
def test_a_plateau_cuts_the_rate_where_pytorch_does(options):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    theirs = {"min_lr" if name == "low" else name: value for name, value in options.items()}
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **theirs)
    plateau, rates = Plateau(RATE, **options), set()
    for step, metric in enumerate(METRICS):
        scheduler.step(metric)
        plateau.observe(metric)
        assert plateau.lr(step) == optimizer.param_groups[0]["lr"]
        rates.add(plateau.lr(step))
    assert len(rates) > 1


@pytest.mark.parametrize("cut", [0, 1, 6, 15])
def test_a_plateau_continues_from_its_saved_state(cut):
    whole = Warmup(Plateau(RATE, factor=0.5, patience=1, cooldown=1), 4)
    for metric in METRICS[:cut]:
        whole.observe(metric)
    resumed = Warmup(Plateau(RATE, factor=0.5, patience=1, cooldown=1), 4)
    resumed.load_state_dict(json.loads(json.dumps(whole.state_dict(), allow_nan=False)))
    for step, metric in enumerate(METRICS[cut:]):
        whole.observe(metric)
        resumed.observe(metric)
        assert resumed.lr(step) == whole.lr(step)


def test_rates_stay_at_the_end():
    assert Cosine(RATE, 10, 0.01).lr(10_000) == 0.01
    assert Warmup(Cosine(RATE, 10), 5).lr(5) == RATE
    assert Warmup(Constant(RATE), 5).lr(0) == 0.0


def test_pure_schedules_have_no_state():
    for schedule in (Constant(1), Cosine(1, 5), StepDecay(1, 5), Exponential(1, 0.5)):
        schedule.observe(1.0)
        assert schedule.state_dict() == {}
        schedule.load_state_dict({})
        with pytest.raises(ValueError, match="state has"):
            schedule.load_state_dict({"rate": 1.0})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(-1), "rate is -1"),
        (lambda: Constant(math.inf), "rate is inf"),
        (lambda: Constant("fast"), "rate is 'fast'"),
        (lambda: Cosine(0.1, 0), "steps must be greater than zero"),
        (lambda: Cosine(0.1, 5, 0.2), "low is 0.2"),
        (lambda: StepDecay(0.1, 5, 1.5), "factor is 1.5"),
        (lambda: Exponential(0.1, math.nan), "factor is nan"),
        (lambda: Warmup(0.1, 5), "after should be a schedule"),
        (lambda: Warmup(Constant(0.1), 5, 2.0), "start is 2.0"),
        (lambda: Plateau(0.1, factor=1.0), "factor is 1"),
        (lambda: Plateau(0.1, patience=-1), "patience is -1"),
        (lambda: Plateau(0.1, mode="best"), "mode is 'best'"),
        (lambda: Plateau(0.1).load_state_dict({"rate": 1}), "state has"),
        (lambda: Constant(0.1).lr(-1), "step is -1"),
        (lambda: schedules.Plateau(0.1).lr(-1), "step is -1"),
    ],
)
def test_impossible_settings_are_errors(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
