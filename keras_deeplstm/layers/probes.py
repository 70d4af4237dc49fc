"""The protocols for diagnostics: what a `Probe` asks of the loops of a layer, and who watches it.

A probe: additive offsets for the hidden state and the memory cell at each step, whose gradients are
dLoss/dh_l and dLoss/dc_l, and a cut of one of the two paths between steps.

A watcher sees the states and the gates of each step.
"""

import contextlib
import contextvars
from typing import Any, Literal, NamedTuple


class Probe(NamedTuple):
    """What a diagnostic asks of one layer's scan.

    Attributes:
        offsets: A tuple like the carry, `(h,)` or `(h, c)`, of tensors `(steps, rows, units)`; None
            adds nothing. The offset of h_l is added after step l. That of c_l is added within the
            step, before h_l is computed from c_l, so that its gradient is the whole dLoss/dc_l.
        cut: Path whose gradient is stopped between steps: "hidden", "memory" or None.
    """

    offsets: Any = None
    cut: Literal["hidden", "memory"] | None = None


_probes = contextvars.ContextVar("keras_deeplstm_probes", default=None)


@contextlib.contextmanager
def probing(probes):
    """Within this context layers run as probed.

    `probes` maps layers to dicts from directions ("depth"; of `GridLSTM2D` also "time") to `Probe`.
    A layer's `probe_shapes(inputs_shape)` tells its directions, and the shapes of their offsets.
    """
    token = _probes.set(probes)
    try:
        yield
    finally:
        _probes.reset(token)


def probe_of(layer):
    """What is asked of `layer` at present: a dict from directions to `Probe`, mostly empty."""
    return (_probes.get() or {}).get(layer, {})


_watcher = contextvars.ContextVar("keras_deeplstm_watcher", default=None)


@contextlib.contextmanager
def watching(summarize):
    """Within this context layers hand their signals to `summarize`, step by step.

    It takes a dict of tensors by name, `i, f, o` of a step's gates or `h` and `c` of its states,
    and returns a structure of small tensors. Yields the list of these; in place of what is computed
    within a loop there is a list of its own, with the steps as a new first axis.
    """
    seen = []
    token = _watcher.set((summarize, seen))
    try:
        yield seen
    finally:
        _watcher.reset(token)


def watching_step():
    """`watching` for one step of a loop, by who watches the loop; an empty list if nobody does."""
    return watching(_watcher.get()[0]) if is_watched() else contextlib.nullcontext([])


@contextlib.contextmanager
def unwatched():
    """Within this context nobody watches: signals of a nested layer are not those of the outer."""
    token = _watcher.set(None)
    try:
        yield
    finally:
        _watcher.reset(token)


def is_watched():
    """Whether somebody watches, so that no kernel may hide the gates."""
    return _watcher.get() is not None


def watch(**signals):
    """Hand signals to the watcher, if there is one."""
    if is_watched():
        summarize, seen = _watcher.get()
        seen.append(summarize(signals))


def watch_steps(seen):
    """Hand what was seen of the steps of a loop to the watcher, if there is one."""
    if is_watched():
        _watcher.get()[1].append(seen)
