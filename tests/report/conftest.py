"""A report.json with everything in it, and a browser to read its page with."""

import pytest
from browser import CHROMIUM, Browser
from finished import make_report, make_whole, way


@pytest.fixture
def report():
    """A finished experiment's report."""
    return make_report()


@pytest.fixture
def richer(report):
    """A report with several sources, a teacher, a combination, a pretraining strategy and a sequence."""
    report["arms"][0] |= {"source": "randomized+plain", "teacher": "wise"}
    report["sources"]["plain"] = {**report["sources"]["randomized"], "strategy": "epopt (fraction 0.1)"}
    report["strategies"] = {"scratch": "scratch", "fine_tune": "layerwise_lr + l2sp (alpha 0.1)"}
    ways = [
        way("fine_tune", "randomized", ("positive", "negative")),
        way("fine_tune", "randomized+plain", ("neutral", "inconclusive"), teacher="wise"),
    ]
    report["sequence"] = {"targets": ["heavy", "reversed"], "ways": ways}
    return report


@pytest.fixture
def whole():
    """A report with everything that may be in one."""
    return make_whole()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A headless Chromium for all tests."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium):
    """That Chromium, with nothing on its console yet."""
    chromium.console.clear()
    chromium.requests.clear()
    return chromium
