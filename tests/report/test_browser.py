"""The page in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pytest

from kansearch.report.render import write_report
from tests.browsers import PATIENCE_MS

pytestmark = pytest.mark.browser

BACKGROUND = "getComputedStyle(document.body).backgroundColor"
INK = "getComputedStyle(document.querySelector('#plot-front .legendtext')).fill"


@pytest.fixture(scope="module")
def address(builder: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    return write_report(builder.summary(), folder, datetime(2026, 8, 1, tzinfo=UTC)).as_uri()


@pytest.fixture(scope="module")
def light(chromium: Any, address: str) -> Iterator[Visit]:
    """A visit that tests only look at."""
    with Visit(chromium, address) as visit:
        yield visit


@pytest.fixture(scope="module")
def dark(chromium: Any, address: str) -> Iterator[Visit]:
    with Visit(chromium, address, scheme="dark") as visit:
        yield visit


@pytest.fixture(scope="module")
def phone(chromium: Any, address: str) -> Iterator[Visit]:
    with Visit(chromium, address, width=360) as visit:
        yield visit


class Visit:
    """A page with all that it asked for and complained about."""

    def __init__(self, browser: Any, address: str, width: int = 1280, scheme: str = "light") -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(address)
        self.page.wait_for_selector("html[data-plots=drawn]")

    def wait_until(self, condition: str) -> None:
        """Playwright's own wait_for_function evaluates text in the page, which the page's policy forbids."""
        for _ in range(PATIENCE_MS // 50):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(50)
        pytest.fail(f"never became true: {condition}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


def test_page_draws_every_figure_and_asks_nobody(light: Visit) -> None:
    """All figures are drawn under the page's own policy, without a request or a word on the console."""
    figures = light.page.locator(".plot").count()
    assert figures >= 7
    for index in range(figures):
        assert light.page.locator(".plot").nth(index).locator(".main-svg").count() >= 1
    assert light.page.locator("#plot-front .scatterlayer .point").count() > 20
    assert [url for url in light.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert light.complaints == []


def test_no_button_of_a_figure_leads_to_a_server(light: Visit) -> None:
    """Plotly's button that uploads a figure is not there; its names change with its versions, so look at them all."""
    buttons = light.page.locator("#plot-front .modebar-btn")
    titles = {buttons.nth(i).get_attribute("data-title") for i in range(buttons.count())}
    assert titles == {"Download plot as a PNG", "Zoom", "Pan", "Reset axes"}


def test_hover_shows_the_architecture(light: Visit, builder: Any) -> None:
    """Over a mark of the front stand its trial, its architecture and its values."""
    best = max(builder.summary().front, key=lambda member: member.values["accuracy"])
    light.page.locator("#plot-front").scroll_into_view_if_needed()
    marks = light.page.locator("#plot-front .scatterlayer .point")
    seen = ""
    for index in range(marks.count() - 1, -1, -1):  # marks of the front are the last ones, drawn above the others
        box = marks.nth(index).bounding_box()
        light.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        before = seen
        for _ in range(40):  # marks that lie over each other show the same
            light.page.wait_for_timeout(50)
            seen = light.page.locator("#plot-front .hoverlayer").text_content() or ""
            if seen != before:
                break
        if f"trial {best.trial} " in seen:
            break
    assert f"trial {best.trial} " in seen
    assert best.architecture[:20] in seen
    assert "accuracy" in seen
    assert "parameters" in seen


def test_phone_needs_no_sideways_scrolling(phone: Visit) -> None:
    """At 360 pixels the page is as wide as the screen, figures included; only tables scroll in their frames."""
    assert phone.page.evaluate("document.documentElement.scrollWidth") == 360
    widths = phone.page.evaluate("[...document.querySelectorAll('.plot')].map((p) => p.scrollWidth)")
    assert max(widths) <= 360


def test_page_and_figures_follow_the_colour_scheme(chromium: Any, address: str, light: Visit, dark: Visit) -> None:
    """A dark screen has a dark page with light figures, also when it becomes dark while the page is open."""
    here, there = ((v.page.evaluate(BACKGROUND), v.page.evaluate(INK)) for v in (light, dark))
    assert here[0] != there[0]
    assert here[1] != there[1]
    with Visit(chromium, address) as visit:
        visit.page.emulate_media(color_scheme="dark")
        visit.wait_until(f"{INK} === '{there[1]}'")
        assert visit.page.evaluate(BACKGROUND) == there[0]
        assert visit.complaints == []


def test_text_has_contrast(light: Visit, dark: Visit) -> None:
    """Text stands out from its background by 4.5 : 1, marks of a family by 3 : 1, in both colour schemes (WCAG 2.2)."""
    script = """() => {
      const probe = document.body.appendChild(document.createElement("i"));
      const rgb = (name) => {
        probe.style.color = `var(${name})`;
        return getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(Number);
      };
      const names = ["page", "surface", "soft", "ink", "muted", "link", "warn", "mlp", "kan", "hybrid", "bar"];
      return Object.fromEntries(names.map((name) => [name, rgb(`--${name}`)]));
    }"""
    for scheme, visit in (("light", light), ("dark", dark)):
        colours = visit.page.evaluate(script)
        for ground in ("page", "surface", "soft"):
            for name in ("ink", "muted", "link"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (scheme, name, ground)
            for name in ("mlp", "kan", "hybrid", "bar", "warn"):
                assert contrast(colours[name], colours[ground]) >= 3, (scheme, name, ground)


def contrast(one: list[float], other: list[float]) -> float:
    def luminance(colour: list[float]) -> float:
        parts = [c / 255 for c in colour]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_keyboard_reaches_everything(phone: Visit) -> None:
    """The first stop of the tab key skips to the result; wide tables can be focused and so be scrolled."""
    phone.page.keyboard.press("Tab")
    assert phone.page.evaluate("document.activeElement.textContent") == "Skip to the result"
    assert phone.page.evaluate("[...document.querySelectorAll('.scroll, pre')].every((e) => e.tabIndex === 0)")


def test_paper_is_light(chromium: Any, address: str, light: Visit, tmp_path: Path) -> None:
    """A dark screen prints a light page with light figures, and afterwards is dark again."""
    with Visit(chromium, address, scheme="dark") as visit:
        before = visit.page.evaluate(INK)
        visit.page.evaluate(
            f"() => {{ window.printed = []; window.addEventListener('beforeprint', () => printed.push({INK})); }}"
        )
        visit.page.pdf(path=tmp_path / "report.pdf", format="A4")
        assert (tmp_path / "report.pdf").stat().st_size > 50_000
        assert visit.page.evaluate("printed") == [light.page.evaluate(INK)]
        visit.wait_until(f"{INK} === '{before}'")
        assert visit.complaints == []
