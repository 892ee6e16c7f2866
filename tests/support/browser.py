"""A real browser: headless Chromium, driven through its DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
LONGEST_WAIT_SECONDS = 30


class Browser:
    """One tab. It can reach only this machine; other addresses that it tried to reach are recorded.

    Attributes:
        remote_urls: addresses on other machines that a page asked for.
    """

    def __init__(self, program: str, home: Path) -> None:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        # Without any other network, so that the pages do not depend on it.
        options += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--no-proxy-server"]
        options += [f"--user-data-dir={home}", "--remote-debugging-port=0", "--window-size=1280,800"]
        self._process = subprocess.Popen(
            [program, *options, "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        port, path = self._wait_for_file(home / "DevToolsActivePort").split()
        self._socket = connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None)
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.remote_urls: list[str] = []
        tab = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        self._call("Page.enable")
        self._call("Network.enable")

    def show(self, url: str, *texts: str) -> str:
        """Open a page, wait until it shows all these texts, and return its whole text."""
        self._call("Page.navigate", url=url)
        return self.wait_for(*texts)

    def wait_for(self, *texts: str) -> str:
        """Wait until the page shows all these texts, and return its whole text."""
        shown, until = "", time.monotonic() + LONGEST_WAIT_SECONDS
        while time.monotonic() < until:
            shown = self.shown()
            if all(text in shown for text in texts):
                return shown
            time.sleep(0.1)
        missing = [text for text in texts if text not in shown]
        pytest.fail(f"{self.evaluate('location.href')} does not show {missing} but: {shown}")

    def shown(self) -> str:
        """The text of the page as a person reads it."""
        text: str = self.evaluate("document.body ? document.body.innerText : ''")
        return text

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - what JavaScript gives
        return self._call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get(
            "value"
        )

    def look(self, width: int, scheme: str) -> None:
        """Look at pages through a window of this width, in the `light` or the `dark` scheme."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path: Path, height: int | None = None) -> None:
        """Save a screenshot as PNG: of the window, or of so many pixels from the top of the page."""
        clip = {"x": 0, "y": 0, "width": self.evaluate("innerWidth"), "height": height, "scale": 1}
        whole = {"captureBeyondViewport": True, "clip": clip} if height else {}
        screenshot = self._call("Page.captureScreenshot", format="png", **whole)
        path.write_bytes(base64.b64decode(screenshot["data"]))

    def close(self) -> None:
        self._socket.close()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _call(self, method: str, **parameters: object) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            reply = json.loads(self._socket.recv(LONGEST_WAIT_SECONDS))
            if reply.get("method") == "Network.requestWillBeSent":
                self._note(reply["params"]["request"]["url"])
            if reply.get("id") == number:
                assert "error" not in reply, reply
                result: dict[str, Any] = reply["result"]
                return result

    def _note(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in {"http", "https", "ws", "wss"} and parts.hostname != "127.0.0.1":
            self.remote_urls.append(url)

    def _wait_for_file(self, path: Path) -> str:
        until = time.monotonic() + LONGEST_WAIT_SECONDS
        while time.monotonic() < until:
            if path.exists() and len(content := path.read_text().split()) == 2:
                return " ".join(content)
            time.sleep(0.05)
        self._process.kill()
        pytest.fail("the browser has not started")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser here; install one of {', '.join(NAMES)} (Debian: apt-get install chromium)")
    tab = Browser(program, tmp_path_factory.mktemp("browser"))
    yield tab
    tab.close()
