"""The page in a headless Chromium: by mouse, by keyboard alone, on a phone, and when things fail.

Only the loopback address is asked for anything.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from pyg_kd.retrieval import TopKIndex
from pyg_kd.retrieval.service.page import Models, routes
from pyg_kd.retrieval.service.refused import Refused
from tests.retrieval.service.page.chromium import Chromium, find_chromium
from tests.retrieval.service.page.page_models import HOSTILE, make_index

PROGRAM = find_chromium()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium on this machine"),
]

LISTED = (
    "document.querySelectorAll('#student ol button').length === 10"
    "&& !document.querySelector('[aria-busy]')"
)
FOCUS = "document.activeElement"


class Server:
    """The page on a free port of the loopback, with failures at will."""

    def __init__(self) -> None:
        rng = np.random.default_rng(11)
        told = {"metrics": {"ndcg@20": 0.1, "recall@20": 0.2}, "model": {"class": "LightGCN"}}
        student = make_index(rng, users=120, items=60, dtype="int8", info=told)
        teacher = make_index(rng, users=120, items=60, dim=32)
        x_user, x_item = teacher.x_user, teacher.x_item
        teacher = TopKIndex(x_user, x_item, seen=student.seen.pattern)
        words = ["Amélie", "The Quiet Harbour", "Night Train", "A Very Long Title " * 6, HOSTILE]
        self.names = {n: f"{words[n % 5]} {n}" for n in range(60)}
        self.models = self.both = Models(student, teacher, self.names)
        self.token = ""
        self.failing = False
        app = Starlette(
            routes=routes(lambda: self.models),
            exception_handlers={Refused: lambda request, error: error.response()},  # type: ignore
        )
        config = uvicorn.Config(self._guarded(app), host="127.0.0.1", port=0, log_level="warning")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{port}/"

    def _guarded(self, app: Any) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"].startswith("/compare/"):
                sent = dict(scope["headers"]).get(b"authorization", b"").decode()
                if self.token and sent != f"Bearer {self.token}":
                    await Refused(401, "a valid bearer token is needed").response()(
                        scope, receive, send
                    )
                    return
                if self.failing:
                    await Refused(503, "the service is busy").response()(scope, receive, send)
                    return
            await app(scope, receive, send)

        return guarded

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    assert PROGRAM is not None
    with Chromium(PROGRAM, tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def page(browser: Chromium, server: Server) -> Iterator[Chromium]:
    """The page of user 7 on a desktop; afterwards it must not have complained."""
    server.models, server.token, server.failing = server.both, "", False
    browser.resize(1280, 900)
    browser.open(server.address + "#user=7")
    browser.until(LISTED)
    browser.run("Math.random = () => 0.5")  # so that any user is number 60
    yield browser
    assert browser.complaints() == []
    assert all(url.startswith(server.address) for url in browser.addresses())


def text(page: Chromium, selector: str) -> str:
    found: str = page.run(f"document.querySelector({json.dumps(selector)}).innerText")
    return found


def ids(page: Chromium, who: str) -> list[str]:
    found: list[str] = page.run(
        f"[...document.querySelectorAll('#{who} ol button')].map(b => b.dataset.id)"
    )
    return found


def test_both_lists_and_what_they_share(page: Chromium, server: Server) -> None:
    wanted = {}
    for who, index in (("student", server.both.student), ("teacher", server.both.teacher)):
        assert index is not None
        wanted[who] = [str(item) for item in index.search([7], 10)[0][0].tolist()]
        assert ids(page, who) == wanted[who]
    both = set(wanted["student"]) & set(wanted["teacher"])
    assert text(page, "#overlap") == (
        f"{len(both)} of 10 items in both lists: overlap@10 is {10 * len(both)}%"
    )
    marked = page.run(
        "[...document.querySelectorAll('#student .both button')].map(b => b.dataset.id)"
    )
    assert set(marked) == both
    for id in both:  # for those who do not see the mark
        name = page.run(f"document.querySelector('#student [data-id=\"{id}\"]').textContent")
        place = wanted["teacher"].index(id) + 1
        assert f", the teacher’s number {place}" in name
    assert text(page, "#status") == text(page, "#overlap")


def test_sizes_and_times(page: Chromium) -> None:
    rows = page.run(
        "[...document.querySelectorAll('#figures tr')].map(r => r.innerText.split('\\t'))"
    )
    teacher, student, ratio = rows
    assert teacher[:2] == ["Teacher", "23 kB"] and student[:2] == ["Student LightGCN", "1.8 kB"]
    assert student[4] == "0.2000" and teacher[4] == "–"
    assert student[3].endswith(("ms", "µs")) and teacher[3].endswith(("ms", "µs"))
    assert ratio[1] == "13×" and ratio[3].endswith("×")


def test_titles_are_text(page: Chromium, server: Server) -> None:
    page.open(server.address + "#user=7&k=50")
    page.until(LISTED.replace("=== 10", "> 30"))
    names = page.run("[...document.querySelectorAll('#student .name')].map(e => e.textContent)")
    assert sum(HOSTILE in name for name in names) > 5
    assert page.run("document.querySelectorAll('main img, main script').length") == 0


def test_why_an_item(page: Chromium, server: Server) -> None:
    page.click("#student ol li:nth-child(2) button")
    page.until("document.querySelector('#why svg[role=img]')")
    title = server.names[int(ids(page, "student")[1])]
    assert text(page, "#why-title") == " ".join(f"Why {title}?".split())
    pressed = page.run(
        "[...document.querySelectorAll('[aria-pressed=true]')].map(b => b.dataset.id)"
    )
    assert pressed == [ids(page, "student")[1]]
    nodes = page.run("document.querySelectorAll('#why .node').length")
    rows = page.run("document.querySelectorAll('#why .legend li').length")
    assert nodes == rows + 2  # and the two ends
    words = page.run("document.querySelector('#drawing-text').textContent")
    assert "seen before" in words and text(page, "#status") == words.strip()
    inside = page.run(
        "(() => { const box = document.querySelector('#why svg[role=img]').getBoundingClientRect();"
        "return [...document.querySelectorAll('#why .node circle')].every(c => {"
        "const b = c.getBoundingClientRect(); return b.left >= box.left && b.right <= box.right"
        "&& b.top >= box.top && b.bottom <= box.bottom; }); })()"
    )
    assert inside


def test_by_keyboard_alone(page: Chromium) -> None:
    page.press("Tab")
    assert page.run(f"{FOCUS}.className") == "skip"
    stops = []
    for _ in range(5):
        page.press("Tab")
        stops.append(page.run(f"{FOCUS}.id || {FOCUS}.value"))
    assert stops == ["user", "k", "user", "any", "known"]  # the first one is the choice "a user"
    assert page.run(f"getComputedStyle({FOCUS}).outlineStyle") == "solid"
    page.run("document.querySelector('#user').focus()")
    page.type("11")
    page.until("document.querySelectorAll('#users [role=option]').length === 11")
    page.press("ArrowDown", "ArrowDown")
    active = page.run("document.querySelector('#user').getAttribute('aria-activedescendant')")
    assert page.run(f"document.getElementById('{active}').ariaSelected") == "true"
    page.press("Enter")
    page.until("location.hash === '#user=110'")
    page.until(f"{LISTED} && document.querySelector('#users').hidden")
    page.run("document.querySelector('#teacher button').focus()")
    page.press("ArrowDown", "ArrowRight", "ArrowDown", "End", "Home", "ArrowDown")
    assert page.run(f"{FOCUS}.dataset.id") == ids(page, "student")[1]
    page.press("Enter")
    page.until("document.activeElement.id === 'why-title'")
    page.press("Escape")
    assert page.run(f"{FOCUS}.dataset.id") == ids(page, "student")[1]


def test_the_skip_link_leads_to_the_lists(page: Chromium) -> None:
    page.press("Tab", "Enter")
    assert page.run(f"{FOCUS}.id") == "overlap"
    page.press("Tab")
    page.until("document.activeElement === document.querySelector('#teacher ol button')")


def test_a_history_is_put_together_and_taken_apart(page: Chromium) -> None:
    page.run("document.querySelector('[name=mode]').focus()")
    page.press("ArrowRight")
    page.until("document.querySelector('#overlap').innerText.includes('popular')")
    page.press("Tab", "Tab")
    assert page.run(f"{FOCUS}.id") == "item"
    page.type("amelie 5")
    page.until("document.querySelectorAll('#items [role=option]').length === 7")
    page.press("Enter")
    page.until(
        "location.hash.endsWith('item=5')&& document.querySelectorAll('#known button').length === 1"
    )
    page.run("document.querySelector('#item').focus()")
    page.press("ArrowDown")  # the popular ones
    page.until("document.querySelectorAll('#items [role=option]').length === 12")
    page.press("Escape")
    page.until("document.querySelector('#items').hidden")
    page.click("#student ol li:nth-child(1) button")
    page.until(
        "document.querySelector('#why .row button:last-child')?.innerText === 'Add to the history'"
    )
    page.click("#why .row button:last-child")
    page.until("document.querySelectorAll('#known button').length === 2")
    page.until(LISTED)
    page.run("document.querySelector('#known button').focus()")
    page.press("Enter")
    page.until("document.querySelectorAll('#known button').length === 1")
    page.until("document.activeElement === document.querySelector('#known button')")
    page.click("#clear")
    page.until("document.querySelectorAll('#known button').length === 0")


def test_the_address_tells_all(page: Chromium) -> None:
    first = ids(page, "student")
    page.click("#any")
    page.until("location.hash === '#user=60' && document.querySelector('#user').value === '60'")
    page.until(LISTED)
    page.run("history.back()")
    page.until("location.hash === '#user=7' && document.querySelector('#user').value === '7'")
    page.until(f"document.querySelector('#student ol button').dataset.id === '{first[0]}'")
    page.run("(() => { const k = document.querySelector('#k'); k.value = '5';"
             "k.dispatchEvent(new Event('change')); })()")  # fmt: skip
    page.until(LISTED.replace("10", "5"))
    page.send("Page.reload")
    page.until("document.querySelector('#k')?.value === '5'")
    page.until(LISTED.replace("10", "5"))
    assert ids(page, "student") == first[:5]
    asked = [url for url in page.addresses() if "compare" in url]
    assert asked and not any("7" in url.rsplit("/", 1)[1] for url in asked)  # no id is in a log


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_moves_while_it_loads(page: Chromium, server: Server, width: int) -> None:
    page.resize(width, 740, phone=width < 500)
    page.open(server.address + "#user=7")
    page.until(LISTED)
    page.run(
        "window.moved = 0; new PerformanceObserver(list => { for (const e of list.getEntries())"
        "window.moved += e.value; }).observe({type: 'layout-shift', buffered: true})"
    )
    page.run("Math.random = () => 0.5; document.querySelector('#any').click()")
    page.until("location.hash !== '#user=7'")
    page.until(LISTED)
    time.sleep(0.2)
    assert page.run("window.moved") < 0.002


def test_errors_are_told_and_can_be_retried(page: Chromium, server: Server) -> None:
    server.failing = True
    page.click("#any")
    page.until("!document.querySelector('#problem').hidden")
    assert text(page, "#problem p") == "The service is busy."
    assert page.run("document.querySelector('#problem').getAttribute('role')") == "alert"
    server.failing = False
    page.click("#retry")
    page.until(f"{LISTED} && document.querySelector('#problem').hidden")
    page.send("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1,
              uploadThroughput=-1)  # fmt: skip
    page.click("#student ol li:nth-child(3) button")
    page.until(
        "document.querySelector('#why .hint')?.innerText === 'The service can\\'t be reached.'"
    )
    page.send("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1,
              uploadThroughput=-1)  # fmt: skip
    page.open(server.address + "#user=nobody")
    page.until("document.querySelector('#problem p').innerText === 'There is no such user.'")
    expected = ("503", "404", "ERR_INTERNET_DISCONNECTED")
    assert all(any(part in one for part in expected) for one in page.complaints())
    page.events.clear()


def test_a_token_is_asked_for(page: Chromium, server: Server) -> None:
    server.token = "let me in"
    page.open(server.address + "#user=8")
    page.until("document.querySelector('#token').open")
    page.type("wrong")
    page.press("Enter")
    page.until(
        "document.querySelector('#token').open && document.querySelector('#secret').value === ''"
    )
    page.type("let me in")
    page.press("Enter")
    page.until(LISTED)
    assert all("401" in one for one in page.complaints())
    page.events.clear()


def test_without_a_teacher(page: Chromium, server: Server) -> None:
    server.models = server.both._replace(teacher=None)
    page.open(server.address + "#user=7")
    page.until(LISTED)
    assert page.run("getComputedStyle(document.querySelector('#teacher')).display") == "none"
    assert text(page, "#overlap") == "10 items"
    assert page.run("document.querySelectorAll('#figures tr').length") == 1
    assert not page.run("document.querySelector('#places').checkVisibility()")
    assert text(page, "#lead").startswith("What a student recommends.")


def test_without_titles_items_go_by_their_ids(page: Chromium, server: Server) -> None:
    server.models = server.both._replace(names=None)
    page.open(server.address + "#mode=history&item=12")
    page.until(LISTED)
    assert text(page, "#known") == "12\n×"
    page.run("document.querySelector('#item').focus()")
    page.type("5")
    page.until("document.querySelectorAll('#items [role=option]').length === 11")
    chosen = int(server.both.student.popularity[5])  # type: ignore[index]
    assert text(page, "#items li").split("\n") == ["5", f"{chosen} users"]


def test_without_scripts(page: Chromium, server: Server) -> None:
    page.send("Emulation.setScriptExecutionDisabled", value=True)
    page.open(server.address)
    tree = page.send("Accessibility.getFullAXTree")["nodes"]
    page.send("Emulation.setScriptExecutionDisabled", value=False)
    told = " ".join(node.get("name", {}).get("value", "") for node in tree)
    assert "needs JavaScript" in told and "/recommend" in told
    assert "Recommend to" not in told  # what would not work is not shown


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 360, 390, 1280])
def test_everything_fits_and_can_be_read(
    page: Chromium, width: int, dark: bool, tmp_path: Path
) -> None:
    page.resize(width, 740, dark=dark, phone=width < 500)
    page.click("#teacher ol li:nth-child(4) button")
    page.until("document.querySelector('#why svg[role=img]')")
    page.run("document.querySelector('#user').focus()")
    page.press("ArrowDown")
    page.until("!document.querySelector('#users').hidden")
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run(CONTRAST) == []
    assert page.run(SMALL) == []
    heights = page.run(
        "[...document.querySelectorAll('.list h2')].map(h => h.getBoundingClientRect().height)"
    )
    assert max(heights) < 30  # one line, so that no word is broken
    picture = tmp_path / "page.png"
    page.screenshot(picture)
    assert picture.stat().st_size > 10_000


#: Texts whose colour is too near to the colour behind them (WCAG AA).
CONTRAST = """(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => parts(colour).slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if ((parts(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const element of document.querySelectorAll("body *:not(svg *)")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest(".unseen, noscript")) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push([element.textContent.slice(0, 30), ratio]);
  }
  return found;
})()"""

#: What is too small for a finger (WCAG 2.2 AA: 24 by 24).
SMALL = """[...document.querySelectorAll("button, input, select, [role=option]")]
  .filter((e) => e.checkVisibility())
  .map((e) => [e.id || e.textContent.slice(0, 20), e.getBoundingClientRect()])
  .filter(([, box]) => box.width < 24 || box.height < 24).map(([name]) => name)"""


def test_all_that_takes_the_focus_has_a_name(page: Chromium) -> None:
    page.click("#student ol button")
    page.until("document.querySelector('#why svg[role=img]')")
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "combobox", "radio", "textbox", "link", "image", "listbox", "MenuListPopup"}
    named = {node["role"]["value"] for node in nodes if node.get("role")}
    assert {"button", "combobox", "radio", "link", "image"} <= named
    for node in nodes:
        if not node.get("ignored") and node.get("role", {}).get("value") in roles - {
            "MenuListPopup"
        }:
            assert node.get("name", {}).get("value"), node
    headings = page.run("[...document.querySelectorAll('h1, h2')].map(h => h.tagName)")
    assert headings[0] == "H1" and set(headings[1:]) == {"H2"}
    assert page.run("document.documentElement.lang") == "en"
