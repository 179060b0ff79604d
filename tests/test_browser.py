"""The app in a real browser: a rehearsal from the key to the proof, and nothing that leaves this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import forked
import pytest
from conftest import ADMIN, OWNER_KEY, PROJECT_ID, SAMPLE
from installed import held
from served import CHROMIUM, FLAGS, ROOT, serving

import cohortsync as cs
from cohortsync import sandbox

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

WAIT = 120_000  # milliseconds; the machine may be busy
LOOPBACK = ("127.0.0.1", "localhost")
PICTURES = os.environ.get("COHORTSYNC_PICTURES")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium found; `make browser` installs Debian's, or name yours with "
                                            "COHORTSYNC_CHROMIUM"),
]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The workspace that the app is opened on."""
    return tmp_path / "home"


@pytest.fixture
def services(tmp_path: Path) -> Iterator[sandbox.Sandbox]:
    """Both local services, with the sample's people."""
    with forked.sandbox(tmp_path / "services", seed=SAMPLE / "mailchimp_members.ndjson",
                        mixpanel_seed=SAMPLE / "mixpanel.json") as running:
        yield running


@pytest.fixture
def app_url(home: Path, tmp_path: Path) -> Iterator[str]:
    """The app by Streamlit alone, on a free port, on a workspace with nothing in it."""
    with serving(tmp_path / "app.log", "-m", "streamlit", "run", ROOT / "app.py", "--server.port",
                 COHORTSYNC_HOME=str(home)) as url:
        yield url


@pytest.fixture
def demo_url(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app on the workspace that the demo left, as ``make app`` starts it: with its own local Mailchimp."""
    with held(tmp_path_factory) as installed:
        done = installed.demo()
        assert done.returncode == 0, done.stderr
        command = ["-m", "cohortsync", "--home", installed.folder / "cohortsync-demo", "app", "--port"]
        with serving(tmp_path / "app.log", *command, XDG_STATE_HOME=installed.environment["XDG_STATE_HOME"]) as url:
            yield url


class Visit:
    """One user with one browser: where they are, what they asked the network for, what went wrong."""

    def __init__(self, page: playwright.Page, pictures: Path) -> None:
        self.page, self.pictures = page, pictures
        self.hosts: set[str | None] = set()
        self.complaints: list[str] = []
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname))
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _listen(self, message: playwright.ConsoleMessage) -> None:
        """Note errors; Streamlit looks for itself below a page's own address first, and finds nothing there."""
        if message.type == "error" and "/_stcore/" not in message.location["url"]:
            self.complaints.append(f"{message.text} {message.location['url']}")

    def go_to(self, name: str) -> None:
        self.page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True).click()
        self.page.get_by_role("heading", name=name, level=1).wait_for()

    def sees(self, text: str | re.Pattern[str]) -> None:
        self.page.get_by_text(text).filter(visible=True).first.wait_for()

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def fill(self, label: str, text: str) -> None:
        self.page.locator(f'input[aria-label^="{label}"]').first.fill(text)

    def metric(self, label: str) -> str:
        shown = self.page.get_by_test_id("stMetric").filter(has_text=re.compile(f"^{label}"))
        return shown.get_by_test_id("stMetricValue").first.inner_text()

    def picture(self, name: str) -> None:
        """What the user sees comes to rest; where pictures are asked for, keep it, the mouse out of the way."""
        playwright.expect(self.page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
        if not PICTURES:
            return
        self.page.mouse.move(0, 0)
        self.page.get_by_test_id("stMain").evaluate("main => main.scrollTo(0, 0)")
        self.page.wait_for_timeout(500)
        self.page.screenshot(path=self.pictures / f"{name}.png")


@pytest.fixture(params=["light", "dark"] if PICTURES else ["light"])
def visit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Visit]:
    pictures = Path(PICTURES or tmp_path) / request.param
    pictures.mkdir(parents=True, exist_ok=True)
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1600}, color_scheme=request.param)
        page.set_default_timeout(WAIT)
        yield Visit(page, pictures)
        browser.close()


def test_the_app_on_what_the_demo_left_syncs_another_cohort_there(visit: Visit, demo_url: str) -> None:
    visit.page.goto(f"{demo_url}/export?cohort=power-users")
    visit.sees("LOCAL REHEARSAL")
    visit.press("Plan")
    visit.press("Sync now")
    visit.sees(re.compile(r"Proven by reading back: [\d,]+ of [\d,]+"))
    visit.go_to("Runs")
    visit.sees("Proven by reading back")
    assert visit.hosts <= set(LOOPBACK), visit.hosts


@pytest.mark.timeout(1500)
def test_a_growth_team_walks_the_whole_way_without_a_terminal(
        visit: Visit, app_url: str, home: Path, tmp_path: Path, services: sandbox.Sandbox) -> None:
    connect(visit, app_url, services)
    visit.press("Pull from Mixpanel")
    visit.sees("It goes on when you look elsewhere")
    visit.picture("2-pulling")
    visit.sees("Pulled from Mixpanel")
    visit.picture("3-connect")

    visit.page.goto(f"{app_url}/cohorts?cohort=power-users")
    visit.sees("ids of the cohort")
    assert int(visit.metric("In the cohort")) >= 600
    visit.picture("4-cohorts")

    planned = export_once(visit)
    assert visit.metric("Added") == f"{planned['Add new'] + planned['Add existing']:,}"
    assert visit.metric("Refused") == f"{planned['Refuse']:,}"
    visit.picture("6-proof")

    visit.press("Plan again")
    visit.page.get_by_text("Dynamic", exact=True).click()
    with another_session(visit, f"{app_url}/export?cohort=power-users") as other:
        other.get_by_role("heading", name="The plan").wait_for()
        visit.press("Sync now")
        visit.sees("Proven by reading back")
        other.reload()
        other.get_by_text("Proven by reading back").first.wait_for()
    sandbox.advance(tmp_path / "services", 2 * 3600)

    visit.go_to("Syncs")
    visit.sees("Active")
    visit.press("Run now")
    visit.sees("Running power-users")
    visit.go_to("MTU")
    visit.sees("Incomplete:")
    visit.picture("8-mtu")
    visit.go_to("Syncs")
    visit.sees(re.compile("Completed · "))
    visit.picture("7-syncs")

    for number, view in ((9, "days"), (10, "events")):
        visit.page.goto(f"{app_url}/mtu?view={view}")
        visit.page.locator(".js-plotly-plot").first.wait_for()
        visit.picture(f"{number}-mtu-{view}")
    visit.go_to("Audience")
    visit.sees("Segments kept for cohorts")
    visit.picture("11-audience")
    visit.go_to("Runs")
    visit.sees("Proven by reading back")
    visit.picture("12-runs")
    visit.press("Plan the undoing")
    visit.page.get_by_role("heading", name="The plan").wait_for()
    visit.press("Sync now")
    visit.page.get_by_role("heading", name="The proof").nth(1).wait_for()

    assert cs.open(home).runs()["status"].tolist() == ["completed"] * 4
    assert visit.hosts <= set(LOOPBACK), visit.hosts
    assert not visit.complaints


def connect(visit: Visit, app_url: str, services: sandbox.Sandbox) -> None:
    """Connect both sides, from a workspace with nothing in it."""
    visit.page.goto(app_url)
    visit.sees("Not connected")
    visit.picture("1-start")
    visit.fill("Mixpanel's project id", PROJECT_ID)
    visit.fill("Service account's username", ADMIN.username)
    visit.fill("Service account's secret", ADMIN.secret)
    visit.fill("Address of a local Mixpanel", str(services.mixpanel_url))
    visit.page.get_by_text("simplified", exact=True).first.click()
    visit.press("Connect the project")
    visit.sees("its role: admin")
    visit.fill("API key", OWNER_KEY)
    visit.fill("Local address", services.mailchimp_url)
    visit.page.get_by_text("subscribed", exact=True).click()
    visit.press("Connect")
    visit.sees("LOCAL REHEARSAL")


def export_once(visit: Visit) -> dict[str, int]:
    """Plan the chosen cohort, look, and sync it; what the plan said."""
    visit.page.get_by_role("link", name="Export this cohort").click()
    visit.press("Plan")
    visit.page.get_by_role("heading", name="The plan").wait_for()
    planned = {word: int(visit.metric(word).replace(",", "")) for word in ("Add new", "Add existing", "Refuse")}
    visit.picture("5-plan")
    visit.press("Sync now")
    visit.sees("It goes on when you look elsewhere")
    visit.go_to("MTU")
    visit.go_to("Export")
    visit.sees("Proven by reading back")
    return planned


@contextmanager
def another_session(visit: Visit, url: str) -> Iterator[playwright.Page]:
    """A second user, in a window that shares nothing with the first."""
    browser = visit.page.context.browser
    assert browser
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.goto(url)
    yield page
    context.close()
