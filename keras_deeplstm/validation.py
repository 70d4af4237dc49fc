"""One wording for wrong arguments, used by layers, callbacks, models and experiments."""

import dataclasses
import difflib
import functools
import math
import numbers
import types
import typing

SHOWN = 100  # characters of a wrong value that a message quotes


def shown(value):
    """A value for a message: its representation, which has no control characters, cut if long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def printable(text, but=""):
    """A text with its control characters written out, except those in `but`."""
    return "".join(c if c.isprintable() or c in but else ascii(c)[1:-1] for c in text)


def suggestion(name, options):
    """ " Did you mean 'mnist'?" if one of the options resembles `name`, else ""."""
    near = difflib.get_close_matches(str(name), [str(o) for o in options if o is not None], n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def refuse(name, expected, value):
    """Raise ValueError: the argument must be what is expected, and was this value."""
    kind = "" if isinstance(value, numbers.Real | type(None)) else f" (of type {type(value)})"
    raise ValueError(f"Argument `{name}` must be {expected}. Received: {name}={shown(value)}{kind}")


def positive_integer(name, value, at_most=None, or_else=None):
    """Return `value` as an int; raise ValueError unless it is an integer in 1 ... `at_most`.

    `or_else` says what else the caller allows.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        refuse(name, "a positive integer" + (f", {or_else}" if or_else else ""), value)
    if at_most is not None and value > at_most:
        refuse(name, f"at most {at_most}", value)
    return int(value)


def integer(name, value, at_least, at_most=None):
    """Return `value` as an int; raise ValueError unless it is one in `at_least` ... `at_most`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < at_least:
        refuse(name, f"an integer of at least {at_least}", value)
    if at_most is not None and value > at_most:
        refuse(name, f"at most {at_most}", value)
    return int(value)


def seed(name, value):
    """Return `value` as an int; raise ValueError unless it is a seed that every backend takes."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not 0 <= value < 2**32:
        refuse(name, "an integer in [0, 4294967295]", value)
    return int(value)


def fraction(name, value):
    """Return `value` as a float; raise ValueError unless 0 <= value < 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= value < 1:
        refuse(name, "a float in the range [0, 1)", value)
    return float(value)


def finite(name, value, positive=False, at_least=None, at_most=None):
    """Return `value` as a float; raise ValueError unless it is finite and within the bounds."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        refuse(name, "a finite number", value)
    if positive and value <= 0:
        refuse(name, "a positive number", value)
    if at_least is not None and value < at_least:
        refuse(name, f"at least {at_least}", value)
    if at_most is not None and value > at_most:
        refuse(name, f"at most {at_most}", value)
    return float(value)


def boolean(name, value, or_else=None):
    """Return `value`; raise ValueError unless it is True or False."""
    if not isinstance(value, bool):
        refuse(name, f"True, False or {or_else}" if or_else else "True or False", value)
    return value


def names(name, value):
    """Return a name or several as a tuple; raise ValueError if it is anything else."""
    found = (value,) if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
        refuse(name, "a name or several", value)
    return tuple(found)


def one_of(name, value, options):
    """Return `value`; raise ValueError, with the nearest option, unless it is one of `options`."""
    if any(value is o or (isinstance(value, str) and value == o) for o in options):
        return value
    raise ValueError(
        f"Argument `{name}` must be one of {list(options)}. "
        f"Received: {name}={shown(value)}.{suggestion(value, options)}"
    )


class Unknown(ValueError):
    """A name that nothing here has, though something elsewhere may."""


def known(what, name, options, also=""):
    """Return `name`; raise Unknown, with the nearest option, unless it is one of `options`."""
    if isinstance(name, str) and name in options:
        return name
    raise Unknown(
        f"Unknown {what} {shown(name)}.{suggestion(name, options)} Available: {list(options)}{also}"
    )


# Dataclasses whose type hints say what their fields may be.


def fields(settings, prefix=""):
    """Check the fields of a dataclass by their type hints; raise ValueError for a wrong one.

    A `Literal` says which values there are. `Annotated[int, positive_integer]` says which function,
    of this module or like them, looks at the value. None is allowed where the hint has it.

    Args:
        settings: The dataclass.
        prefix: What messages put before the names of its fields.
    """
    for name, hint in _hints(type(settings)).items():
        _check(f"{prefix}{name}", getattr(settings, name), hint)


@functools.cache
def _hints(kind):
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _check(name, value, hint, optional=False):
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        function = (types.FunctionType, functools.partial)  # unlike what others say of the field
        for check in (extra for extra in hint.__metadata__ if isinstance(extra, function)):
            check(name, value)
        _check(name, value, hint.__origin__, optional)
    elif origin in (typing.Union, types.UnionType):
        options = [o for m in members if typing.get_origin(m) is typing.Literal for o in m.__args__]
        options += [None] if types.NoneType in members else []
        others = [m for m in members if not _lists_values(m)]
        if not others:
            one_of(name, value, options)
        elif not any(value is option or value == option for option in options):
            _check(name, value, others[0], None in options)
    elif origin is typing.Literal:
        one_of(name, value, members)
    elif hint is bool:
        boolean(name, value, or_else="None" if optional else None)
    elif (hint is str or dataclasses.is_dataclass(hint)) and not isinstance(value, hint):
        what = "a string" if hint is str else f"a {hint.__name__}"
        refuse(name, f"{what} or None" if optional else what, value)


def _lists_values(hint):
    return hint is types.NoneType or typing.get_origin(hint) is typing.Literal
