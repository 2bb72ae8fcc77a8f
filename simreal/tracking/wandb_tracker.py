"""Weights & Biases. The only module that imports wandb, and only when it is used.

A run of 60 lines that is mirrored after the fact costs about 0.1 s once wandb's service process is up (it is started
once and shared), where a live run would hold a connection open through the whole training.
"""

import functools
import netrc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from simreal.tracking.base import TrackingError
from simreal.tracking.ledger import STEP
from simreal_envs.errors import UserError, require_known

# From the most to the least private.
Mode = Literal["disabled", "offline", "online"]
MODES: tuple[Mode, ...] = get_args(Mode)
# Spellings of WANDB_MODE that wandb itself still takes.
_OLD_MODES = {"dryrun": "offline", "run": "online"}


def logged_in() -> bool:
    """Return whether an API key is at hand: WANDB_API_KEY, or a netrc entry for the host of WANDB_BASE_URL."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname
    given = os.environ.get("NETRC")
    for path in [Path(given)] if given else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if host in netrc.netrc(path).hosts:
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def resolve_mode(mode: str = "auto") -> Mode:
    """Return "online", "offline" or "disabled".

    "auto" is what WANDB_MODE says, else online when logged in, else offline. Of an explicit mode and WANDB_MODE the
    more private one counts, so that neither can send data that the other meant to keep.

    Raises:
        UserError: an unknown mode, or online without an API key.
    """
    require_known(mode, ("auto", *MODES), "wandb mode", "tracking.wandb")
    wish = os.environ.get("WANDB_MODE", "").lower()
    wish = _OLD_MODES.get(wish, wish)
    if wish:
        require_known(wish, MODES, "wandb mode", "WANDB_MODE")
    wishes = {mode, wish} - {"auto", ""} or {"online" if logged_in() else "offline"}
    chosen: Mode = next(known for known in MODES if wishes & {known})
    if chosen == "online" and not logged_in():
        raise UserError("tracking.wandb: 'online' needs an API key; run `wandb login`, set WANDB_API_KEY or use 'auto'")
    return chosen


class WandbTracker:
    """A tracker that writes one W&B run. Makes no files outside `directory`/wandb but wandb's own cache and log.

    Args:
        project, name, group, tags: how the run is filed and called.
        directory: the folder that gets the folder "wandb".
        config: settings of the run, nested mappings of plain values. Must hold no secrets.
        mode: "auto", "offline", "online" or "disabled", see `resolve_mode`.
        run_id: identity of the run; writing one with the same id again replaces it on the server. None draws one.
        job_type: second level of grouping ("source", "arm", "verdicts").
        entity: W&B user or team; None is the default of whoever is logged in.

    Raises:
        UserError: see `resolve_mode`.
        TrackingError: the service cannot be reached or refuses.
    """

    def __init__(
        self,
        project: str,
        name: str,
        *,
        directory: str | os.PathLike[str],
        group: str | None = None,
        config: Mapping[str, Any] | None = None,
        mode: str = "auto",
        run_id: str | None = None,
        tags: Sequence[str] = (),
        job_type: str | None = None,
        entity: str | None = None,
    ) -> None:
        resolved = resolve_mode(mode)
        import wandb  # takes 0.9 s, so only when a run is really wanted

        Path(directory).mkdir(parents=True, exist_ok=True)
        self._staging = Path(directory).resolve() / "wandb" / "staging"
        self._name = name
        self._step = 0
        # Logging in prints before it reads the run's settings.
        with _blamed(name), _environment("WANDB_SILENT", "true"):
            self._run = wandb.init(
                project=project,
                entity=entity,
                name=name,
                group=group,
                config=dict(config or {}),
                id=run_id,
                tags=list(tags) or None,
                job_type=job_type,
                settings=_settings(resolved, Path(directory)),
            )
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record scalars at `step` (environment steps), the x axis of every chart and W&B's own step as well."""
        self._step = int(step)
        self._log({STEP: self._step, **metrics})

    def summary(self, mapping: Mapping[str, Any]) -> None:
        """Update the run's summary."""
        with _blamed(self._name):
            self._run.summary.update(dict(mapping))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Record a wandb.Table; a column that mixes types is allowed."""
        import wandb

        self._log({name: wandb.Table(columns=list(columns), data=[list(r) for r in rows], allow_mixed_types=True)})

    def curves(self, name: str, steps: Sequence[float], lines: Mapping[str, Sequence[float]]) -> None:
        """Record a chart with one line per entry of `lines`, and the table that it is drawn from."""
        import wandb

        plot = wandb.plot.line_series(list(steps), [list(y) for y in lines.values()], list(lines), name, STEP)
        self._log({name: plot})

    def file(self, name: str, path: Path) -> None:
        """Record a film as wandb.Video, a page as wandb.Html. Raises a ValueError for any other suffix."""
        import wandb

        kinds = {".mp4": wandb.Video, ".html": functools.partial(wandb.Html, inject=False)}
        if path.suffix not in kinds:
            raise ValueError(f"{path}: W&B gets films (.mp4) and pages (.html)")
        self._log({name: kinds[path.suffix](str(path))})

    def alert(self, title: str, text: str) -> None:
        """Raise a W&B alert of level WARN: an e-mail or a Slack message, as the user has set it up."""
        with _blamed(self._name):
            self._run.alert(title=title, text=text, level="WARN")

    def close(self) -> None:
        """Finish the run; online, wait until it is uploaded. May be called again.

        wandb's service, a process of its own, writes the last block of an offline run some 10 ms later.
        """
        with _blamed(self._name):
            self._run.finish()

    def _log(self, values: dict[str, Any]) -> None:
        # wandb stages the files of a table in the home directory unless told otherwise.
        with _blamed(self._name), _environment("WANDB_DATA_DIR", str(self._staging)):
            self._run.log(values, step=self._step)


def _settings(mode: Mode, directory: Path) -> Any:
    """Return wandb.Settings for a quiet run that records what we log and nothing about the machine."""
    import wandb

    return wandb.Settings(
        mode=mode,
        root_dir=str(directory),
        silent=True,
        console="off",
        reinit="create_new",  # a run that the user's own program has open stays what it is
        init_timeout=30,  # the default of 90 s is long for a mirror
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        save_code=False,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )


@contextmanager
def _blamed(name: str) -> Iterator[None]:
    """Turn whatever wandb raises inside the block (its own errors, timeouts, broken pipes) into a TrackingError."""
    try:
        yield
    except Exception as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        if key := os.environ.get("WANDB_API_KEY"):
            why = why.replace(key, "<key>")
        raise TrackingError(f"W&B run {name!r} could not be written ({why}); the ledger on disk is complete") from error


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable inside the block, unless the user has set it."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
