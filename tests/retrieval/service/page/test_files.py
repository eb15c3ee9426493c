"""The files of the page: nothing from elsewhere, nothing inline, nothing without a reason."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from starlette.testclient import TestClient

from pyg_kd.retrieval.service.page.assets import Assets


class Links(HTMLParser):
    """Notes what a page loads and what it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.links += [value for key in ("src", "href", "action") if (value := named.get(key))]
        self.inline += [key for key in named if key.startswith("on") or key == "style"]
        if tag == "style" or (tag == "script" and not named.get("src")):
            self.inline.append(tag)


def test_everything_comes_from_the_service(client: TestClient) -> None:
    page = Links()
    page.feed(client.get("/").text)
    assert not page.inline
    for link in page.links:
        if link.startswith("#"):
            continue
        assert client.get(f"/{link}").status_code == 200, link
    assert {"page/app.js", "page/style.css", "page/icon.svg"} <= set(page.links)


@pytest.mark.parametrize("name", sorted(Assets().names))
def test_files_name_no_other_host_and_make_no_markup(client: TestClient, name: str) -> None:
    response = client.get("/" if name == "index.html" else f"/page/{name}")
    text = response.text.replace("http://www.w3.org/2000/svg", "").replace("http://127.0.0.1:", "")
    assert not re.search(r"(https?:)?//[a-z0-9]", re.sub(r"^\s*//.*$", "", text, flags=re.M))
    for risky in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert risky not in text
    for imported in re.findall(r'from "\./(.+?)"', text):
        assert imported in Assets().names


def test_headers_forbid_everything_from_elsewhere(client: TestClient) -> None:
    answers = [client.get("/"), client.get("/page/app.js"), client.get("/compare/about")]
    for response in answers:
        policy = response.headers["content-security-policy"].split("; ")
        assert "default-src 'self'" in policy
        assert not any("unsafe" in rule or "*" in rule or "http" in rule for rule in policy)
        assert {"object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"} <= set(policy)
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
    assert answers[2].headers["cache-control"] == "no-store"
    assert answers[1].headers["content-type"].startswith("text/javascript")


def test_a_file_the_browser_has_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/page/app.js")
    again = client.get("/page/app.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get("/page/style.css", headers={"if-none-match": first.headers["etag"]})
    assert other.status_code == 200


@pytest.mark.parametrize("name", ["nothing.js", "..%2fhandlers.py", "__init__.py", "%00"])
def test_only_the_files_of_the_page_are_sent(client: TestClient, name: str) -> None:
    assert client.get(f"/page/{name}").status_code == 404


def test_without_scripts_there_is_a_message(client: TestClient) -> None:
    text = client.get("/").text
    message = text[text.index("<noscript>") : text.index("</noscript>")]
    assert "JavaScript" in message and "/recommend" in message
    assert '<main class="needs-script" hidden>' in text
