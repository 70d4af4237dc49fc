"""The one protocol for diagnostics: what a `Probe` asks of the loops of a layer.

Additive offsets for the hidden state and the memory cell at each step, whose gradients are
dLoss/dh_l and dLoss/dc_l, and a cut of one of the two paths between steps.
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
