import copy
import html
import json
import re
from html.parser import HTMLParser

import pytest

from simreal.report.html import duration, forest, parameter_rows, render, typeset, why
from simreal.report.words import NOTHING, main_reason


class Page(HTMLParser):
    """The elements and the visible text of a page."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._inside = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside.append(tag)

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self._inside):
            self.text.append(data)

    def words(self):
        return re.sub(r"\s+", " ", " ".join(self.text))

    def of(self, tag, **attributes):
        return [a for t, a in self.elements if t == tag and all(a.get(k) == v for k, v in attributes.items())]


@pytest.fixture
def page(report):
    return Page(render(report))


def test_the_same_report_gives_the_same_bytes(whole):
    assert render(whole) == render(copy.deepcopy(whole))


def test_the_page_opens_with_the_answer(page):
    assert "Transfer helps on heavy and engine_default, and hurts on reversed." in page.words()


def test_every_verdict_stands_in_the_table_with_its_symbol_and_effect(report):
    text = render(report)
    for arm in report["arms"]:
        row = text.split(f'data-arm="{arm["source"]}/{arm["strategy"]}/{arm["target"]}"')[1].split("</tbody>")[0]
        said = Page(row).words()
        assert f'class="badge {arm["verdict"]}"' in row
        assert {"positive": "▲", "neutral": "■", "negative": "▼", "inconclusive": "?"}[arm["verdict"]] in said
        for value in (arm["area"]["value"], arm["area"]["low"], arm["jumpstart"]["high"]):
            assert f"{value:+.2f}".replace("-", "\N{MINUS SIGN}") in said


@pytest.mark.parametrize(
    ("written", "set_as"),
    [
        ("-0.41 [-0.49, +0.33], -.1", "−0.41 [−0.49, +0.33], −.1"),
        ("(explained variance -0.41)", "(explained variance −0.41)"),
        ("2.1e-05", "2.1e−05"),
        ("2026-11-22, 0.6-1.4, seed-3, --seed 3, domain-randomized, sha-1", None),
        ({"x": [-1, "-1"], "-1": ("-2",)}, {"x": [-1, "−1"], "-1": ["−2"]}),
    ],
)
def test_negative_numbers_have_a_minus_sign_and_nothing_else_has(written, set_as):
    assert typeset(written) == (written if set_as is None else set_as)


def test_a_page_has_one_sign_for_negative_numbers(whole):
    text = render(whole)
    (drawn,) = re.findall(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL)
    texts = [Page(text).words(), *re.findall(r'"((?:[^"\\]|\\.)*)"', drawn)]
    assert sum(said.count("\N{MINUS SIGN}") for said in texts) > 100
    assert not [said for said in texts if re.search(r"(?<![\w.-])-\.?\d", said)]


def test_commands_and_configs_are_shown_as_they_can_be_copied(whole):
    told = {"command": "simreal run heavy.yaml targets.heavy.variation.gravity=-3", "config": "gravity: -3.0\n"}
    text = render(whole | {"reproduce": told})
    assert "variation.gravity=-3<" in text and "gravity: -3.0\n" in text


def test_the_first_screen_says_what_explains_the_best_arm_of_every_target(report):
    head = Page(render(report).partition("</header>")[0]).words()
    for target, strategy in (("heavy", "fine_tune"), ("reversed", "fine_tune")):
        (arm,) = [a for a in report["arms"] if (a["target"], a["strategy"]) == (target, strategy)]
        assert typeset(main_reason(arm)) in head


def section(text, name):
    return text.partition(f'<section id="{name}">')[2].partition("</section>")[0]


def test_why_has_every_reason_as_it_is_written_what_all_arms_share_first_and_once(whole):
    part = section(render(whole), "why")
    for target in whole["targets"]:
        arms = [arm for arm in whole["arms"] if arm["target"] == target]
        card = part.split(f'href="#target-{target}"')[1].split('<h3 class="of">')[0]
        shared, *entries = card.split('<ul class="arms">')[1].split("<li><div>")[1:]
        common = typeset(arms[0]["reasons"][1]["says"])
        assert "all strategies" in shared and card.count(common) == 1 and common in shared
        for arm, entry in zip(arms, entries, strict=True):
            decision, _, *own = (html.escape(typeset(reason["says"]), quote=True) for reason in arm["reasons"])
            shown, _, more = entry.partition("<details>")
            places = [shown.index(says) for says in (decision, *own[:3])]
            assert places == sorted(places) and own[3] in more
            assert [shown.count(f'<li class="{kind}">') for kind in ("harm", "gain", "caution")] == [1, 1, 1]


def test_a_decision_that_all_arms_share_is_said_once_for_all_strategies(whole):
    arms = [arm for arm in whole["arms"] if arm["target"] == "heavy"]
    few = {"name": "too_few_seeds", "value": 2, "says": "2 seeds; add seeds."}
    for arm, others in zip(arms, ([], [{"name": "x", "says": "Its own."}], []), strict=True):
        arm |= {"verdict": "inconclusive", "reasons": [few, *others]}
    first, *own = why(arms)
    assert (first["arm"], first["decision"]) == (None, "2 seeds; add seeds.")
    assert [(group["decision"], len(group["first"])) for group in own] == [("", 0), ("", 1), ("", 0)]
    card = section(render(whole), "why").split('href="#target-heavy"')[1].split('<h3 class="of">')[0]
    assert card.count("add seeds") == 1 and "No reason was recorded" not in card


def test_a_single_arm_shares_nothing(whole):
    (group,) = why(whole["arms"][:1])
    assert group["arm"] is whole["arms"][0] and [len(group["first"]), len(group["more"])] == [3, 2]


def test_the_early_warning_has_its_chances_and_what_was_done(whole):
    text = Page(section(render(whole), "why")).words()
    arm = next(arm for arm in whole["arms"] if arm["verdict"] == "negative")
    for look in arm["early_warning"]["at"]:
        said = "at {} % {:.0f} % [{:.0f}, {:.0f}]".format(
            look["percent"], *(100 * look["p"][k] for k in ("value", "low", "high"))
        )
        assert said in text
    assert text.count(arm["early_warning"]["says"]) == 3
    whole["arms"] = [arm | {"early_warning": None} for arm in whole["arms"]]
    assert "Early warning" not in render(whole)


def test_every_layer_has_its_numbers_over_time_and_only_the_chosen_signal_shows(whole):
    part = section(render(whole), "layers")
    options = re.findall(r'<option value="(\w+)">', part)
    assert options == ["drift", "cka", "effective_rank", "saturated_units"]
    blocks = re.findall(r'<div data-shown="(\w+)"( hidden)?>', part)
    assert blocks == [("drift", "")] + [(name, " hidden") for name in options[1:]]
    (entry,) = [e for e in whole["signals"] if (e["target"], e["strategy"]) == ("heavy", "fine_tune")]
    block = Page(part.split('data-shown="drift"')[1].split("<figcaption>")[1]).words()
    last = entry["values"]["drift/value_head"][-1]
    assert (
        block.startswith("fine_tune layer 0 7.5k 15k")
        and f"value_head 0 {entry['values']['drift/value_head'][1]:.2f}" in block
    )
    assert f"{last:.2f}" in block


def test_the_robustness_grid_has_its_numbers_and_its_marks(whole):
    part = section(render(whole), "robustness")
    figure = part.split("<figcaption>fine_tune</figcaption>")[1].split("</figure>")[0]
    assert re.findall(r'scope="row">([^<]+)<', figure) == ["0.04", "0.02", "0"]  # upwards
    assert re.findall(r'scope="col">([^<]+)<', figure) == ["0.5", "1", "1.5", "2", "2.5"]
    # bottom row: 800 (1 - 0.15 i) for columns i
    assert re.findall(r">(\d+)</td>", figure)[-5:] == ["800", "680", "560", "440", "320"]
    # the source drew 0.5 to 1.5, three of five columns, and no latency: the lowest of three rows
    assert 'class="frame" style="left:0.0%;width:60.0%;bottom:0.0%;height:33.33%"' in figure
    # 1.6 lies a fifth of the way from the third to the fourth cell's middle
    assert 'class="ring" style="left:54.0%;top:50.0%"' in figure
    assert "The target has pole/mass 1.6, the sources 0.5 to 1.5." in Page(part).words()


def test_what_taking_several_verdicts_at_once_changed_is_said_at_the_top(report):
    report["multiplicity"] = {"says": "Six verdicts were taken at once & none changed."}
    header = render(report).partition("</header>")[0]
    assert "Six verdicts were taken at once &amp; none changed." in header


def test_every_part_is_there_in_order(whole):
    text = render(whole, {"heavy": b"film"})
    found = re.findall(r'<section (?:id="([\w-]+)"|class="target" id="([\w-]+)")', text)
    curves = [f"target-{target}" for target in ("heavy", "reversed", "engine_default")]
    assert ["".join(one) for one in found] == [
        "verdicts", "why", *curves, "over-time", "layers", "randomized", "robustness", "videos", "reproduce", "settings", "words",
    ]  # fmt: skip
    anchors = re.findall(r'<a href="#([\w-]+)">', text.partition("<nav")[2].partition("</nav>")[0])
    assert anchors and all(f'id="{anchor}"' in text for anchor in anchors)
    assert "simreal run configs/quickstart.yaml" in Page(text).words() and "2.13.0+cpu" in Page(text).words()


def test_what_a_report_does_not_have_has_no_part(report):
    text = render(report)
    for name in ("over-time", "layers", "robustness", "videos"):
        assert f'id="{name}"' not in text and f'href="#{name}"' not in text


def test_nothing_is_loaded_from_anywhere(report, page):
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            assert not re.match(r"\s*(https?:)?//", attributes.get(name) or ""), (tag, attributes)
    assert not page.of("iframe") and not page.of("img") and not re.search(r"@import|url\(", render(report)[:30_000])
    (policy,) = page.of("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy["content"] and "http" not in policy["content"]


def test_text_from_the_report_is_never_markup(report):
    report["experiment"] = "</title><script>alert(1)</script>"
    report["arms"][0]["reasons"][0]["says"] = "<img src=x onerror=alert(1)>"
    report["curves"][0]["source"] = report["curves"][0]["strategy"] = "</script><b>x"
    text = render(report)
    assert "<script>alert" not in text and "<img" not in text and "</script><b>" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text


def test_a_report_without_arms_still_makes_a_page():
    assert "nothing to compare yet" in render({"format": 1, "experiment": "empty", "arms": []})


def test_missing_numbers_are_dashes_not_errors(report):
    for arm in report["arms"]:
        for name in (
            "time_to_threshold",
            "transfer_ratio",
            "forgetting",
            "final_return_raw",
            "probability_of_improvement",
        ):
            arm[name] = None
        arm["jumpstart"] = {"value": 0.1, "low": None, "high": None}
        arm["reasons"] = []
    for part in ("manifest", "reproduce", "settings", "budget", "normalization", "scratch", "sources", "targets"):
        del report[part]
    text = Page(render(report)).words()
    assert "+0.10" in text and "None" not in text and "nan" not in text


def test_the_forest_puts_marks_where_the_numbers_are():
    arm = {"area": {"value": 0.5, "low": 0.0, "high": 1.0}, "verdict": "positive", "strategy": "s"}
    drawn = forest([arm], margin=0.25)
    (row,) = drawn["groups"][0]["rows"]
    # the scale runs from -0.5 - 0.09 to 1 + 0.09
    assert drawn["zero"] == row["low_at"] == pytest.approx(100 * 0.59 / 1.68, abs=1e-3)
    assert row["at"] == pytest.approx(100 * 1.09 / 1.68, abs=1e-3)
    assert drawn["margin"][0] == pytest.approx(100 * 0.34 / 1.68, abs=1e-3)
    assert forest([{**arm, "area": None}], margin=0.25) is None


def test_parameters_say_whether_the_sources_saw_the_value_of_a_target(report):
    rows = {row["name"]: row for row in parameter_rows(report)}
    assert list(rows) == ["pole/mass", "slider/damping", "actuator/strength", "latency"]
    covered = {name: row["lanes"][-1]["covered"] for name, row in rows.items()}
    assert covered == {
        "pole/mass": "outside",
        "slider/damping": "inside",
        "actuator/strength": "outside",
        "latency": "outside",
    }
    source, target = rows["pole/mass"]["lanes"]
    assert source["low"] < rows["pole/mass"]["at"] < source["high"] < target["low"] == target["high"]
    report["sources"]["plain"] = {**report["sources"]["randomized"], "parameters": []}
    assert {row["name"]: row["lanes"][-1]["covered"] for row in parameter_rows(report)}["slider/damping"] == (
        "inside randomized"
    )


@pytest.mark.parametrize(
    ("seconds", "said"), [(45.2, "45 s"), (331, "5 min 31 s"), (4800, "1 h 20 min"), (None, NOTHING)]
)
def test_durations_read_naturally(seconds, said):
    assert duration(seconds) == said


def test_the_embedded_figures_are_plain_json(whole):
    text = re.search(r'<script type="application/json" id="figures">(.*?)</script>', render(whole), flags=re.DOTALL)[1]
    assert {kind: set(of) for kind, of in json.loads(text).items()} == {
        kind: {"heavy", "reversed", "engine_default"} for kind in ("curves", "signals")
    }


def test_the_sequence_has_its_matrix_numbers_and_verdicts(richer):
    page = render(richer)
    part = page.split('<section id="sequence">')[1].split("</section>")[0]
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", part))
    assert "heavy → reversed" in text
    assert "from randomized and plain, taught by wise" in text
    assert "backward transfer −0.41 [−0.49, −0.33]" in text
    assert "1. heavy +0.91 +0.12 2. reversed +0.50 +0.80" in text
    assert part.count('class="badge positive"') == 1 and part.count('class="badge negative"') == 1
    assert part.count("color-mix") == 8


def test_a_page_names_combinations_several_sources_and_how_a_source_was_made(richer):
    text = Page(render(richer)).words()
    assert "layerwise_lr + l2sp (alpha 0.1)" in text
    assert "pretrained with epopt (fraction 0.1)" in text
    assert "from randomized and plain, taught by wise" in text


def test_without_a_sequence_there_is_no_section_for_it(page):
    assert not page.of("section", id="sequence")


def test_games_have_their_score_beside_the_return(report):
    assert "human-normalized" not in render(report)
    report["arms"][0]["score"] = {
        "raw": {"value": 17.25, "low": 16.0, "high": 18.5}, "human_normalized": {"value": 0.583, "low": 0.54, "high": 0.625},
    }  # fmt: skip
    text = render(report)
    arm = report["arms"][0]
    row = text.split(f'data-arm="{arm["source"]}/{arm["strategy"]}/{arm["target"]}"')[1].split("</tbody>")[0]
    assert "score 17.2" in Page(row).words() and "0.58 human-normalized" in Page(row).words()
    assert "0.58 [0.54, 0.62]" in Page(text).words() and "1 a human's (Wang et al. 2016)" in Page(text).words()
    assert "Random-normalized" not in text  # no arm has that


def test_the_bridge_stands_in_the_table_of_domains(report):
    assert "<th>Bridge</th>" not in render(report)
    report["targets"]["heavy"]["bridge"] = {"channels": "union", "actions": "native"}
    said = Page(render(report)).words()
    assert "Bridge" in said and "channels union, actions native" in said and " native " in said


def test_only_the_sources_that_are_moved_to_a_target_cover_its_parameters(report):
    source = next(iter(report["sources"].values()))
    narrow = {**source, "parameters": []}
    report["sources"]["narrow"] = narrow
    rows = {row["name"]: row for row in parameter_rows(report)}
    name, lane = next(
        (n, lane) for n, row in rows.items() for lane in row["lanes"] if lane["covered"].startswith("inside ")
    )
    target = report["targets"][lane["domain"]]
    covered = {}
    for moved in (["narrow"], [one for one in report["sources"] if one != "narrow"]):
        target["sources"] = moved
        lanes = next(row for row in parameter_rows(report) if row["name"] == name)["lanes"]
        covered[tuple(moved)] = next(one["covered"] for one in lanes if one["domain"] == lane["domain"])
    assert set(covered.values()) == {"outside", "inside"}
