"""The smallest model, optimiser and data that a trainer can work with, written to be read."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np


class Result(NamedTuple):
    loss: float
    count: int
    state: object
    correct: int | None


class Batch(NamedTuple):
    inputs: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray | None = None
    fresh: bool = True


class TinyRNN:
    """h_t = tanh(E[x_t] + W h_t-1), logits_t = U (h_t * mask_t), mean cross-entropy.

    Tokens (T, N); a target of -1 counts for nothing; `dropout` acts in `loss_vjp`.
    """

    def __init__(self, vocabulary=5, hidden=4, dropout=0.0, dtype=np.float32, seed=0):
        self.config = {"vocabulary": vocabulary, "hidden": hidden}
        self.dropout, self.generator = dropout, np.random.default_rng(seed + 1)
        shapes = {"E": (vocabulary, hidden), "W": (hidden, hidden), "U": (vocabulary, hidden)}
        size = sum(int(np.prod(shape)) for shape in shapes.values())
        self.flat = np.random.default_rng(seed).normal(0, 0.5, size).astype(dtype)
        self.flat_grad = np.zeros_like(self.flat)
        self.parameters = _views(self.flat, shapes)
        self.grads = _views(self.flat_grad, shapes)
        self.repacked = 0

    def zero_grad(self):
        self.flat_grad.fill(0)

    def repack(self):
        self.repacked += 1

    def loss(self, inputs, targets, state=None, lengths=None):
        return self._forward(inputs, targets, state, np.ones(1, self.flat.dtype))[0]

    def loss_vjp(self, inputs, targets, state=None, lengths=None):
        mask = np.ones((*np.shape(inputs), self.parameters["W"].shape[0]), self.flat.dtype)
        if self.dropout:
            mask *= (self.generator.random(mask.shape) >= self.dropout) / (1 - self.dropout)
        result, hs, probabilities = self._forward(inputs, targets, state, mask)
        real = np.asarray(targets) >= 0

        def backward(scale=1.0, dstate=None):
            W, U, gE, gW, gU = (*list(self.parameters.values())[1:], *self.grads.values())
            dlogits = probabilities - np.eye(len(U))[targets]
            dlogits = (dlogits * real[..., None] * (scale / max(result.count, 1))).astype(W.dtype)
            dh = np.zeros_like(hs[0]) if dstate is None else dstate
            for t in range(len(inputs) - 1, -1, -1):
                gU[...] += dlogits[t].T @ (hs[t + 1] * mask[t])
                da = (dh + dlogits[t] @ U * mask[t]) * (1 - hs[t + 1] ** 2)
                np.add.at(gE, inputs[t], da)
                gW[...] += da.T @ hs[t]
                dh = da @ W
            return dh

        return result, backward

    def _forward(self, inputs, targets, state, mask):
        E, W, U = self.parameters.values()
        hs = [np.zeros((np.shape(inputs)[1], len(W)), W.dtype) if state is None else state]
        for tokens in inputs:
            hs.append(np.tanh(E[tokens] + hs[-1] @ W.T))
        logits = np.stack(hs[1:]) * mask @ U.T
        shifted = logits - logits.max(-1, keepdims=True)
        probabilities = np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)
        picked = np.take_along_axis(probabilities, np.asarray(targets)[..., None] % len(E), -1)
        real = np.asarray(targets) >= 0
        count = int(real.sum())
        loss = float(-np.log(picked[..., 0])[real].sum() / count) if count else float("nan")
        correct = int((logits.argmax(-1) == targets)[real].sum())
        return Result(loss, count, hs[-1].copy(), correct), hs, probabilities


class Momentum:
    """v = 0.9 v + g; p = p - lr v"""

    def __init__(self, model, lr=0.1):
        self.model, self.lr, self.count = model, lr, 0
        self.velocity = np.zeros_like(model.flat)

    def step(self):
        self.velocity *= 0.9
        self.velocity += self.model.flat_grad
        self.model.flat -= self.velocity.dtype.type(self.lr) * self.velocity
        self.count += 1
        self.model.repack()

    def state_dict(self):
        return {"velocity": self.velocity, "count": self.count, "lr": self.lr}

    def load_state_dict(self, state):
        self.velocity[...] = state["velocity"]
        self.count, self.lr = state["count"], state["lr"]


class Recorder(Momentum):
    """Keeps the gradients it is shown and changes nothing."""

    def __init__(self, model):
        super().__init__(model)
        self.gradients = []

    def step(self):
        self.gradients.append(self.model.flat_grad.copy())


class Windows:
    """A text (S, N) in windows of `steps`; `shuffled` ones are drawn anew and start fresh."""

    def __init__(self, tokens, steps, shuffled=False, seed=0):
        self.tokens, self.steps, self.shuffled = np.asarray(tokens), steps, shuffled
        self.generator = np.random.default_rng(seed)
        self._begin(0)

    def _begin(self, epoch):
        self.start = dict(self.generator.bit_generator.state)
        order = np.arange(self.num_batches)
        self.order = self.generator.permutation(order) if self.shuffled else order
        self.epoch, self.position = epoch, 0

    @property
    def num_batches(self):
        return -(-(len(self.tokens) - 1) // self.steps)

    def batches(self):
        while self.position < self.num_batches:
            first = int(self.order[self.position]) * self.steps
            last = min(first + self.steps, len(self.tokens) - 1)
            self.position += 1
            inputs, targets = self.tokens[first:last], self.tokens[first + 1 : last + 1]
            yield Batch(inputs, targets, fresh=self.shuffled or self.position == 1)
        self._begin(self.epoch + 1)

    def state_dict(self):
        place = {"epoch": self.epoch, "position": self.position, "start": self.start}
        return json.loads(json.dumps({"size": len(self.tokens), **place}))

    def load_state_dict(self, state):
        if state["size"] != len(self.tokens):
            raise ValueError(f"size is {len(self.tokens)}, the saved one is {state['size']}")
        self.generator.bit_generator.state = state["start"]
        self._begin(state["epoch"])
        self.position = state["position"]


def text(length=61, rows=3, vocabulary=5, seed=0):
    """A text (length, rows) in which each token says most of the next one."""
    rng = np.random.default_rng(seed)
    tokens = np.cumsum(rng.choice([1, 2], (length, rows), p=[0.8, 0.2]), axis=0)
    return tokens % vocabulary


def recorder(model, **options):
    """A trainer of a float64 model, exact where the kernels' norm is not: it takes no part."""
    from fastrnn.train import Trainer

    trainer = Trainer(model, Recorder(model), **options)
    trainer._clip = lambda loss, lr: 0.0
    return trainer


def kit(dropout=0.0, steps=7, shuffled=False, **options):
    """A trainer for a new tiny model, with data for training and validation."""
    from fastrnn.train import Trainer

    model = TinyRNN(dropout=dropout)
    trainer = Trainer(model, Momentum(model, lr=0.05), **{"clip_norm": 1.0, **options})
    source, validation = Windows(text(), steps, shuffled), Windows(text(seed=1), steps)
    return SimpleNamespace(model=model, trainer=trainer, source=source, validation=validation)


def _views(flat, shapes):
    views, start = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        views[name] = flat[start : start + size].reshape(shape)
        start += size
    return views
