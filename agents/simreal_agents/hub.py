"""Bundles on the Hugging Face Hub: ``hub:user/name`` to push to, ``hf:user/name`` wherever a bundle is read.

A repository holds the files of a bundle and a model card made of its card. What comes back is verified by
``bundle.load`` like any other bundle. Tokens are those of the Hub's own login (``hf auth login``, ``HF_TOKEN``); nothing
here reads, stores or prints one. ``HF_ENDPOINT`` and ``HF_HUB_OFFLINE`` work as everywhere.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simreal_agents.bundle_files import CARD, KEPT, WEIGHTS
from simreal_envs.errors import Unsupported, UserError

log = logging.getLogger(__name__)

PREFIX, TO = "hf:", "hub:"
FILES = (CARD, WEIGHTS)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]*")


def push(folder: Path, name: str) -> str:
    """Upload a bundle that has been verified, with a model card, as one commit; returns the repository's address.

    The repository is made if it is not there.

    Args:
        name: ``user/name``.

    Raises:
        UserError: the name is none, or the Hub refuses, e.g. without a login.
        Unsupported: huggingface_hub is not installed.
    """
    name, _ = parsed(name)
    hub = _package()
    card = json.loads((folder / CARD).read_bytes())
    files: dict[str, Any] = {file: str(folder / file) for file in _files(card)}
    files["README.md"] = model_card(card, name).encode()
    operations = [hub.CommitOperationAdd(path_in_repo=path, path_or_fileobj=content) for path, content in files.items()]
    api = hub.HfApi()
    log.warning("simreal: connecting to %s, to send %s", api.endpoint, name)
    try:
        api.create_repo(name, exist_ok=True)
        api.create_commit(name, operations, commit_message=f"simreal bundle {card['card_sha256'][:12]}")
    except Exception as error:  # of whatever the Hub's client is built on
        raise UserError(f"{TO}{name}: {_reason(hub, error)}") from error
    return f"{api.endpoint}/{name}"


def pull(name: str) -> Path:
    """The folder that a bundle of the Hub was downloaded to; a revision that is there already is not loaded again.

    Args:
        name: ``user/name``, or ``user/name@revision`` for a branch, tag or commit.

    Raises:
        UserError: the name is none, there is no such bundle, or the Hub cannot be reached.
        Unsupported: huggingface_hub is not installed.
    """
    name, revision = parsed(name)
    hub = _package()
    api = hub.HfApi()
    try:
        alone = not _answers(hub, api, name, revision)
        card = Path(api.hf_hub_download(name, CARD, revision=revision, local_files_only=alone))
        commit, wanted = card.parent.name, _files(_plain(card))
        files = [
            card,
            *(Path(api.hf_hub_download(name, file, revision=commit, local_files_only=alone)) for file in wanted[1:]),
        ]
    except Exception as error:  # of whatever the Hub's client is built on
        raise UserError(f"{PREFIX}{name}: {_reason(hub, error)}") from error
    # The Hub's cache is made of links, and a bundle holds plain files of its own.
    folder = Path(hub.constants.HF_HOME) / "simreal" / name.replace("/", "--") / commit
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
        try:
            for file in files:
                shutil.copyfile(file, work / file.name)
            os.chmod(work, 0o755)
            os.rename(work, folder)
        except OSError:
            if not folder.exists():  # else another process was faster
                raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder


def _answers(hub: Any, api: Any, name: str, revision: str | None) -> bool:
    """Whether the Hub answers, whatever it says; a commit that is there already needs no answer.

    A download that fails is repeated by the Hub's client, for half a minute and without a word. This asks once, and says so.
    """
    known = hub.try_to_load_from_cache(name, CARD, revision=revision)
    if isinstance(known, str) and Path(known).parent.name == revision:
        return True
    log.warning("simreal: connecting to %s, for %s", api.endpoint, name)
    try:
        api.get_hf_file_metadata(url=hub.hf_hub_url(name, CARD, revision=revision, endpoint=api.endpoint))
    except Exception as error:  # of whatever the Hub's client is built on
        return getattr(error, "response", None) is not None
    return True


def _files(card: Mapping[str, Any]) -> list[str]:
    return [*FILES, *(file for key, (file, _) in KEPT.items() if key in card)]


def _plain(card: Path) -> dict[str, Any]:
    """A card of anybody's; what is none is left to ``bundle.load`` to refuse."""
    try:
        found = json.loads(card.read_bytes())
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def parsed(name: str) -> tuple[str, str | None]:
    """Repository and revision of ``user/name@revision``.

    Raises:
        UserError: it is neither that nor ``user/name``.
    """
    repository, at, revision = name.removeprefix(PREFIX).removeprefix(TO).partition("@")
    fits = _NAME.fullmatch(repository) and (not at or (_REVISION.fullmatch(revision) and ".." not in revision))
    if not fits or ".." in repository:
        raise UserError(
            f"{name!r} names no repository of the Hugging Face Hub; expected user/name or user/name@revision"
        )
    return repository, revision or None


def model_card(card: Mapping[str, Any], name: str) -> str:
    """The README.md of a repository: what the agent sees and does, how it was made and how to use it.

    Args:
        card: of the bundle.
        name: ``user/name``.
    """
    domain = card["domain"] if isinstance(card.get("domain"), dict) else {}
    algorithm, task = card.get("algorithm", "ppo"), domain.get("task") or "unknown task"
    tags = [
        "reinforcement-learning",
        "sim-to-real",
        "simreal",
        algorithm,
        *([domain["task"]] if "task" in domain else []),
    ]
    facts = {
        "task": f"{task} on {domain.get('engine', 'unknown engine')}",
        "variation": json.dumps(domain["variation"]) if domain.get("variation") else "none",
        "algorithm": algorithm,
        "steps": card.get("env_steps", "unknown"),
        "network": ", ".join(f"{key} {value}" for key, value in card["network"].items()),
        "control period": f"{card['schema']['control_period']:g} s",
        "ancestors": len(card.get("ancestors", [])) or "none",
        "surgery": card["surgery"]["says"] if "surgery" in card else "none",
        "sha256 of the card": card["card_sha256"],
    }
    match card.get("returns"):
        case [*_, {"return_mean": mean, "return_std": std, "episodes": episodes}]:
            facts["return"] = f"{mean:.4g} ± {std:.2g} (deterministic, {episodes} episodes)"
    fields = [
        [kind, f["name"], ", ".join(map(str, f["labels"])), f["unit"], _range(f)]
        for kind in ("observation", "action")
        for f in card["schema"][kind]
    ]
    head = {"library_name": "simreal", "tags": tags}
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---", "", f"# {name}", ""]
    lines += [f"An agent of simreal, trained with {algorithm} for {task}.", ""]
    lines += _table(("", ""), list(facts.items()))
    lines += _table(("", "field", "elements", "unit", "range"), fields)
    lines += ["```python", "import simreal as sr", "", f'agent = sr.load("{PREFIX}{name}")', "```", ""]
    lines += [
        f"`simreal inspect {PREFIX}{name}` shows everything that the bundle says of itself. Nothing in it executes.",
        "",
    ]
    return "\n".join(lines)


def _range(field: Mapping[str, Any]) -> str:
    size = " x ".join(map(str, field.get("grid", ())))
    low, high = (field[bound] for bound in ("low", "high"))
    if field.get("discrete"):
        return f"one of {len(field['labels'])}"
    limits = "unbounded" if low is None and high is None else f"{low} to {high}"
    return f"{size} pixels, {limits}" if size else limits


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    def line(cells: Sequence[Any]) -> str:
        return "| " + " | ".join(re.sub(r"\s+", " ", str(cell)).replace("|", "\\|") for cell in cells) + " |"

    return [line(head), line(["---"] * len(head)), *map(line, rows), ""]


def _package() -> Any:
    try:
        for module in ("constants", "errors"):
            importlib.import_module(f"huggingface_hub.{module}")
        # Of its retries: what came of them is said once.
        importlib.import_module("huggingface_hub.utils.logging").set_verbosity_error()
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise Unsupported("the Hub needs huggingface_hub; install it with: pip install 'simreal[hub]'") from error


def _reason(hub: Any, error: Exception) -> str:
    """What went wrong, without what the Hub's client says of requests and headers."""
    errors, status = hub.errors, getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.RevisionNotFoundError):
        return "there is no such revision"
    if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
        return f"it is no bundle of simreal, which has the files {' and '.join(FILES)}"
    if status in (401, 403):
        return "the Hub refuses: there is no such repository, or it needs a login with rights for it (hf auth login)"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such repository on the Hub"
    if status is not None:
        return f"the Hub answered with status {status}"
    return f"the Hub could not be reached, or its answer not be understood ({type(error).__name__})"
