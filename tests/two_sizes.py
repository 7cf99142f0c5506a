"""A layer over sequences that is no recurrent one of fastrnn's."""

from __future__ import annotations

from fastrnn.nn.composite import Composite


class TwoSizes(Composite):
    """An LSTM under a GRU of another size: a layer that is no recurrent one of fastrnn's."""

    _modules = ("below", "above")

    def __init__(self, below, above):
        self.below, self.above = below, above
        self._assemble()

    @property
    def input_size(self):
        return self.below.input_size

    @property
    def output_size(self):
        return self.above.output_size

    def __call__(self, x, state=None, *, lengths=None):
        state = (None, None) if state is None else state
        y, below = self.below(x, state[0], lengths=lengths)
        y, above = self.above(y, state[1], lengths=lengths)
        return y, (below, above)

    def vjp(self, x, state=None, lengths=None):
        state = (None, None) if state is None else state
        (y, below), to_x = self.below.vjp(x, state[0], lengths)
        (y, above), to_y = self.above.vjp(y, state[1], lengths)

        def pullback(dy, dstate=None):
            dstate = (None, None) if dstate is None else dstate
            dy, d_above = to_y(dy, dstate[1])
            dx, d_below = to_x(dy, dstate[0])
            return dx, (d_below, d_above)

        return (y, (below, above)), pullback

    def stream(self, batch_size=1):
        return TwoStreams(self.below.stream(batch_size), self.above.stream(batch_size))


class TwoStreams:
    def __init__(self, below, above):
        self.both = below, above

    def step(self, x):
        return self.both[1].step(self.both[0].step(x))

    def reset(self):
        for one in self.both:
            one.reset()

    def reorder(self, indices):
        for one in self.both:
            one.reorder(indices)

    @property
    def state(self):
        return tuple(one.state for one in self.both)

    @state.setter
    def state(self, value):
        for one, part in zip(self.both, value, strict=True):
            one.state = part

    def snapshot(self):
        first, second = (one.snapshot() for one in self.both)
        return len(first).to_bytes(4, "little") + first + second

    def restore(self, snapshot):
        end = 4 + int.from_bytes(snapshot[:4], "little")
        self.both[0].restore(snapshot[4:end])
        self.both[1].restore(snapshot[end:])
