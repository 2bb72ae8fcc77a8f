"""The pages in a browser: everything is drawn, nothing is asked for, every screen and paper is served."""

import re

import pytest
from finished import make_whole

from simreal.files import write_text
from simreal.report import html
from simreal.report.comparison import compare, render
from simreal.report.html import typeset


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("page") / "report.html", html.render(make_whole()))


def test_every_chart_is_drawn_without_a_word_on_the_console_or_a_request(browser, page, whole):
    browser.open(page)
    assert browser.console == [] and browser.requests == []
    targets = list(whole["targets"])
    drawn = browser.js(
        "[...document.querySelectorAll('.js-plotly-plot')].map(e => e.dataset.target || e.dataset.signals)"
    )
    assert drawn == targets + targets
    # a band and a line for each of four arms, and in each of three panels the control, a band and a line
    traces = browser.js(
        "[...document.querySelectorAll('.js-plotly-plot')].map(e => e.querySelectorAll('.trace.scatter').length)"
    )
    assert traces == [8] * 3 + [9] * 3


def test_the_words_of_the_page_are_those_of_the_report(browser, page, whole):
    browser.open(page)
    text = re.sub(r"\s+", " ", browser.js("document.body.innerText"))
    badges = browser.js(
        "[...document.querySelectorAll('[data-arm]')].map(e => [e.dataset.arm, e.querySelector('.badge').textContent])"
    )
    assert [verdict[1:] for _, verdict in badges] == [arm["verdict"] for arm in whole["arms"]]
    for arm in whole["arms"]:
        assert all(typeset(reason["says"]) in text for reason in arm["reasons"][:4])
        assert typeset("{value:+.2f}".format(**arm["area"])) in text


def test_a_signal_is_chosen_with_the_keyboard_and_the_panels_follow(browser, page, whole):
    browser.open(page)
    chosen = "document.querySelector('[data-choices=reversed]')"
    assert browser.js(f"{chosen}.value") == "critic_explained_variance"
    plot = "document.querySelector('[data-signals=reversed]')"
    (entry,) = [e for e in whole["signals"] if (e["target"], e["strategy"]) == ("reversed", "fine_tune")]
    assert browser.js(f"{plot}.data[5].y") == entry["values"]["critic_explained_variance"]
    browser.js(f"{chosen}.focus()")
    browser.press("ArrowDown")
    assert browser.js(f"{chosen}.value") == "policy_kl"
    assert browser.js(f"{plot}.data[5].y") == entry["values"]["policy_kl"]
    assert browser.js(f"{plot}.data[3].visible") is False  # scratch has no source to differ from
    said = browser.js("document.querySelector('[data-says=reversed]').textContent")
    assert said.startswith("policy's KL from the source")
    assert browser.js("document.querySelector('[data-says=heavy]').textContent").startswith(
        "critic's explained variance"
    )


def test_a_heat_map_and_a_line_can_be_chosen(browser, page):
    browser.open(page)
    shown = (
        "[...document.querySelectorAll('#layers [data-shown]')].filter(e => e.offsetHeight).map(e => e.dataset.shown)"
    )
    assert browser.js(shown) == ["drift"]
    browser.js("document.querySelector('[data-switch=layers]').focus()")
    browser.press("ArrowDown")
    assert browser.js(shown) == ["cka"]
    hidden = "document.querySelector('.chart[data-target=heavy]').data.filter(t => t.visible === false).length"
    assert browser.js(hidden) == 0
    browser.js("document.querySelector('#target-heavy [data-series]').focus()")
    browser.press("Enter")
    assert browser.js(hidden) == 2  # the band and the line of scratch


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_needs_no_sideways_scrolling(browser, page, dark):
    browser.open(page, width=360, height=780, dark=dark)
    assert browser.js("document.documentElement.scrollWidth") <= 360
    wide = "[...document.querySelectorAll('.chart, .map, select, video')].filter(e => e.getBoundingClientRect().right > 360)"
    assert browser.js(f"{wide}.length") == 0
    assert browser.console == []


def contrast(first, second):
    """Contrast of two colours, "rgb(r, g, b)" or "color(srgb r g b)", by WCAG 2.1."""

    def luminance(colour):
        numbers = [float(n) for n in re.findall(r"[\d.]+(?:e-?\d+)?", colour.removeprefix("color(srgb"))[:3]]
        shares = [n if colour.startswith("color") else n / 255 for n in numbers]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_contrast_of_two_colours_by_hand():
    assert contrast("rgb(255, 255, 255)", "color(srgb 0 0 0)") == pytest.approx(21)
    assert contrast("rgb(119, 119, 119)", "rgb(255, 255, 255)") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_what_it_stands_on(browser, page, dark):
    browser.open(page, dark=dark)
    assert (contrast(browser.js("getComputedStyle(document.body).backgroundColor"), "rgb(255, 255, 255)") > 10) is dark
    # every shade of the heat maps; oklab is made sRGB by drawing it
    cells = browser.js("""(() => {
        const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d');
        return [...document.querySelectorAll('.heat td')].map((cell) => {
            canvas.fillStyle = getComputedStyle(cell).backgroundColor;
            canvas.fillRect(0, 0, 1, 1);
            return [`rgb(${canvas.getImageData(0, 0, 1, 1).data.slice(0, 3).join(', ')})`, getComputedStyle(cell).color];
        });
    })()""")
    assert len({ground for ground, _ in cells}) > 20
    assert min(contrast(*pair) for pair in cells) >= 4.5
    for selector in (".muted", ".badge.negative", ".badge.positive", ".reasons li", ".said"):
        ground, ink = browser.js(f"""(() => {{
            let node = document.querySelector({selector!r});
            const ink = getComputedStyle(node).color;
            while (getComputedStyle(node).backgroundColor === 'rgba(0, 0, 0, 0)') node = node.parentElement;
            return [getComputedStyle(node).backgroundColor, ink];
        }})()""")
        assert contrast(ground, ink) >= 4.5, selector


def test_paper_is_white_and_shows_what_is_folded(browser, page):
    browser.open(page, dark=True)
    browser.js("""window.seen = [];
        addEventListener('beforeprint', () => window.seen.push([
            document.querySelectorAll('details:not([open])').length,
            getComputedStyle(document.documentElement).getPropertyValue('--card').trim(),
            document.querySelector('.chart').layout.width,
        ]))""")
    assert browser.pdf().startswith(b"%PDF")
    assert browser.js("window.seen") == [[0, "#ffffff", 680]]
    assert browser.js("document.querySelectorAll('details[open]').length") == 0
    assert browser.console == []


def test_a_script_that_was_smuggled_in_does_not_run(browser, page, tmp_path):
    smuggled = tmp_path / "smuggled.html"
    smuggled.write_text(page.read_text().replace("</body>", "<script>document.title = 'taken'</script></body>"))
    browser.open(smuggled)
    assert browser.js("document.title").startswith("quickstart")
    assert len(browser.console) == 1 and "Content Security Policy" in browser.console[0]


def test_a_comparison_is_drawn_on_any_screen(browser, whole, tmp_path):
    other = whole | {"experiment": "wider"}
    path = write_text(tmp_path / "comparison.html", render(compare({"quickstart": whole, "wider": other})))
    browser.open(path, width=360, height=780)
    assert browser.console == [] and browser.requests == []
    assert browser.js("document.documentElement.scrollWidth") <= 360
    assert browser.js("document.querySelectorAll('.js-plotly-plot .trace.scatter').length") == 3 * 2 * 8
