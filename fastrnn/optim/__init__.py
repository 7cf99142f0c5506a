"""Optimisers, schedules of their learning rate, and clipping of gradients."""

from fastrnn.optim.clip import clip_grad_norm, clip_grad_value
from fastrnn.optim.optimizer import Optimizer
from fastrnn.optim.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "clip_grad_norm",
    "clip_grad_value",
]
