"""The page in a real browser: Chromium of the distribution, driven by Playwright without a download.

`make test-all` runs it where both are there; `PYG_KGREC_BROWSER` names another Chromium.
"""

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch_geometric import seed_everything

from pyg_kgrec import KSR, KGRec, Popularity, fit
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.explain.units import Removals
from pyg_kgrec.transforms import RandomSplit

playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs Playwright: pip install pyg-kgrec[browser]"
)
uvicorn = pytest.importorskip("uvicorn", reason="needs a server: pip install pyg-kgrec[serve]")
pytest.importorskip("fastapi", reason="needs FastAPI: pip install pyg-kgrec[serve]")
from pyg_kgrec.serving import create_app  # noqa: E402

CHROMIUM = os.environ.get("PYG_KGREC_BROWSER") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium of the distribution, or PYG_KGREC_BROWSER"),
]

SCRIPT = '<script>document.title = "taken"</script><img src=x onerror="document.title=1">'
ODD = [SCRIPT, "السيد الكبير في المدينة القديمة", "🎬🍿 family 👩‍👩‍👧‍👦 night", "W" * 150, "A name " * 40]
FAR = 2**60 + 1  # no float holds it
SIZES = {"wide": (1280, 900), "phone": (390, 844)}


@contextmanager
def served(app) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def world():
    """A store with odd names, and the models that serve it."""
    data = SyntheticKG(num_users=40, num_items=60, num_entities=120, seed=0)[0]
    data["item"].name = [f"Film {i}" for i in range(60)]
    data["item"].name[: len(ODD)] = ODD
    data["item"].id = list(range(FAR, FAR + 60))
    data["user"].id = [f"u/{i}" for i in range(40)]
    data["user"].name = [f"Person {i}" for i in range(40)]
    train, _, test = RandomSplit(val=0.1, test=0.1, seed=0)(data)
    seed_everything(0)
    models = SimpleNamespace(train=train, test=test)
    for name, kind in (("kgrec", KGRec), ("ksr", KSR)):
        model = kind(train, hidden_channels=16)
        fit(model, train, max_epochs=8, seed=0, progress=False)
        setattr(models, name, model)
    return models


@pytest.fixture(scope="module")
def service(world):
    with served(create_app(world.kgrec, world.test)) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page in the browser that notes what it complains about and whom it asks."""

    def __init__(self, browser, address, size="wide", scheme="light") -> None:
        width, height = SIZES[size]
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.said: list[str] = []
        self.hosts: set[str] = set()
        self.page.on(
            "console", lambda m: self.said.append(m.text) if m.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(re.match(r"\w+:(//[^/]+)?", request.url)[0]))
        self.asked: set[int] = set()
        self.page.on("request", lambda request: self.asked.add(id(request)))
        for ending in ("requestfinished", "requestfailed"):
            self.page.on(ending, lambda request: self.asked.discard(id(request)))
        self.address = address
        self.page.goto(address)

    def user(self, number=0):
        self.page.click(f".chip >> nth={number}")
        return self.rows()

    def rows(self):
        self.page.wait_for_selector("#list:not([aria-busy]) .row")
        return self.page.locator("#list .row")

    def names(self) -> list[str]:
        self.rows()
        return self.page.locator("#list .name").all_text_contents()

    def why(self, number=0):
        self.page.click(f"#list .row >> nth={number}")
        self.page.wait_for_selector(".drawing svg")
        return self.page.locator(".reason")

    def leave_out(self, number=0):
        self.page.click(f".reason >> nth={number}")
        self.page.wait_for_selector("#without:not([hidden])")
        self.settled()

    def settled(self):
        """Waits until nothing is asked any more."""
        quiet = 0
        for _ in range(1000):
            self.page.wait_for_timeout(20)
            quiet = 0 if self.asked else quiet + 1
            if quiet == 4:
                break
        else:
            raise AssertionError("requests do not end")
        self.rows()

    def heard(self) -> str:
        return self.page.text_content("#said")


@pytest.fixture
def visit(browser, service):
    visits = []

    def new(address=service, **arguments) -> Visit:
        visits.append(Visit(browser, address, **arguments))
        return visits[-1]

    new.allowed = ()
    yield new
    for one in visits:
        said = [text for text in one.said if not any(allowed in text for allowed in new.allowed)]
        assert said == []
        assert one.hosts <= {one.address}, "the page asks its own service alone"
        one.context.close()


def expected(world, user, item=None, rows=(), k=10):
    """What the library recommends: without some rows of an explanation's units where an item is named."""
    model, store = world.kgrec, world.test
    if item is None:
        items, scores = model.recommend(store, torch.tensor([user]), k=k)
        return items[0].tolist(), scores[0].tolist()
    explanation = model.explain(store, f"u/{user}", FAR + item)
    places = sorted({place for row in rows for place in explanation.told.places[row]})
    measured = explanation.measured
    pair = torch.tensor([user]), torch.tensor([item])
    removal = Removals.together([torch.tensor(places)])
    score = (
        model.eval().scores_without(measured.inputs, *pair, measured.units, removal, every=True)[0].clone()
    )
    for edge_index in (store["user", "item"].edge_index, store["user", "item"].seen_edge_index):
        score[edge_index[1, edge_index[0] == user]] = -torch.inf
    best = score.topk(k)
    return best.indices.tolist(), best.values.tolist()


def labels(world, items) -> list[str]:
    return [world.test["item"].name[i] for i in items]


# ------------------------------------------------------------------ what it shows


def test_the_list_is_the_library_s(visit, world):
    at = visit()
    at.user(3)
    items, scores = expected(world, 3)
    assert at.names() == labels(world, items)
    shown = [float(text.replace("−", "-")) for text in at.page.locator("#list .score").all_text_contents()]
    assert shown == pytest.approx(scores, rel=1e-3)
    assert at.heard() == "10 recommendations for Person 3"
    assert at.page.locator('.chip[aria-pressed="true"]').all_text_contents() == ["Person 3"]


def test_every_item_of_the_list_gets_its_first_reason(visit, world):
    at = visit()
    at.user(1)
    at.settled()
    items, _ = expected(world, 1)
    told = [world.kgrec.explain(world.test, "u/1", FAR + item).text().splitlines()[0] for item in items]
    shown = at.page.locator("#list .because").all_text_contents()
    assert len(shown) == 10
    for said, line in zip(shown, told):
        assert said
        assert said in line


def test_the_history_is_shown(visit, world):
    at = visit()
    at.user(2)
    who, what = world.test["user", "item"].edge_index
    past = set(what[who == 2].tolist())
    seen_by, seen = world.test["user", "item"].seen_edge_index
    past |= set(seen[seen_by == 2].tolist())
    at.page.click("#history-title")
    assert at.page.text_content("#history-title") == f"History: {len(past)} items"
    assert set(at.page.locator("#history-list li").all_text_contents()) == set(labels(world, past))


def test_longer_lists(visit, world):
    at = visit()
    at.user(0)
    at.page.select_option("#length", "20")
    at.settled()
    assert at.names() == labels(world, expected(world, 0, k=20)[0])


# ------------------------------------------------------------------ leaving out


def test_a_reason_left_out_changes_the_list_as_the_library_says(visit, world):
    at = visit()
    at.user(3)
    before = expected(world, 3, k=60 - 1)[0]
    reasons = at.why(0)
    told = world.kgrec.explain(world.test, "u/3", FAR + before[0]).reasons(5)
    assert reasons.count() == len(told) > 1
    at.leave_out(0)
    items, _ = expected(world, 3, before[0], told[0].units)
    assert at.names() == labels(world, items) != labels(world, before[:10])
    for now, (item, row) in enumerate(zip(items, at.rows().all())):
        by = before.index(item) - now
        sign = row.locator(".moved").all_text_contents()
        assert sign == ([] if not by else [f"{'▲' if by > 0 else '▼'} {abs(by)}"])
    assert at.page.locator(".reason").nth(0).get_attribute("aria-pressed") == "true"
    assert at.heard().startswith("Without it ")
    assert "of 10 items of the list have moved" in at.heard()

    at.leave_out(1)
    both, _ = expected(world, 3, before[0], (*told[0].units, *told[1].units))
    assert at.names() == labels(world, both)
    gone = [item for item in before[:10] if item not in both]
    for item in gone:
        assert world.test["item"].name[item] in at.page.text_content("#gone")

    at.page.click("text=Undo the last")
    at.settled()
    assert at.names() == labels(world, items)
    at.leave_out(1)
    at.page.click("text=Put all back")
    at.settled()
    assert at.names() == labels(world, before[:10])
    assert not at.page.is_visible("#without")
    assert not at.page.locator(".moved").count()
    assert at.page.evaluate("document.activeElement.id") == "results", "the focus is not lost with its button"


def test_what_is_left_out_of_one_item_is_put_back_for_another(visit, world):
    at = visit()
    at.user(3)
    before = expected(world, 3)[0]
    at.why(0)
    at.leave_out(0)
    other = at.names()[4]
    at.why(4)
    assert at.page.is_visible("#without"), "looking at another item changes nothing"
    assert at.page.locator('.reason[aria-pressed="true"]').count() == 0
    at.leave_out(0)
    item = world.test["item"].name.index(other)
    told = world.kgrec.explain(world.test, "u/3", FAR + item).reasons(5)
    assert at.names() == labels(world, expected(world, 3, item, told[0].units)[0]) != labels(world, before)


# ------------------------------------------------------------------ by keyboard


def test_all_of_it_by_keyboard(visit, world):
    at = visit()
    at.page.wait_for_selector(".chip")
    press, focused = (
        at.page.keyboard.press,
        lambda: at.page.evaluate("document.activeElement.className || document.activeElement.id"),
    )
    press("Tab")
    assert focused() == "skip"
    press("Tab")
    assert at.page.evaluate("document.activeElement.value") == "user"
    press("Tab")
    assert focused() == "user-search-input"
    at.page.keyboard.type("person 1")
    at.page.wait_for_selector("#user-search-options li >> text=Person 17")
    press("ArrowDown")
    press("ArrowDown")
    active = at.page.get_attribute("#user-search-input", "aria-activedescendant")
    assert at.page.text_content(f"#{active} .name") == "Person 10"
    press("Enter")
    at.settled()
    assert at.page.text_content("#list-title") == "For Person 10"
    assert focused() == "user-search-input"
    while focused() != "row":
        press("Tab")
    outline = at.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus can be seen"
    press("Enter")
    at.page.wait_for_selector(".reason")
    at.settled()
    assert focused() == "right"
    press("Tab")
    press("Tab")
    assert focused() == "reason"
    before = at.names()
    press("Space")
    at.page.wait_for_selector("#without:not([hidden])")
    at.settled()
    assert focused() == "reason"
    assert at.page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert at.names() != before
    press("Escape")
    at.settled()
    assert at.names() == before
    assert at.page.is_visible("#reasons")
    press("Escape")
    assert not at.page.is_visible("#reasons")
    assert focused() == "row", "back where it began"


def test_escape_closes_the_suggestions_first(visit):
    at = visit()
    at.page.click("#user-search-input")
    at.page.keyboard.type("person 2")
    at.page.wait_for_selector("#user-search-options li")
    assert at.page.get_attribute("#user-search-input", "aria-expanded") == "true"
    at.page.keyboard.press("Escape")
    assert at.page.get_attribute("#user-search-input", "aria-expanded") == "false"
    assert at.page.input_value("#user-search-input") == "person 2"
    at.page.keyboard.press("Escape")
    assert at.page.input_value("#user-search-input") == ""
    at.page.keyboard.type("nobody & no one")
    at.page.wait_for_selector("text=No users with “nobody & no one” in id or name")
    assert at.page.get_attribute("#user-search-input", "aria-expanded") == "false", (
        "there is nothing to choose"
    )
    check(at)


def test_a_button_is_heard_as_it_reads(visit):
    at = visit()
    at.user(3)
    at.why(0)
    at.settled()
    name, said, score = (
        at.page.text_content(f"#list .{part} >> nth=0") for part in ("name", "because", "score")
    )
    heard = f"1 {name} , score {score} . Show why: {said}"
    assert at.page.get_by_role("button", name=heard, exact=True, pressed=True).count() == 1
    text, effect = (at.page.text_content(f".reason .{part} >> nth=0") for part in ("text", "effect"))
    assert at.page.get_by_role("button", name=f"Leave out: {text} . {effect}", exact=True).count() == 1
    at.leave_out(0)
    assert at.page.get_by_role("button", name=f"Leave out: {text} . {effect}", pressed=True).count() == 1


# ------------------------------------------------------------------ names, ids, sessions


def session(visit, address, **arguments) -> Visit:
    at = visit(address, **arguments)
    at.page.wait_for_selector(".chip")
    at.page.check('input[value="session"]', force=True)
    return at


@pytest.fixture(scope="module")
def sessions(world):
    with served(create_app(world.ksr, world.test)) as address:
        yield address


def add(at, query) -> None:
    at.page.fill("#item-search-input", query)
    at.page.wait_for_selector("#item-search-options li[role=option]")
    at.page.wait_for_function(
        "query => [...document.querySelectorAll('#item-search-options .name')]"
        ".every(e => e.textContent.toLowerCase().includes(query))",
        arg=query.lower(),
    )
    at.page.click("#item-search-options li >> nth=0")
    at.page.wait_for_selector("#item-search-options", state="hidden")


def test_a_session_of_odd_names_and_large_ids(visit, world, sessions):
    at = session(visit, sessions)
    wanted = [0, 3, 1]
    for item in wanted:
        add(at, ODD[item][:40])
    at.settled()
    items, _ = world.ksr.recommend_session([FAR + item for item in wanted], k=10, data=world.test)
    assert at.page.locator("#session .name").all_text_contents() == labels(world, wanted)
    assert at.names() == labels(world, torch.as_tensor(items).flatten().tolist())
    assert at.page.title() == "Recommendations, and why", "a name is text, whatever it holds"
    assert at.page.locator("script").count() == 1
    assert at.page.locator("img").count() == 0

    at.page.click("#session button >> nth=1")
    at.settled()
    items, _ = world.ksr.recommend_session([FAR, FAR + 1], k=10, data=world.test)
    assert at.names() == labels(world, torch.as_tensor(items).flatten().tolist())
    assert (
        at.page.evaluate("document.activeElement.getAttribute('aria-label')")
        == f"Remove {ODD[1]} from the session"
    )
    for _ in range(2):
        at.page.click("#session button >> nth=0")
    assert not at.page.is_visible("#results")


def test_a_model_that_hears_no_session_says_so(visit, world):
    with served(create_app(Popularity(world.train), world.test)) as address:
        at = session(visit, address)
        assert "Popularity does not hear sessions" in at.page.text_content("#session-note")
        assert at.page.text_content("#lead") == "No list for a session."
        assert not at.page.is_visible("#item-search-input")
        at.page.check('input[value="user"]', force=True)
        at.user(0)


def test_a_session_of_a_graph_that_is_propagated_over_anew(visit, world, service):
    at = session(visit, service)
    for item in (10, 20):
        add(at, f"Film {item}")
    at.settled()
    items, _ = world.kgrec.recommend_session([FAR + 10, FAR + 20], k=10, data=world.test)
    assert at.names() == labels(world, items.tolist())


def test_what_is_not_left_out_stays_visible_in_the_graph(visit):
    at = visit()
    at.user(0)
    assert at.why(0).count() > 1
    at.leave_out(0)
    at.page.hover(".reason >> nth=0")
    assert at.page.locator(".edge.gone").count() > 0
    assert at.page.locator(".edge.dim").count() == 0
    at.page.hover(".reason >> nth=1")
    assert at.page.locator(".edge.dim").count() > 0


# ------------------------------------------------------------------ slow, failing, closed


def answer(route, status, detail) -> None:
    route.fulfill(status=status, content_type="application/json", body=json.dumps({"detail": detail}))


def test_a_slow_answer_does_not_overwrite_a_newer_one(visit, world):
    at = visit()
    at.page.wait_for_selector(".chip")
    late = []

    def hold(route) -> None:
        if "u/0" in route.request.post_data:
            late.append(route)
        else:
            route.continue_()

    at.page.route("**/recommend", hold)
    at.page.click(".chip >> nth=0")
    at.page.wait_for_function("document.querySelector('#list .wait')")
    at.page.click(".chip >> nth=5")
    wanted = labels(world, expected(world, 5)[0])
    assert at.names() == wanted
    assert len(late) == 1
    with suppress(playwright.Error):  # the page has given it up
        late[0].continue_()
    at.page.wait_for_timeout(500)
    assert at.names() == wanted
    assert at.page.text_content("#list-title") == "For Person 5"


def test_an_error_of_the_service_is_said_and_can_be_tried_again(visit, world):
    visit.allowed = ("status of 503",)
    at = visit()
    at.page.route(
        "**/recommend", lambda route: answer(route, 503, "too many requests <b>wait</b>: ask again")
    )
    at.page.click(".chip >> nth=0")
    at.page.wait_for_selector("#error:not([hidden])")
    assert at.page.text_content("#error span") == "Too many requests <b>wait</b>: ask again"
    assert at.page.get_attribute("#error", "role") == "alert"
    assert not at.page.is_visible("#results")
    at.page.unroute("**/recommend")
    at.page.click("text=Try again")
    assert at.names() == labels(world, expected(world, 0)[0])
    assert not at.page.is_visible("#error")


def test_a_reason_that_could_not_be_left_out_is_not_shown_as_left_out(visit, world):
    visit.allowed = ("status of 503", "ERR_FAILED")
    at = visit()
    at.user(3)
    at.why(0)
    at.settled()
    before = at.names()
    at.page.route("**/recommend", lambda route: answer(route, 503, "not now"))
    at.page.click(".reason >> nth=0")
    at.page.wait_for_selector("#error:not([hidden])")
    assert at.names() == before
    assert not at.page.is_visible("#without")
    assert at.page.locator(".reason").nth(0).get_attribute("aria-pressed") == "false"
    at.page.unroute("**/recommend")
    at.page.click("text=Try again")
    at.page.wait_for_selector("#without:not([hidden])")
    at.settled()
    assert at.names() != before

    at.page.route("**/recommend", lambda route: route.abort())
    at.page.click("text=Undo")
    at.page.wait_for_selector("text=The service does not answer. Is it still running?")
    assert at.page.is_visible("#without"), "what the list is made without stays said"
    assert at.page.locator(".reason").nth(0).get_attribute("aria-pressed") == "true"


def test_an_answer_that_is_no_json_is_said_too(visit):
    visit.allowed = ("status of 502",)
    at = visit()
    at.page.route("**/recommend", lambda route: route.fulfill(status=502, body="<html>Bad Gateway"))
    at.page.click(".chip >> nth=0")
    at.page.wait_for_selector("text=The service answered with status 502 and no reason.")


def test_a_new_model_is_noticed(visit, world):
    at = visit()
    at.user(3)
    at.why(0)
    at.settled()
    asked = []
    at.page.on(
        "request", lambda request: asked.append(request.url) if request.url.endswith("/explain") else None
    )

    def newer(route) -> None:
        told = route.fetch()
        route.fulfill(response=told, json=told.json() | {"generation": 2})

    at.page.route("**/recommend", newer)
    at.page.click(".reason >> nth=0")
    at.page.wait_for_selector("#reasons", state="hidden")
    at.settled()
    assert not at.page.is_visible("#without"), "its units were numbered by the model before"
    assert at.names() == labels(world, expected(world, 3)[0])
    assert len(asked) == 10, "every reason is asked for anew"


def test_the_key_is_asked_for_and_kept_in_memory_alone(visit, world):
    visit.allowed = ("status of 401",)
    with served(create_app(world.kgrec, world.test, api_key="open-sesame")) as address:
        at = visit(address)
        at.page.wait_for_selector("#key[open]")
        assert not at.page.is_visible("#key-wrong")
        at.page.fill("#key-value", "wrong")
        at.page.keyboard.press("Enter")
        at.page.wait_for_selector("#key-wrong:not([hidden])")
        assert at.page.evaluate("document.activeElement.id") == "key-value"
        at.page.fill("#key-value", "open-sesame")
        at.page.click("text=Use this key")
        at.user(0)
        at.settled()
        kept = at.page.evaluate(
            "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
        )
        assert "sesame" not in kept + at.page.content()
        assert at.page.input_value("#key-value") == ""

        at.page.reload()
        at.page.wait_for_selector("#key[open]")
        at.page.keyboard.press("Escape")
        at.page.wait_for_selector("#error:not([hidden])")
        at.page.click("text=Try again")
        at.page.wait_for_selector("#key[open]")


def test_a_service_of_shorter_lists(visit, world):
    from pyg_kgrec.serving.limits import Limits

    visit.allowed = ("status of 422",)
    with served(create_app(world.kgrec, world.test, limits=Limits(max_k=12))) as address:
        at = visit(address)
        at.user(0)
        assert at.names() == labels(world, expected(world, 0)[0])


# ------------------------------------------------------------------ how it looks

LOOK = (Path(__file__).parent / "look.js").read_text()


def look(at, what):
    """What a function of look.js finds on the page."""
    return at.page.evaluate(f"({LOOK})['{what}']()")


def check(at) -> None:
    """No control without a name or with another than it shows, no pale text, nothing wider than the screen."""
    assert look(at, "nameless") == []
    assert look(at, "misnamed") == []
    found = look(at, "contrast")
    assert len(found) > 5
    assert [pair for pair in found if pair[0] < 4.5] == []
    assert at.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_reads_on_every_screen(visit, sessions, size, scheme):
    visit.allowed = ("status of 503",)
    at = visit(size=size, scheme=scheme)
    at.page.wait_for_selector(".chip")
    check(at)
    at.page.click("#user-search-input")
    at.page.wait_for_selector("#user-search-options li")
    check(at)
    at.page.keyboard.press("Escape")
    for user in range(3):
        at.user(user)
        at.why(user)
        at.settled()
        check(at)
        drawn = look(at, "drawing")
        assert drawn["wrong"] == []
        assert drawn["nodes"] > 2
        assert drawn["edges"] > 1
    at.leave_out(0)
    check(at)
    at.page.route("**/recommend", lambda route: answer(route, 503, "a sentence of some length " * 9))
    at.page.keyboard.press("Escape")
    at.page.wait_for_selector("#error:not([hidden])")
    check(at)
    at = session(visit, sessions, size=size, scheme=scheme)
    for name in ODD:
        add(at, name[:30].strip())
    at.settled()
    check(at)


def test_the_page_has_its_landmarks(visit):
    at = visit()
    at.user(0)
    marks = "header, main, section[aria-label], section[aria-labelledby]"
    tags = at.page.locator(marks).evaluate_all("all => all.map(e => e.tagName)")
    assert tags == ["HEADER", "MAIN", "SECTION", "SECTION", "SECTION"]
    named_by = at.page.locator("[aria-labelledby]").evaluate_all(
        "all => all.map(e => e.getAttribute('aria-labelledby'))"
    )
    assert all(at.page.locator(f"#{name}").count() == 1 for name in named_by)
    assert at.page.locator("h1").count() == 1
    assert at.page.get_attribute("#said", "aria-live") == "polite"
    assert at.page.get_attribute("html", "lang") == "en"


@pytest.mark.parametrize("size", SIZES)
def test_a_graph_of_any_shape_is_drawn_without_overprints(visit, size):
    """Long labels, entities joined to entities, several lines between two nodes, a circle, a node of no edge."""
    at = visit(size=size)
    at.user(0)
    at.settled()
    past = [{"id": f"p{i}", "label": [*ODD, "Short"][i % 6], "kind": "item"} for i in range(9)]
    entities = [
        {"id": f"e{i}", "label": f"Entity with a name of many words {i} " * (i % 4 + 1), "kind": "entity"}
        for i in range(8)
    ]
    nodes = [
        {"id": "u", "label": "u" * 60, "kind": "user"},
        {"id": "t", "label": "The item " * 12, "kind": "item"},
    ]
    edges = [{"source": "u", "target": "t", "label": "gets", "effect": None, "units": []}]
    for i in range(9):
        edges.append({"source": "u", "target": f"p{i}", "label": "has had", "effect": None, "units": []})
        edges.append(
            {
                "source": f"p{i}",
                "target": f"e{i % 8}",
                "label": f"relation {i}",
                "effect": 0.1 * i - 0.2,
                "units": [i],
            }
        )
        edges.append(
            {
                "source": f"e{(i + 3) % 8}",
                "target": f"e{i % 8}",
                "label": "near",
                "effect": 0.3,
                "units": [20 + i],
            }
        )
    for label in ("one", "two", "<b>three</b>"):
        edges.append({"source": "t", "target": "e0", "label": label, "effect": 1.0, "units": [40]})
        edges.append({"source": "p1", "target": "t", "label": label, "effect": 0.5, "units": [41]})
    nodes += [*past, *entities, {"id": "alone", "label": "alone", "kind": "entity"}]

    def wild(route) -> None:
        told = route.fetch()
        route.fulfill(response=told, json=told.json() | {"graph": {"nodes": nodes, "edges": edges}})

    at.page.route("**/explain", wild)
    at.page.select_option("#length", "20")
    at.settled()
    at.why(15)
    drawn = look(at, "drawing")
    assert drawn["wrong"] == []
    assert drawn["nodes"] == 19, "each end of a drawn edge, and no other"
    check(at)
    at.page.click(".as-text summary")
    assert "<b>three</b>" in at.page.text_content(".as-text")
    several = {(edge["source"], edge["target"], edge["label"]) for edge in edges[1:]}
    assert at.page.locator(".as-text li").count() == len(several)
    at.page.set_viewport_size({"width": 700, "height": 900})
    at.page.wait_for_timeout(200)
    assert look(at, "drawing")["wrong"] == []
