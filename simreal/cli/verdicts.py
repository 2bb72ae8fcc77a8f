"""What helped: `diagnose` gives metrics and verdicts, `report` writes or compares pages of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from simreal.cli.arguments import Json
from simreal.cli.output import print_json
from simreal_envs.errors import UserError

if TYPE_CHECKING:
    from simreal.diagnostics.curves import Curves
    from simreal.diagnostics.planning import Spread
    from simreal.diagnostics.table import Columns


def diagnose(
    folder: Annotated[Positional[Path | None], arg(metavar="[DIR]", help="folder of an experiment")] = None, /, *,
    csv: tuple[Path, ...] | None = None, control: str = "scratch", random: float | None = None, reference: float | None = None,
    arm_column: str = "", seed_column: str = "", step_column: str = "", return_column: str = "", target_column: str = "",
    margin: float | None = None, confidence: float | None = None, threshold: float | None = None, min_seeds: int | None = None,
    paired: Literal["never", "always", "auto"] | None = None, plan: bool = False, effect: float = 0.2,
    spread: float | None = None, chance: float = 0.8, verdicts: int | None = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Compute metrics and verdicts from the finished arms of an experiment, or from anybody's learning curves.

    Args:
        csv: files with columns arm, seed, step and return; a file may be one arm or one run, named scratch_seed3.csv.
        control: name of the arm that was trained from scratch, in the files.
        random: return of a random policy, the 0 of normalized returns (default: the first return of the control arm).
        reference: return that counts as 1 (default: the best mean return of any arm).
        arm_column: name of the column in the files (default: the usual names, here and below).
        seed_column: which seed.
        step_column: environment steps.
        return_column: return of an evaluation.
        target_column: where several targets lie in one file.
        margin: normalized area too small to care about (default: 0.05; an experiment has its own rule).
        confidence: of intervals and verdicts (default: 0.95).
        threshold: normalized return for the time to threshold (default: 0.8).
        min_seeds: with fewer every verdict is inconclusive (default: 5).
        paired: compare arms seed by seed; auto does where their areas go together over seeds (default: never).
        plan: say how many seeds to buy, with the spread given or estimated from the curves as a pilot.
        effect: difference of normalized areas worth finding, for a plan.
        spread: standard deviation of the normalized area between seeds, for a plan without curves.
        chance: of finding the effect if it is there, for a plan.
        verdicts: how many are taken at once, for a plan (default: the arms of the pilot, else 1).
    """
    from simreal.diagnostics.planning import plan_seeds, spread_of
    from simreal.diagnostics.table import Columns, diagnose_files
    from simreal.report.terminal import print_plan, print_verdicts

    if csv == ():
        raise UserError("--csv names no file: expected one or several, as in --csv curves.csv")
    if (folder is not None) + bool(csv) + (spread is not None) != 1 or (spread is not None and not plan):
        raise UserError("diagnose takes the folder of an experiment, --csv FILES, or --plan with --spread: one of them")
    _refuse_unused({
        "for --csv": {} if csv else {
            "control": control != "scratch", "random": random is not None, "reference": reference is not None,
            "arm-column": arm_column, "seed-column": seed_column, "step-column": step_column,
            "return-column": return_column, "target-column": target_column,
        },
        "for --plan": {} if plan else {"effect": effect != 0.2, "chance": chance != 0.8, "verdicts": verdicts is not None},
        # The one decides no label, the other none before there are runs.
        "for verdicts, not for --plan": {"threshold": threshold is not None, "paired": paired is not None} if plan else {},
    })  # fmt: skip
    pairing = None if paired is None else {"never": False, "always": True}.get(paired, paired)
    given = {
        "margin": margin, "confidence": confidence, "min_seeds": min_seeds, "threshold": threshold, "paired": pairing
    }  # fmt: skip
    rule: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if folder and not plan and rule:
        raise UserError(
            f"{folder} has its own rule, the key `verdict` of its config; --{next(iter(rule)).replace('_', '-')} is for --csv and --plan"
        )
    columns = Columns(arm_column, seed_column, step_column, return_column, target_column)
    data = {"control": control, "random_return": random, "reference_return": reference}
    if not plan:
        found = _report(folder) if folder else diagnose_files(csv, columns, **data, **rule)
        return print_json(found) if json else print_verdicts(found)
    width: float | Spread | None = spread
    if width is None:
        pilot, usual = _pilot(folder, csv, columns, data)
        width, rule = spread_of(pilot), usual | rule
        taken = sum(len(arms) - 1 for arms in pilot.values()) or 1
        verdicts = taken if verdicts is None else verdicts
    found = plan_seeds(effect, width, chance, verdicts=1 if verdicts is None else verdicts, **rule).to_dict()
    print_json(found) if json else print_plan(found)


def _refuse_unused(given: Mapping[str, Mapping[str, object]]) -> None:
    """Raise a UserError for the first option that was given where it does nothing, by what such options are for."""
    for purpose, options in given.items():
        if unused := next((name for name, value in options.items() if value), None):
            raise UserError(f"--{unused} is {purpose}; leave it away")


def _pilot(
    folder: Path | None, csv: tuple[Path, ...] | None, columns: Columns, data: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Curves]], dict[str, Any]]:
    """Curves of a pilot by target and arm, and the rule of an experiment that it was."""
    from simreal.diagnostics.planning import pilot_of
    from simreal.diagnostics.table import read_pilot

    if not folder:
        return read_pilot(csv, columns, **data), {}
    known = _report(folder)
    return pilot_of(known), {name: known["settings"][name] for name in ("margin", "confidence", "min_seeds")}


def _report(folder: Path) -> dict[str, Any]:
    from simreal.results import build_report

    return build_report(folder)


def report(
    folders: Annotated[
        Positional[tuple[Path, ...]],
        arg(metavar="DIR [DIR ...]", help="folder of an experiment; several are compared", help_behavior_hint="(required)"),
    ],
    /, *, out: Path | None = None, json: Json = False,
) -> None:  # fmt: skip
    """Write report.html and report.json from the finished arms of an experiment, or compare several experiments.

    Args:
        out: the HTML of a comparison, its JSON goes beside it (default: comparison.html).
    """
    from simreal.report.terminal import print_comparison
    from simreal.results import write_report

    if len(folders) > 1:
        from simreal.side_by_side import compare_reports

        page = out or Path("comparison.html")
        result = compare_reports(folders, page)
        if json:
            return print_json(result)
        print_comparison(result)
        print(f"\n{page}\n{page.with_suffix('.json')}")
        return
    if not folders or out:
        raise UserError(
            "--out is for comparing several folders" if folders else "report needs the folder of an experiment"
        )
    result = write_report(folders[0])
    print_json(result) if json else print(f"{folders[0] / 'report.html'}\n{folders[0] / 'report.json'}")
