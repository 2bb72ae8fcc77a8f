"""A headless Chromium, driven over its DevTools protocol through a pipe: no driver, no port, no package."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip
DRAWN = (
    "document.querySelectorAll('.chart').length === document.querySelectorAll('.chart .main-svg:first-child').length"
)


class Browser:
    """One Chromium with one tab.

    Attributes:
        console: what pages said there, and errors of their scripts.
        requests: addresses that pages asked for, their own apart.
    """

    def __init__(self, folder: Path):
        self.console, self.requests, self._last, self._buffer = [], [], 0, b""
        (theirs_in, self._out), (self._in, theirs_out) = os.pipe(), os.pipe()

        def hand_over():  # Chromium reads from 3 and writes to 4
            copies = os.dup(theirs_in), os.dup(theirs_out)
            for copy, number in zip(copies, (3, 4), strict=True):
                os.dup2(copy, number)

        self._process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={folder}"],
            stderr=subprocess.DEVNULL,
            preexec_fn=hand_over,
            close_fds=False,
        )
        os.close(theirs_in), os.close(theirs_out)
        self._session = None
        tab = self.do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.do("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.do(f"{domain}.enable")

    def do(self, method, **parameters):
        """Send a command and return its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._last:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def open(self, path, width=1200, height=900, dark=False):
        """Load a page and wait until all of its charts are drawn."""
        self.do(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.do("Emulation.setEmulatedMedia", features=[scheme])
        self.do("Page.navigate", url=path.as_uri())
        wait = f"new Promise(r => {{const f = () => document.readyState === 'complete' && {DRAWN} ? r(true) : setTimeout(f, 20); f()}})"
        self.js(wait)

    def js(self, expression):
        """Return the value of an expression in the page."""
        found = self.do("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, *keys):
        """Press keys, one after the other."""
        for key in keys:
            code, text = KEYS[key]
            for kind in ("keyDown", "keyUp"):
                self.do("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)

    def screenshot(self, path, whole=False):
        """Write a picture of what is visible, or of the whole page."""
        path.write_bytes(base64.b64decode(self.do("Page.captureScreenshot", captureBeyondViewport=whole)["data"]))

    def pdf(self):
        """Return the page as it is printed."""
        return base64.b64decode(self.do("Page.printToPDF", printBackground=False)["data"])

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._in), os.close(self._out)

    def _read(self):
        while b"\0" not in self._buffer:
            chunk = os.read(self._in, 1 << 20)
            assert chunk, "Chromium has ended"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        event = json.loads(message)
        about = event.get("params", {})
        if event.get("method") == "Runtime.consoleAPICalled":
            self.console.append(" ".join(str(one.get("value")) for one in about["args"]))
        elif event.get("method") == "Runtime.exceptionThrown":
            self.console.append(about["exceptionDetails"].get("text", "an exception"))
        elif event.get("method") == "Log.entryAdded":
            self.console.append(about["entry"]["text"])
        elif event.get("method") == "Network.requestWillBeSent":
            address = about["request"]["url"]
            self.requests += [] if address.startswith(("data:", about["documentURL"])) else [address]
        return event


KEYS = {"Enter": (13, "\r"), "ArrowDown": (40, "")}  # code and text
