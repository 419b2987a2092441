"""A real headless Chromium for tests, driven by selenium; tests skip where it is absent."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WHY_NOT = (
    None
    if CHROMIUM and DRIVER
    else "no chromium and chromedriver here; on Debian: apt-get install chromium chromium-driver"
)
_ARGUMENTS = """
    --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars
    --disable-background-networking --no-first-run
""".split()  # noqa: SIM905


class Chromium:
    """One browser window: what its page shows, what it fetched, what it complained about."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, address: str, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """Show a page in a window of that size (CSS pixels); below 500 it is a phone's."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get("about:blank")
        for log in ("browser", "performance"):
            self.driver.get_log(log)  # what came before is read and gone
        self.driver.get(address)

    def find(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def text(self, css: str) -> str:
        return self.find(css).text

    def wait(self, condition: Any) -> None:
        WebDriverWait(self.driver, 20, poll_frequency=0.05).until(lambda _: condition())

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def fetched(self) -> list[str]:
        """Addresses that the page has asked for since it was opened, but those that hold their content."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        requests = [m["params"]["request"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [request["url"] for request in requests if not request["url"].startswith(("data:", "about:"))]

    def complaints(self) -> list[str]:
        """Errors and warnings in the console since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def is_too_wide(self) -> bool:
        """Whether the page is wider than the window."""
        return bool(self.run("return document.documentElement.scrollWidth > window.innerWidth"))


@contextmanager
def chromium(profile: Path) -> Iterator[Chromium]:
    """Start a browser with an empty profile."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (*_ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield Chromium(driver)
    finally:
        driver.quit()
