"""The one exception a user's mistake raises, and the words it uses.

UserError            one sentence: what was given, what was expected, the nearest valid name, where
└── Unsupported      the request is well-formed, but this engine or installation cannot do it
"""

import difflib
import reprlib
import traceback
from collections.abc import Container, Iterable, Mapping


class UserError(ValueError):
    """A mistake in the user's input. The command line prints the sentence and exits with status 2."""


class Unsupported(UserError):
    """A valid request that the chosen engine, task or installation cannot carry out."""


def told(error: BaseException) -> str:
    """What somebody else's exception says, on one line, with its kind where the words alone may say little, and with its
    place where there are none, as of a bare assert."""
    words = " ".join(str(error).split()).removeprefix("Error: ")  # MuJoCo's begin with it
    if not words and (places := traceback.extract_tb(error.__traceback__)):
        words = f"{places[-1].line} ({raised_at(error)})"
    return words if isinstance(error, (ImportError, AttributeError, UserError)) else f"{type(error).__name__}: {words}"


def raised_at(error: BaseException, packages: Container[str] | None = None) -> str:
    """Where an exception was raised, as ``FILE:LINE``: of the lines that led to it, the last one in any of these packages (as
    they are imported; default: in any). Empty where there is none."""
    places = [
        f"{frame.f_code.co_filename}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if packages is None or frame.f_globals.get("__name__", "").partition(".")[0] in packages
    ]
    return places[-1] if places else ""


_SHOWN = 8  # so many names fit into a sentence; of more, some are shown


def nearest(name: str, options: Iterable[str]) -> str:
    """Return ``"did you mean 'x'? "`` plus the valid names, to end an error sentence with.

    Of many valid names the most alike are shown, and how many there are.
    """
    options = sorted(options)
    close = difflib.get_close_matches(str(name), options, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    if len(options) <= _SHOWN:
        return f"{hint}valid: {', '.join(options) or 'none'}"
    alike = difflib.get_close_matches(str(name), options, n=_SHOWN - 2, cutoff=0.0)
    return f"{hint}valid: {', '.join(alike)}, ... ({len(options)} in all)"


def at(where: str) -> str:
    """What a sentence about something that was found there begins with: ``"where: "``, or nothing."""
    return f"{where}: " if where else ""


def require_known(name: str, options: Iterable[str], what: str, where: str = "") -> str:
    """Return `name` if it is one of `options`, else raise a UserError that names the nearest one.

    Args:
        what: the kind of thing, as a noun phrase ("strategy", "parameter of cartpole_swingup").
        where: file, key or call the name came from; may be empty.
    """
    options = list(options)
    if name in options:
        return name
    raise UserError(f"{at(where)}unknown {what} {name!r}; {nearest(name, options)}")


def require_keys(data: object, keys: Iterable[str], what: str, form: str, where: str = "") -> None:
    """Raise a UserError unless this is a mapping with none but these keys; `form` is how one is written, for the sentence."""
    if not isinstance(data, Mapping):
        raise UserError(f"{at(where)}{what} takes {form}, not {data!r}")
    for key in data:
        require_known(str(key), keys, f"key of {what}", where)


def require_a(kind: type, value: object, what: str, like: str) -> None:
    """Raise a UserError unless `value` is a `kind`.

    Args:
        what: the argument, as a noun phrase ("the target").
        like: how one is made, for the sentence.
    """
    if not isinstance(value, kind):
        raise UserError(f"{what} must be what {like} gives, not {reprlib.repr(value)}")
