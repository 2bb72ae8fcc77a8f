"""The command line: one subcommand per verb.

Results go to stdout (with ``--json`` as one JSON object or list), progress to stderr. Exit status: 0 done, 1 failed,
2 the input is wrong (one sentence, no traceback), 130 interrupted.

    training.py    run, pretrain, transfer
    verdicts.py    diagnose, report
    watching.py    evaluate, video, view
    agents.py      inspect, fit, export, import
    worlds.py      parity, audit
    available.py   list, doctor
    arguments.py   what several of them are given, output.py what they print

Verbs import what they need when they run: help and refusals come at once.
"""

import io
import sys
import warnings
from collections.abc import Callable
from inspect import signature
from typing import Annotated, Any, get_type_hints

import tyro

from simreal.cli.agents import export, fit, import_, inspect
from simreal.cli.available import doctor, list_
from simreal.cli.training import pretrain, run, transfer
from simreal.cli.verdicts import diagnose, report
from simreal.cli.watching import evaluate, video, view
from simreal.cli.worlds import audit, parity
from simreal_envs.errors import UserError


def _quiet(command: Callable[..., None]) -> None:
    """Let the help of a command show no defaults that mean "not given"; what happens then is said in words."""
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in signature(command).parameters.items():
        if parameter.default in (None, "", ()) or parameter.default is False:
            hints[name] = Annotated[hints[name], tyro.conf.arg(help_behavior_hint="")]
    command.__annotations__ = hints


COMMANDS = {
    "run": run, "pretrain": pretrain, "transfer": transfer, "evaluate": evaluate, "diagnose": diagnose, "report": report,
    "inspect": inspect, "fit": fit,
    "video": video, "view": view, "parity": parity, "audit": audit, "export": export, "import": import_, "list": list_, "doctor": doctor,
}  # fmt: skip
for command in COMMANDS.values():
    _quiet(command)


def main() -> None:
    """Entry point of the command `simreal`."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a symbol that the terminal's encoding lacks costs no result
        sys.stdout.reconfigure(errors="replace")
    warnings.formatwarning = _sentence
    warnings.filterwarnings("once", category=UserWarning, append=True)  # also where several processes found the same
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="simreal",
            description="Does the transferred agent help, does it hurt, and why?",
            sort_subcommands=False,
            config=(tyro.conf.DisallowNone,),  # whose help would offer it
        )
    except UserError as error:
        _exit(2, str(error))
    except KeyboardInterrupt:
        _exit(130, f"interrupted{_continues()}")
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(1) from None
    except OSError as error:  # a full disk, a folder that takes no files: nobody's mistake, and nothing to trace
        where = f"{error.filename}: " if error.filename else ""
        _exit(1, f"{where}{error.strerror or error}{_continues()}")
    except Exception as error:
        from simreal.execution import StageError
        from simreal.tracking.base import TrackingError
        from simreal.worker import out_of_memory

        if out_of_memory(error):
            _exit(1, f"there is not enough memory for this: {' '.join(str(error).split())}{_continues()}")
        # FloatingPointError: a world or a loss gave numbers that are not finite.
        if not isinstance(error, (StageError, TrackingError, FloatingPointError)):
            raise
        _exit(1, str(error))


def _continues() -> str:
    """How a sentence about an interrupted command ends."""
    return (
        "; the same command continues where it stopped"
        if sys.argv[1:2] in (["run"], ["pretrain"], ["transfer"])
        else ""
    )


def _sentence(message: Warning | str, category: type[Warning], *place: Any) -> str:
    """A warning on a terminal: who typed a command has no use for the line of code that it came from, but for a bug's."""
    return (
        f"simreal: warning: {message}\n" if issubclass(category, UserWarning) else _formatted(message, category, *place)
    )


_formatted = warnings.formatwarning


def _exit(status: int, sentences: str) -> None:
    for sentence in sentences.splitlines():
        print(f"simreal: {sentence}", file=sys.stderr)
    raise SystemExit(status)
