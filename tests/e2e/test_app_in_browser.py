"""`vlm app` as a visitor sees it: the command, with tiny models, in a real headless Chromium.

Skipped where there is no Chromium. Run: .venv/bin/python -m pytest tests/e2e/test_app_in_browser.py
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from pipeline import Captioner
from tests.chromium import Chromium
from tests.import_closure import ROOT
from tests.pictures import noise

CARDS = "#cards .card"
# Whether the newest caption is in the window, once all pictures have their height.
SEES_THE_NEWEST = """
    const frame = () => new Promise(requestAnimationFrame);
    const pictures = [...document.querySelectorAll(".card img")];
    return Promise.all(pictures.map((picture) => picture.decode())).then(frame).then(frame).then(() => {
        const box = document.querySelector(".card .caption").getBoundingClientRect();
        return box.top >= 0 && box.bottom <= innerHeight;
    });
"""


@dataclass(frozen=True)
class App:
    """The running command: its page's address, the folder of its temporary files, an equal captioner."""

    address: str
    temporary: Path
    captioner: Captioner


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture whose quarters differ."""
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    noise(8, 6).resize((320, 240), Image.Resampling.NEAREST).save(path)
    return path


@pytest.fixture(scope="module")
def app(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """`vlm app` on a free port; after the tests, Ctrl-C must end it well."""
    temporary = tmp_path_factory.mktemp("temporary")
    command = [sys.executable, "-m", "vlm", "app", "--port", "0", "--device", "cpu"]
    command += ["--max-megapixels", "0.5", "--max-upload-mb", "1", "--checkpoint", str(tiny_checkpoint)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {**os.environ, "TMPDIR": str(temporary)}
    running = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)
    captioner = Captioner.load(tiny_checkpoint, "cpu")
    assert running.stdout is not None
    line = running.stdout.readline()
    assert line.startswith("Open http://127.0.0.1:"), running.communicate()[1]
    yield App(line.split()[1], temporary, captioner)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=20)
    assert running.returncode == 0, errors


@pytest.fixture
def page(browser: Chromium, app: App) -> Iterator[Chromium]:
    """The page, just opened; after any test it has called nobody else and left nothing behind."""
    browser.open(app.address)
    yield browser
    fetched = browser.fetched()
    assert fetched
    assert all(address.startswith(app.address) for address in fetched), fetched
    assert list(app.temporary.iterdir()) == []


@pytest.fixture
def ready(page: Chromium, photo: Path) -> Chromium:
    """The page, on which the photo was chosen."""
    upload(page, photo)
    return page


def choose(page: Chromium, file: Path) -> None:
    page.find("#file").send_keys(str(file))


def upload(page: Chromium, image: Path) -> None:
    choose(page, image)
    page.wait(lambda: page.find("#request").is_enabled())


def ask(page: Chromium, words: str) -> None:
    field = page.find("#request")
    field.clear()
    field.send_keys(words, Keys.ENTER)


def captions(page: Chromium) -> dict[str, str]:
    """What the cards say, newest first, by region."""
    texts = page.all(f"{CARDS} .caption")
    return {
        card.text.split("\n")[0]: text.text.removesuffix(" …")
        for card, text in zip(page.all(CARDS), texts, strict=True)
    }


def wait_for_cards(page: Chromium, count: int) -> None:
    page.wait(lambda: len(page.all(CARDS)) == count or page.text("#error"))
    assert page.text("#error") == ""


def error(page: Chromium) -> str:
    page.wait(lambda: page.text("#error"))
    return page.text("#error")


def test_an_image_is_uploaded_and_asked_about_in_words(app: App, page: Chromium, photo: Path) -> None:
    assert not page.find("#request").is_enabled()
    upload(page, photo)
    assert page.text("#size") == "320 \N{MULTIPLICATION SIGN} 240 pixels"
    ask(page, "Describe the right half")
    wait_for_cards(page, 1)
    expected = app.captioner.ask("Describe the right half", photo).text
    assert captions(page) == {"right": expected}
    assert expected
    assert page.text(f"{CARDS} .asked") == "Describe the right half"
    assert page.run("return document.querySelector('.card img').naturalWidth") == 160
    image, outline = page.find("#shown").rect, page.find("#outline").rect
    half = image["width"] / 2
    assert outline == pytest.approx({**image, "x": image["x"] + half, "width": half}, abs=1)
    assert page.complaints() == []


def test_regions_are_compared_side_by_side(app: App, ready: Chromium, photo: Path) -> None:
    ready.find("[data-requests='center']").click()
    wait_for_cards(ready, 1)
    ready.find("[data-requests='left|right']").click()
    wait_for_cards(ready, 3)
    assert captions(ready) == {
        name: app.captioner.caption(photo, region=name).text for name in ("left", "right", "center")
    }
    left, right, _ = (card.rect for card in ready.all(CARDS))
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]

    ready.all(f"{CARDS} .remove")[0].click()
    assert list(captions(ready)) == ["right", "center"]
    ready.find("#clear").click()
    assert not ready.find("#results").is_displayed()


def test_a_box_is_drawn_with_the_mouse(app: App, ready: Chromium, photo: Path) -> None:
    image = ready.find("#shown")
    width, height = image.rect["width"], image.rect["height"]
    pointer = ActionChains(ready.driver, duration=0)
    pointer.move_to_element_with_offset(image, round(0.25 * width), round(0.25 * height)).click_and_hold()
    pointer.move_by_offset(round(-0.5 * width), round(-0.5 * height)).release().perform()
    wait_for_cards(ready, 1)
    typed = str(ready.find("#request").get_attribute("value"))
    box = [float(edge) for edge in typed.split(",")]
    assert box == pytest.approx([0.25, 0.25, 0.75, 0.75], abs=0.01)
    assert [*captions(ready).values()] == [app.captioner.ask(typed, photo).text]


def test_the_keyboard_alone_is_enough(ready: Chromium) -> None:
    assert ready.driver.switch_to.active_element == ready.find("#request")
    keys = ActionChains(ready.driver)
    keys.send_keys("the bottom", Keys.ENTER).perform()
    wait_for_cards(ready, 1)
    keys.key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()  # the last button by the image
    assert ready.driver.switch_to.active_element.text == "compare the four corners"
    assert ready.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    keys.send_keys(Keys.SPACE).perform()
    wait_for_cards(ready, 5)


@pytest.mark.parametrize(
    "event",
    [
        'document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }))',
        'document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }))',
    ],
    ids=["pasted", "dropped"],
)
def test_an_image_that_is_pasted_or_dropped_is_taken(page: Chromium, event: str) -> None:
    page.run(f"""
        const canvas = Object.assign(document.createElement("canvas"), {{ width: 50, height: 30 }});
        canvas.toBlob((blob) => {{
          const data = new DataTransfer();
          data.items.add(new File([blob], "image.png", {{ type: "image/png" }}));
          {event};
        }});
    """)
    page.wait(lambda: page.text("#size") == "50 \N{MULTIPLICATION SIGN} 30 pixels")


@pytest.mark.parametrize(("button", "start"), [(".card .copy", ""), ("#copy-all", "top: ")])
def test_a_caption_is_copied(app: App, ready: Chromium, photo: Path, button: str, start: str) -> None:
    """Where the browser gives the page no clipboard, by the older way."""
    permissions = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    ready.driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"origin": app.address.rstrip("/"), **permissions}
    )
    ask(ready, "the top")
    wait_for_cards(ready, 1)
    if button == "#copy-all":
        ready.run("navigator.clipboard.writeText = () => Promise.reject(new Error('denied'))")
    ready.find(button).click()
    ready.wait(lambda: ready.text(button) == "Copied")
    pasted = ready.run("return navigator.clipboard.readText()")
    assert pasted == start + app.captioner.caption(photo, region="top").text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no image at all", "This file is not a readable image"),
        (bytes(1_000_001), "This file has 1.0 MB; at most 1 MB are taken. Choose a smaller one."),
    ],
)
def test_a_bad_file_gets_a_sentence(page: Chromium, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "photo.png").write_bytes(content)
    choose(page, tmp_path / "photo.png")
    assert error(page).startswith(message)
    assert not page.find("#request").is_enabled()
    below = page.find("#error").rect["y"] - page.find("#drop").rect["y"] - page.find("#drop").rect["height"]
    assert 0 <= below < 50


def test_an_unclear_request_gets_a_sentence_and_the_next_one_an_answer(ready: Chromium) -> None:
    ask(ready, "<img src=x onerror=alert(1)> center of the top left")
    assert "'<img src=x onerror=alert(1)> center" in error(ready)
    for nothing in ("", "  "):
        ask(ready, nothing)
        assert error(ready) == "Name a place, or ask a question."
    ask(ready, "the left")
    wait_for_cards(ready, 1)


def test_an_answer_is_next_to_the_image_and_seen_without_scrolling(ready: Chromium) -> None:
    ask(ready, "the top")
    wait_for_cards(ready, 1)
    assert ready.run("return scrollY") == 0
    image, card = ready.find("#shown").rect, ready.find(CARDS).rect
    assert card["x"] >= image["x"] + image["width"]
    assert card["y"] + card["height"] <= ready.run("return innerHeight")


def test_on_a_phone_answers_are_under_the_image_and_in_view(app: App, page: Chromium, photo: Path) -> None:
    page.open(app.address, 390, 844)
    upload(page, photo)
    ask(page, "the top")
    wait_for_cards(page, 1)
    tops = [page.find(css).rect["y"] for css in ("#shown", "#request", CARDS, ".pad")]
    assert tops == sorted(tops)
    assert page.text(f"{CARDS} .asked") == "the top"
    for count, region in enumerate(("top-left", "right", "left third"), start=2):
        button = page.find(f"[data-requests='{region}']")
        page.run("arguments[0].scrollIntoView({ block: 'center' })", button)
        button.click()
        wait_for_cards(page, count)
        assert page.run(SEES_THE_NEWEST), region


def test_another_image_clears_the_box_and_answers_of_a_scene(page: Chromium, photo: Path) -> None:
    page.all(".example")[0].click()
    page.wait(lambda: page.text("#size") == "224 \N{MULTIPLICATION SIGN} 224 pixels")
    ask(page, "0,0,0.5,1")
    wait_for_cards(page, 1)
    assert page.find("#outline").is_displayed()
    choose(page, photo)
    page.wait(lambda: page.text("#size") == "320 \N{MULTIPLICATION SIGN} 240 pixels")
    assert page.all(CARDS) == []
    assert not page.find("#outline").is_displayed()
    assert page.find("#request").get_attribute("value") == ""
    assert page.complaints() == []


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True), (320, False)])
def test_the_page_fits_its_window(app: App, page: Chromium, photo: Path, width: int, dark: bool) -> None:
    page.open(app.address, width, dark=dark)
    upload(page, photo)
    page.find("[data-requests='left|right']").click()
    wait_for_cards(page, 2)
    assert not page.is_too_wide()
    red = page.run("return Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])")
    assert (red < 128) == dark
