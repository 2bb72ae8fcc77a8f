import copy
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from simreal.report.html import duration, forest, parameter_rows, render, write
from simreal.report.words import NOTHING

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


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


def test_the_same_report_gives_the_same_bytes(report):
    assert render(report) == render(copy.deepcopy(report))


def test_the_page_opens_with_the_answer(page):
    assert "Transfer helps on heavy and engine_default, and hurts on reversed." in page.words()


def test_every_verdict_stands_in_the_table_with_its_symbol_effect_and_reason(report):
    text = render(report)
    for arm in report["arms"]:
        row = text.split(f'data-arm="{arm["source"]}/{arm["strategy"]}/{arm["target"]}"')[1].split("</tbody>")[0]
        said = Page(row).words()
        assert f'class="badge {arm["verdict"]}"' in row
        assert {"positive": "▲", "neutral": "■", "negative": "▼", "inconclusive": "?"}[arm["verdict"]] in said
        for value in (arm["area"]["value"], arm["area"]["low"], arm["jumpstart"]["high"]):
            assert f"{value:+.2f}".replace("-", "\N{MINUS SIGN}") in said
        assert html.unescape(arm["reasons"][0]["says"]) in html.unescape(said)


def test_what_taking_several_verdicts_at_once_changed_is_said_at_the_top(report):
    report["multiplicity"] = {"says": "Six verdicts were taken at once & none changed."}
    header = render(report).partition("</header>")[0]
    assert "Six verdicts were taken at once &amp; none changed." in header


def test_every_part_is_there_in_order(page):
    parts = ["Verdicts", "heavy", "Why", "What was randomized and shifted", "What the words mean", "Settings"]
    places = [page.words().index(part, 0 if n == 0 else page.words().index("Verdicts")) for n, part in enumerate(parts)]
    assert places == sorted(places)
    assert "simreal run configs/quickstart.yaml" in page.words() and "2.13.0+cpu" in page.words()


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


def test_write_leaves_one_complete_file(report, tmp_path):
    path = write(report, tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8") == render(report)
    assert list(path.parent.iterdir()) == [path]


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


@pytest.fixture
def browser(tmp_path):
    """Load a file in headless Chromium; returns (the DOM after the scripts ran, what the console said)."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")

    def load(path):
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        flags += [
            "--disable-background-networking",
            "--disable-component-update",
            f"--user-data-dir={tmp_path / 'chrome'}",
        ]
        flags += ["--virtual-time-budget=8000", "--enable-logging=stderr", "--v=0", "--dump-dom"]
        done = subprocess.run(
            [CHROMIUM, *flags, path.as_uri()], capture_output=True, text=True, check=True, timeout=120
        )
        return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]

    return load


def test_a_browser_draws_every_chart_without_a_word_on_the_console(browser, report, tmp_path):
    dom, console = browser(write(report, tmp_path / "report.html"))
    assert console == []
    drawn = [a for _, a in Page(dom).elements if "js-plotly-plot" in (a.get("class") or "")]
    assert [a["data-target"] for a in drawn] == ["heavy", "reversed", "engine_default"]
    assert len(re.findall(r'<svg class="main-svg"[^>]*style="background', dom)) == len(drawn)
    # a band and a line for each of four arms on each of three targets
    assert len(re.findall(r'class="trace scatter', dom)) == 2 * 4 * 3
    badges = re.findall(r'data-arm="([^"]+)".*?class="badge (\w+)"', dom, flags=re.DOTALL)
    assert dict(badges) == {f"{a['source']}/{a['strategy']}/{a['target']}": a["verdict"] for a in report["arms"]}


def test_a_browser_does_not_run_a_script_that_was_smuggled_in(browser, report, tmp_path):
    path = write(report, tmp_path / "report.html")
    path.write_text(path.read_text().replace("</body>", "<script>document.title = 'taken'</script></body>"))
    dom, console = browser(path)
    assert "<title>quickstart" in dom
    assert len(console) == 1 and "Content Security Policy" in console[0]


def test_the_embedded_figures_are_plain_json(report):
    text = re.search(r'<script type="application/json" id="figures">(.*?)</script>', render(report), flags=re.DOTALL)[1]
    assert set(json.loads(text)) == {"heavy", "reversed", "engine_default"}


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
