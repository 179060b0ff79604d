"""The app by keyboard and by screen reader, in a real browser: names, order, focus and contrast as WCAG AA asks."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import forked
import pytest
from conftest import OWNER_KEY, SAMPLE
from served import CHROMIUM, FLAGS, serving
from test_browser import WAIT, pytestmark

import cohortsync as cs
from cohortsync import work
from cohortsync.pages import progress

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
__all__ = ["pytestmark"]

FIGURES = {"": 0, "cohorts?cohort=trial-ending": 2, "export?cohort=trial-ending": 0, "export?cohort=power-users": 1,
           "syncs": 0, "audience": 1, "mtu": 2, "mtu?view=days": 1, "mtu?view=events": 1, "runs": 1}  # by page
CONTROLS = ("button", "link", "textbox", "combobox", "switch", "checkbox", "radio", "slider", "spinbutton", "figure",
            "DisclosureTriangle")
REACHABLE = """() => [...document.querySelectorAll(
        'a[href], button, input, select, textarea, summary, [role=combobox], [role=switch]')]
    .filter(e => e.tabIndex >= 0 && !e.disabled && e.checkVisibility({visibilityProperty: true}))
    .filter(e => e.type !== 'radio' || e.checked || !document.querySelector(`[name="${e.name}"]:checked`))
    .filter(e => !e.closest('[aria-hidden=true], [inert]') && e.type !== 'file')
    .map((e, n) => { e.dataset.stop ??= String(n); return e.dataset.stop })"""
FOCUSED = """() => { const e = document.activeElement, box = e.getBoundingClientRect(), around = 6;
    return e === document.body ? null : {stop: e.dataset.stop, kind: e.tagName + (e.type || '') + (e.role || ''),
        said: e.ariaLabel || e.innerText,
        box: {x: Math.max(box.x - around, 0), y: Math.max(box.y - around, 0), width: box.width + 2 * around,
              height: box.height + 2 * around}} }"""
# Every text that is seen, the colour it has and the one behind it, all transparency reckoned.
PALE = """() => {
    const rgba = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a] };
    const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3]));
    const light = c => c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = e => { const layers = [];
        for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); layers.push(c);
                                         if (c[3] === 1) break }
        return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]) };
    const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; node = walker.nextNode();) {
        const e = node.parentElement, style = getComputedStyle(e);
        if (!node.data.trim() || !e.checkVisibility({visibilityProperty: true}) || !e.getClientRects().length
            || e.closest('[data-testid=stIconMaterial], :disabled, [aria-disabled=true], script, style')) continue;
        const colour = rgba(e.closest('svg') ? style.fill : style.color);
        for (let up = e; up; up = up.parentElement) colour[3] *= Number(getComputedStyle(up).opacity);
        const under = behind(e), [high, low] = [light(over(colour, under)), light(under)].sort((a, b) => b - a);
        const size = parseFloat(style.fontSize), big = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
        const ratio = (high + 0.05) / (low + 0.05);
        if (ratio < (big ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${node.data.trim().slice(0, 60)}`);
    }
    return [...new Set(found)] }"""


@pytest.fixture(scope="module")
def app_url(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app on the sample, with a run that was proven, a sync that stands and a plan that waits to be approved."""
    place = tmp_path_factory.mktemp("accessible")
    shutil.copytree(sample, place / "home")
    workspace = cs.open(place / "home")
    with forked.sandbox(place / "mailchimp", seed=SAMPLE / "mailchimp_members.ndjson") as running:
        workspace.connect_mailchimp(OWNER_KEY, "subscribed", running.mailchimp_url)
        audience = workspace.chosen_audience()
        workspace.sync("trial-ending", audience)
        workspace.create_sync("trial-ending", audience)
        waiting = work.start(workspace.home, progress.name_of("plan", None, "power-users", audience), "Planning",
                             ["plan", "power-users", "--audience", audience])
        while waiting.running:
            time.sleep(0.1)
        with serving(place / "app.log", "-m", "cohortsync", "--home", workspace.home, "app", "--port") as url:
            yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as p:
        yield p.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)


@pytest.fixture(scope="module")
def page(browser: Any) -> Any:
    """One window for all of them."""
    page = browser.new_page(viewport={"width": 1280, "height": 1600})
    page.set_default_timeout(WAIT)
    return page


def opened(page: Any, url: str, name: str) -> None:
    """Open a page and wait until all of it stands there."""
    page.goto(f"{url}/{name}")
    page.get_by_role("heading", level=1).first.wait_for()
    playwright.expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning",
                                                                      timeout=WAIT)
    playwright.expect(page.locator(".js-plotly-plot .infolayer")).to_have_count(FIGURES[name], timeout=WAIT)


@pytest.fixture(scope="module", params=FIGURES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def shown(page: Any, app_url: str, name: str) -> Any:
    """A page as it stands there, opened once for all that is asked of it."""
    opened(page, app_url, name)
    return page


def heard(page: Any) -> list[tuple[str, str, int]]:
    """What a screen reader finds, in order: role, name, level of a heading."""
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    shown = [node for node in nodes if not node.get("ignored") and "role" in node]
    return [(node["role"]["value"], node.get("name", {}).get("value", "").strip(),
             next((p["value"]["value"] for p in node.get("properties", []) if p["name"] == "level"), 0))
            for node in shown]


def test_a_screen_reader_hears_a_name_for_everything_and_headings_in_order(shown: Any, name: str) -> None:
    found = heard(shown)
    assert not [role for role, said, _ in found if role in CONTROLS and not said]
    levels = [level for role, _, level in found if role == "heading"]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels
    figures = [said for role, said, _ in found if role == "figure"]
    assert len(figures) == FIGURES[name]
    assert all(any(sign.isdigit() for sign in said) for said in figures), figures


def test_every_text_stands_out_from_what_is_behind_it(shown: Any) -> None:
    assert shown.evaluate(PALE) == []


def test_tab_alone_reaches_every_control_and_leads_out_again(shown: Any) -> None:
    wanted, reached, unseen, kinds = set(shown.evaluate(REACHABLE)), set(), [], set()
    for _ in range(len(wanted) + 60):
        shown.keyboard.press("Tab")
        if (at := shown.evaluate(FOCUSED)) is None:
            break
        reached.add(at["stop"])
        if at["stop"] and at["kind"] not in kinds and not shows_focus(shown, at["box"]):
            unseen.append(at)
        kinds.add(at["kind"])
    else:
        raise AssertionError("the keyboard is trapped")
    missed = [shown.locator(f'[data-stop="{stop}"]').evaluate("e => e.outerHTML.slice(0, 200)")
              for stop in wanted - reached]
    assert not missed
    assert not unseen


def shows_focus(page: Any, box: dict[str, float]) -> bool:
    """Whether what has the focus looks other than without it."""
    with_focus = page.screenshot(clip=box)
    focused = page.evaluate_handle("() => { const e = document.activeElement; e.blur(); return e }")
    without = page.screenshot(clip=box)
    focused.evaluate("e => e.focus()")
    return with_focus != without


def test_every_text_stands_out_in_the_dark_too(browser: Any, app_url: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 1600}, color_scheme="dark")
    page.set_default_timeout(WAIT)
    pale = {}
    for name in FIGURES:
        opened(page, app_url, name)
        pale[name] = page.evaluate(PALE)
    page.close()
    assert not {name: texts for name, texts in pale.items() if texts}
