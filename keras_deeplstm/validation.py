"""One wording for wrong arguments, used by layers, callbacks, models and experiments."""

import difflib
import math
import numbers

SHOWN = 100  # characters of a wrong value that a message quotes


def shown(value):
    """A value for a message: its representation, which has no control characters, cut if long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def printable(text, but=""):
    """A text with its control characters written out, except those in `but`."""
    return "".join(c if c.isprintable() or c in but else ascii(c)[1:-1] for c in text)


def _refuse(name, expected, value):
    kind = "" if isinstance(value, numbers.Real | type(None)) else f" (of type {type(value)})"
    raise ValueError(f"Argument `{name}` must be {expected}. Received: {name}={shown(value)}{kind}")


def positive_integer(name, value, at_most=None, or_else=None):
    """Return `value` as an int; raise ValueError unless it is an integer in 1 ... `at_most`.

    `or_else` says what else the caller allows.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        _refuse(name, "a positive integer" + (f", {or_else}" if or_else else ""), value)
    if at_most is not None and value > at_most:
        _refuse(name, f"at most {at_most}", value)
    return int(value)


def integer(name, value, at_least, at_most=None):
    """Return `value` as an int; raise ValueError unless it is one in `at_least` ... `at_most`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < at_least:
        _refuse(name, f"an integer of at least {at_least}", value)
    if at_most is not None and value > at_most:
        _refuse(name, f"at most {at_most}", value)
    return int(value)


def seed(name, value):
    """Return `value` as an int; raise ValueError unless it is a seed that every backend takes."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not 0 <= value < 2**32:
        _refuse(name, "an integer in [0, 4294967295]", value)
    return int(value)


def fraction(name, value):
    """Return `value` as a float; raise ValueError unless 0 <= value < 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= value < 1:
        _refuse(name, "a float in the range [0, 1)", value)
    return float(value)


def finite(name, value, positive=False):
    """Return `value` as a float; raise ValueError unless it is a finite (positive) number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        _refuse(name, "a finite number", value)
    if positive and value <= 0:
        _refuse(name, "a positive number", value)
    return float(value)


def boolean(name, value):
    """Return `value`; raise ValueError unless it is True or False."""
    if not isinstance(value, bool):
        _refuse(name, "True or False", value)
    return value


def names(name, value):
    """Return a name or several as a tuple; raise ValueError if it is anything else."""
    found = (value,) if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
        _refuse(name, "a name or several", value)
    return tuple(found)


def one_of(name, value, options):
    """Return `value`; raise ValueError, with the nearest option, unless it is one of `options`."""
    if isinstance(value, str | None) and value in options:
        return value
    near = difflib.get_close_matches(str(value), [o for o in options if o is not None], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"Argument `{name}` must be one of {list(options)}. Received: {name}={shown(value)}.{hint}"
    )
