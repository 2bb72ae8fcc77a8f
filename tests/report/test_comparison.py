import copy
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from simreal.cli import report as run_report
from simreal.report.comparison import compare, differences, labels, render
from simreal.report.terminal import print_comparison
from simreal_envs.errors import UserError


@pytest.fixture
def other(report):
    """The same experiment with a reversed drive that is milder, and one verdict that changed."""
    changed = copy.deepcopy(report)
    changed["experiment"] = "milder"
    changed["targets"]["reversed"]["parameters"][0]["text"] = "-0.5"
    (arm,) = [a for a in changed["arms"] if (a["target"], a["strategy"]) == ("reversed", "fine_tune")]
    arm |= {"verdict": "neutral", "area": {"value": 0.01, "low": -0.02, "high": 0.04}}
    changed["arms"] = [a for a in changed["arms"] if (a["target"], a["strategy"]) != ("heavy", "zero_shot")]
    changed["reproduce"] = {
        "command": "simreal run milder.yaml",
        "config": "name: milder\nseeds: 5\nverdict: {margin: 0.1}\n",
    }
    changed["normalization"]["engine_default"] = {"random": 6.2, "reference": 1100.0}
    return changed


@pytest.fixture
def both(report, other):
    return compare({"quickstart": report, "milder": other})


def test_verdicts_stand_side_by_side_and_what_changed_is_said(both):
    rows = {(row["target"], row["strategy"]): row["of"] for row in both["verdicts"]}
    assert len(rows) == 9
    assert [one["verdict"] for one in rows["reversed", "fine_tune"].values()] == ["negative", "neutral"]
    assert (
        rows["heavy", "zero_shot"]["milder"] is None
        and rows["heavy", "zero_shot"]["quickstart"]["verdict"] == "neutral"
    )
    assert both["headline"] == (
        "Of the 8 arms in common, 1 changes its verdict: fine_tune on reversed (negative in quickstart and neutral in milder)."
    )


def test_curves_lie_over_each_other_only_where_world_and_scale_are_the_same(both):
    heavy, reverse, default = both["targets"]
    assert heavy["overlaid"] and heavy["says"] == ""
    assert "different worlds: actuator/strength is -1 in quickstart and -0.5 in milder." in reverse["says"]
    assert "the scales differ" in default["says"] and "0 is 6.2 and 1 is 1,100 in milder" in default["says"]
    assert {curve["target"] for curve in both["curves"]} == {"heavy"}
    assert {curve["experiment"] for curve in both["curves"]} == {"quickstart", "milder"}


def test_scales_a_tenth_apart_still_share_a_chart(report, other):
    other["normalization"]["heavy"]["reference"] += 0.099 * (802.4 - 6.2)
    assert compare({"a": report, "b": other})["targets"][0]["overlaid"]
    other["normalization"]["heavy"]["reference"] += 0.01 * (802.4 - 6.2)
    assert not compare({"a": report, "b": other})["targets"][0]["overlaid"]


def test_settings_that_differ_are_found_by_dotted_key():
    rows = differences(
        {"a": "seeds: 5\nverdict: {margin: 0.05, min_seeds: 5}", "b": "seeds: 5\nverdict: {margin: 1e-1}\nx: {}"}
    )
    assert rows == [
        {"key": "verdict.margin", "of": {"a": 0.05, "b": 0.1}},
        {"key": "verdict.min_seeds", "of": {"a": 5, "b": None}},
        {"key": "x", "of": {"a": None, "b": {}}},
    ]


def test_experiments_that_agree_say_so(report):
    assert compare({"a": report, "b": report})["headline"] == "a and b agree on the 9 arms that they have in common."
    assert compare({"a": report, "b": report})["settings"] == []


def test_what_cannot_be_compared_is_refused_in_a_sentence(report, other):
    with pytest.raises(UserError, match="at least two experiments, not 1"):
        compare({"a": report})
    with pytest.raises(UserError, match="b is not a report of format 1"):
        compare({"a": report, "b": other | {"format": 2}})
    elsewhere = other | {"targets": {"hill": other["targets"]["heavy"]}}
    with pytest.raises(UserError, match=r"c has no target in common with the others \(its targets: hill\)"):
        compare({"a": report, "b": report, "c": elsewhere})
    for one, preset in ((report, "machado18"), (other, "nature15")):
        one["targets"]["heavy"]["preset"] = preset
    with pytest.raises(
        UserError, match="'heavy' is played under machado18 in a and nature15 in b: presets of Atari games cannot"
    ):
        compare({"a": report, "b": other})
    other["targets"]["heavy"]["task"] = "ant"
    with pytest.raises(
        UserError, match="'heavy' is cartpole_swingup in a and ant in b: experiments on different tasks"
    ):
        compare({"a": report, "b": other})


def test_experiments_are_called_by_name_else_by_folder_else_by_path():
    one, two = {"experiment": "one"}, {"experiment": "two"}
    assert labels([Path("runs/a"), Path("runs/b")], [one, two]) == ["one", "two"]
    assert labels([Path("runs/a"), Path("runs/b")], [one, one]) == ["a", "b"]
    assert labels([Path("runs/a/report.json"), Path("b.json")], [one, one]) == ["a", "b"]
    assert labels([Path("old/a"), Path("new/a")], [one, one]) == ["old/a", "new/a"]
    with pytest.raises(UserError, match="runs/a is given twice"):
        labels([Path("runs/a"), Path("runs/../runs/a")], [one, one])


def test_the_page_has_every_verdict_its_curves_and_settings(both):
    text = render(both)
    assert text == render(json.loads(json.dumps(both)))
    assert text.count("verdict changes") == 1 and "not one of its arms" in text
    assert text.count('class="chart"') == 1 and "fine_tune, milder" in text
    assert "<code>verdict.margin</code>" in text and "simreal run milder.yaml" in text


def test_text_of_a_comparison_is_never_markup(report, other):
    other["experiment"] = "<script>alert(1)</script>"
    other["reproduce"]["config"] = 'name: "</script><b>"'
    text = render(compare({"a": report, "<script>alert(1)</script>": other}))
    assert "<script>alert" not in text and "</script><b>" not in text


def test_the_terminal_has_the_same_table_and_answer(both):
    console = Console(file=io.StringIO(), width=100)
    print_comparison(both, console)
    text = console.file.getvalue()
    (line,) = [line for line in text.splitlines() if line.startswith("  fine_tune") and "■" in line]
    assert "▼ -0.28 [-0.37, -0.19]" in line and "■ +0.01 [-0.02, +0.04]" in line
    assert "changes its verdict" in text and "settings differ" in text
    print_comparison({**both, "settings": both["settings"][:1]}, console)
    assert "1 setting differs." in console.file.getvalue()


def test_the_command_writes_a_page_and_its_json(report, other, tmp_path, capsys):
    paths = (tmp_path / "a" / "report.json", tmp_path / "milder.json")
    paths[0].parent.mkdir()
    for path, one in zip(paths, (report, other), strict=True):
        path.write_text(json.dumps(one))
    run_report(paths, out=tmp_path / "new" / "both.html", json=True)
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((tmp_path / "new" / "both.json").read_text()) and said["compares"] == [
        "quickstart",
        "milder",
    ]
    assert (tmp_path / "new" / "both.html").read_text() == render(said)


def test_the_command_refuses_what_it_cannot_read(report, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    with pytest.raises(
        UserError, match=r"nothing is neither the folder of an experiment nor a report\.json \(No such file"
    ):
        run_report((path, tmp_path / "nothing"), out=tmp_path / "x.html")
    with pytest.raises(UserError, match="must name an"):
        run_report((path, path), out=tmp_path / "x.pdf")
    with pytest.raises(UserError, match="--out is for comparing several folders"):
        run_report((path,), out=tmp_path / "x.html")
    with pytest.raises(UserError, match="needs the folder of an experiment"):
        run_report(())


def edited(report, *place, to):
    """A report in which somebody wrote something else at a place, by keys and indices."""
    inner = changed = copy.deepcopy(report)
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = to
    return changed


@pytest.mark.parametrize(
    ("place", "to", "says"),
    [
        (["experiment"], None, "experiment: must be a valid string"),
        (["arms"], {"x": 1}, "arms: must be a valid list"),
        (["arms", 0], {}, "arms.0.source: field required"),
        (["arms", 0, "verdict"], "good", "arms.0.verdict: must be 'positive', 'neutral', 'negative' or 'inconclusive'"),
        (["arms", 0, "area", "value"], "much", "arms.0.area.value: must be a valid number"),
        (["curves", 0, "return_mean"], 5, "curves.0.return_mean: must be a valid list"),
        (["curves", 0, "return_mean"], [1e101], "curves.0.return_mean.0: must be less than or equal to 1000"),
        (["targets", "heavy"], {}, "targets.heavy.task: field required"),
        (["normalization", "heavy"], True, "normalization.heavy: must be a valid dictionary"),
        (["reproduce", "config"], [], "reproduce.config: must be a valid string"),
        (["budget"], {"seeds": float("nan")}, "(NaN is not a finite number)"),
    ],
)
def test_a_report_that_somebody_edited_is_told_where_it_is_no_report(report, tmp_path, place, to, says):
    paths = (tmp_path / "report.json", tmp_path / "edited.json")
    for path, one in zip(paths, (report, edited(report, *place, to=to)), strict=True):
        path.write_text(json.dumps(one))
    with pytest.raises(UserError) as error:
        run_report(paths, out=tmp_path / "x.html")
    assert str(error.value).startswith(f"{paths[1]} is ") and says in str(error.value)
    assert "\n" not in str(error.value) and not (tmp_path / "x.html").exists()


def test_a_comparison_of_what_nobody_had_to_write_is_drawn(report, tmp_path):
    other = edited(edited(report, "curves", 0, "source", to=""), "experiment", to="other")
    other["reproduce"]["config"] += "\nvideo: .inf\n"
    other["curves"][1]["return_mean"][0] = -1e100  # as large as curves may be
    paths = (tmp_path / "report.json", tmp_path / "edited.json")
    for path, one in zip(paths, (report, other), strict=True):
        path.write_text(json.dumps(one))
    run_report(paths, out=tmp_path / "x.html", json=True)
    assert "inf" in (tmp_path / "x.html").read_text()
