"""The app, asked in process: its answers are the library's, and bad input is one sentence with its status."""

from __future__ import annotations

import asyncio
import json
import math
import re
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyg_kgrec import ALS, BPRMF, EASE, KSR, KGRec, Popularity, Recommender, fit
from pyg_kgrec.data import from_pandas
from tests.serving.conftest import World, lists_of

serving = pytest.importorskip("pyg_kgrec.serving", reason="the extra serve is not installed")
httpx = pytest.importorskip("httpx2", reason="httpx2 is not installed")
TestClient = pytest.importorskip("starlette.testclient").TestClient

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[Any]:
    with TestClient(serving.create_app(world.models[0], world.store)) as client:
        yield client


def ids(answer: Any) -> list[list[Any]]:
    assert answer.status_code == 200, answer.text
    return [[item["id"] for item in one["items"]] for one in answer.json()["lists"]]


def refused(answer: Any, status: int, *words: str) -> str:
    """The sentence of a refusal: one, short, and without a path or a trace."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    said: dict[str, str] = answer.json()
    assert list(said) == ["detail"]
    sentence = said["detail"]
    assert 0 < len(sentence) <= 400
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    assert ".py" not in sentence
    assert not re.search(r"/(work|tmp|home|usr|root)\b", sentence)
    for word in words:
        assert word in sentence
    return sentence


# ---------------------------------------------------------------------- answers are the library's


def test_recommendations_are_the_librarys(world: World, client: Any) -> None:
    users, films = list(world.store["user"].id), list(world.store["item"].id)
    answer = client.post("/recommend", json={"users": users, "k": 5})
    assert ids(answer) == lists_of(world.models[0], world.store, users, k=5)
    frame = world.models[0].recommend(world.store, users, k=5, as_frame=True)
    found = [item for one in answer.json()["lists"] for item in one["items"]]
    np.testing.assert_allclose([item["score"] for item in found], frame["score"], rtol=1e-5)
    assert [item["name"] for item in found] == frame["name"].tolist()
    some, gone = films[3:12], films[4:6]
    asked = {"users": users[:2], "k": 4, "items": some, "exclude": gone, "exclude_seen": False}
    pairs = [(user, film) for user in users[:2] for film in gone]
    expected = lists_of(
        world.models[0], world.store, users[:2], k=4, items=some, exclude=pairs, exclude_seen=False
    )
    assert ids(client.post("/recommend", json=asked)) == expected
    again = client.post("/recommend", json={"users": [users[1], users[0], users[1]], "k": 3})
    first, second = lists_of(world.models[0], world.store, users[:2], k=3)
    assert ids(again) == [second, first, second]


def test_a_user_with_too_few_items_left_gets_those(world: World, client: Any) -> None:
    user = world.store["user"].id[0]
    found = client.post("/recommend", json={"users": [user], "k": 16}).json()["lists"][0]["items"]
    assert 0 < len(found) < 16
    assert all(math.isfinite(item["score"]) for item in found)


def test_similar_items_and_histories(world: World, client: Any) -> None:
    films = list(world.store["item"].id)
    frame = world.models[0].similar_items(world.store, films[:2], k=3, as_frame=True)
    found = ids(client.post("/similar", json={"items": films[:2], "k": 3}))
    assert [item for one in found for item in one] == frame["similar"].tolist()
    user = world.store["user"].id[3]
    past = client.post("/history", json={"user": user, "limit": 2}).json()
    seen = world.models[0].prepare(world.store).seen.of(torch.tensor([3])).tolist()
    assert past["total"] == len(seen)
    assert [item["id"] for item in past["items"]] == [films[i] for i in seen[:2]]


def test_the_latest_of_a_history_come_first() -> None:
    clicks = pd.DataFrame({"user_id": 7, "item_id": [5, 6, 4, 8], "time": [30, 10, 40, 20]})
    store = from_pandas(clicks)
    with TestClient(serving.create_app(Popularity(store), store)) as client:
        past = client.post("/history", json={"user": 7}).json()
        assert [item["id"] for item in past["items"]] == [4, 5, 8, 6]
        assert past["items"][0]["name"] is None


def test_searches(world: World, client: Any) -> None:
    found = client.get("/items", params={"query": "FILM №1", "limit": 3}).json()
    assert found["total"] == 7
    assert [item["name"] for item in found["items"]] == ["Film №1", "Film №10", "Film №11"]
    assert client.get("/users", params={"query": "Ï/1"}).json()["total"] == 3
    every = client.get("/users").json()
    assert [user["id"] for user in every["users"]] == list(world.store["user"].id)
    assert every["total"] == 12


def test_the_state_of_the_service(world: World, client: Any) -> None:
    assert client.get("/health").json() == {
        "status": "ok",
        "model": "KGRec",
        "num_users": 12,
        "num_items": 16,
        "generation": 1,
        "explains": True,
        "sessions": True,
        "named": True,
    }


# ---------------------------------------------------------------------- reasons


def test_explanations_and_the_list_without_a_reason(world: World, client: Any) -> None:
    model, store = world.models[0], world.store
    user = next(
        u
        for u in store["user"].id
        if model.explain(store, u, lists_of(model, store, [u], k=1)[0][0]).reasons()
    )
    item = lists_of(model, store, [user], k=1)[0][0]
    own = model.explain(store, user, item)
    told = client.post("/explain", json={"user": user, "item": item, "max_reasons": 4}).json()
    assert told["text"] == own.text(4)
    assert told["rank"] == 1
    assert told["item_name"] == store["item"].name[store["item"].id.index(item)]
    assert [reason["text"] for reason in told["reasons"]] == [reason.text for reason in own.reasons(4)]
    reason = told["reasons"][0]
    assert reason["effect"] > 0
    asked = {"users": [user], "k": 16, "without": {"item": item, "units": reason["units"]}}
    after = client.post("/recommend", json=asked).json()["lists"][0]["items"]
    score = {one["id"]: one["score"] for one in after}[item]
    assert score == pytest.approx(told["score"] - reason["effect"], rel=1e-4, abs=1e-5)
    assert [one["id"] for one in after].index(item) == reason["rank_change"]
    assert [one["score"] for one in after] == sorted((one["score"] for one in after), reverse=True)
    nodes, edges = told["graph"]["nodes"], told["graph"]["edges"]
    known = {node["id"]: node["kind"] for node in nodes}
    assert [node["kind"] for node in nodes[:2]] == ["user", "item"]
    assert {edge[end] for edge in edges for end in ("source", "target")} <= set(known)
    drawn = {unit for edge in edges for unit in edge["units"]}
    assert drawn
    assert drawn <= {unit for one in told["reasons"] for unit in one["units"]}


def test_units_are_those_of_the_explanation(world: World) -> None:
    """A row of the table, left out by its number, is what the score then lacks, whatever the order of the table."""
    model, store = world.models[0], world.store
    user, item = store["user"].id[0], lists_of(model, store, store["user"].id[:1], k=1)[0][0]
    own = model.explain(store, user, item)
    assert own.told is not None
    assert own.measured is not None
    assert len(own.told.places) == len(own.units)
    for row, places in enumerate(own.told.places):
        score = own.measured.catalogue_without([torch.tensor(places)])[0, own.measured.item]
        assert own.score - float(score) == pytest.approx(own.units["contribution"][row], abs=1e-5)


def test_candidates_and_exclusions_hold_without_a_reason_too(world: World, client: Any) -> None:
    model, store = world.models[0], world.store
    user, films = store["user"].id[0], list(store["item"].id)
    item = lists_of(model, store, [user], k=1)[0][0]
    asked = {
        "users": [user],
        "k": 3,
        "items": films[:8],
        "exclude": films[:2],
        "without": {"item": item, "units": [0]},
    }
    found = ids(client.post("/recommend", json=asked))[0]
    assert found
    assert set(found) <= set(films[2:8])


def test_a_model_without_explanations_or_likeness_says_so(world: World) -> None:
    app = serving.create_app(Popularity(world.train), world.store)
    user, film = world.store["user"].id[0], world.store["item"].id[0]
    with TestClient(app) as client:
        assert client.get("/health").json()["explains"] is False
        refused(
            client.post("/explain", json={"user": user, "item": film}), 409, "Popularity has no explanations"
        )
        refused(client.post("/similar", json={"items": [film], "k": 1}), 409, "similar")
        refused(client.post("/session", json={"items": [film], "k": 1}), 409, "session")
        asked = {"users": [user], "without": {"item": film, "units": [0]}}
        refused(client.post("/recommend", json=asked), 409, "Popularity")


def test_a_stranger_gets_popular_items_and_no_reason(world: World) -> None:
    store = world.store.clone()
    store["user"].id = [*list(store["user"].id), "new"]
    store["user"].num_nodes = 13
    with TestClient(serving.create_app(world.models[0], store)) as client, warnings.catch_warnings():
        warnings.simplefilter("error")
        both = client.post("/recommend", json={"users": ["new", store["user"].id[0]], "k": 2}).json()["lists"]
        assert [one["known"] for one in both] == [False, True]
        assert len(both[0]["items"]) == 2
        refused(client.post("/explain", json={"user": "new", "item": store["item"].id[0]}), 409, "stranger")


def test_sessions_of_strangers() -> None:
    rng = np.random.default_rng(0)
    clicks = pd.DataFrame([(u, int(i), t) for u in range(9) for t, i in enumerate(rng.permutation(12)[:6])])
    store = from_pandas(clicks.set_axis(["user_id", "item_id", "time"], axis=1))
    model = KSR(store, embedding_channels=4, hidden_channels=4, use_kg=False).eval()
    with TestClient(serving.create_app(model, store)) as client:
        assert client.get("/health").json()["sessions"] is True
        frame = model.recommend_session([3, 5], 4, data=store, as_frame=True)
        found = client.post("/session", json={"items": [3, 5], "k": 4}).json()["items"]
        assert [item["id"] for item in found] == frame["item"].tolist()
        refused(client.post("/session", json={"items": [3, 99], "k": 4}), 404, "99")
        refused(client.post("/session", json={"items": [3], "k": 13}), 422, "k is 13")


@pytest.mark.parametrize("kind", [KGRec, EASE, ALS, BPRMF])
def test_sessions_are_heard_where_a_history_is_enough(world: World, kind: type[Recommender]) -> None:
    model: Recommender = world.models[0] if kind is KGRec else kind(world.train)
    if kind is not KGRec:
        fit(model, world.train, progress=False)
    films = world.store["item"].id
    with TestClient(serving.create_app(model, world.store)) as client, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert client.get("/health").json()["sessions"] is True
        found = client.post("/session", json={"items": [films[3], films[5]], "k": 4}).json()["items"]
        items, scores = model.recommend_session([films[3], films[5]], 4, data=world.store)
        assert [item["id"] for item in found] == [films[i] for i in items]
        assert [item["score"] for item in found] == pytest.approx(scores.tolist())
        refused(client.post("/session", json={"items": [films[3], 99], "k": 4}), 404, "99")
        # A graph that takes long is not propagated over in the event loop, and answers the same.
        client.app.state.service.current.session_seconds = 1  # type: ignore[attr-defined]
        assert client.post("/session", json={"items": [films[3], films[5]], "k": 4}).json()["items"] == found


def test_a_model_that_hears_nobody_says_so(world: World) -> None:
    with TestClient(serving.create_app(Popularity(world.train), world.store)) as client:
        assert client.get("/health").json()["sessions"] is False
        films = {"items": [world.store["item"].id[0]]}
        refused(client.post("/session", json=films), 409, "the same to everyone")


def test_a_store_without_ids_is_asked_by_position(world: World) -> None:
    store = world.train.clone()
    for kind in ("user", "item", "entity"):
        del store[kind].id
    model = EASE(store)
    fit(model, store, progress=False)
    with TestClient(serving.create_app(model, store)) as client:
        found = client.post("/recommend", json={"users": [3], "k": 2})
        assert ids(found)[0] == model.recommend(store, torch.tensor([3]), k=2)[0][0].tolist()
        for user in (12, -1, "3"):
            refused(client.post("/recommend", json={"users": [user]}), 404, "position from 0 to 11")


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 422, ["users is missing"]),
        ([], 422, ["an empty list", "object"]),
        ({"users": []}, 422, ["users", "at least 1"]),
        ({"users": "a"}, 422, ["users", "list"]),
        ({"users": [None]}, 422, ["users[0]", "null", "string or a whole number"]),
        ({"users": [1.5]}, 422, ["users[0]", "1.5"]),
        ({"users": [True]}, 422, ["users[0]", "true"]),
        ({"users": [["a"]]}, 422, ["users[0]"]),
        ({"users": ["a"] * 101}, 422, ["101", "at most 100"]),
        ({"users": [1]}, 404, ["unknown user 1", "strings"]),
        ({"users": ["nobody", "no one"]}, 404, ["'nobody'", "1 more"]),
        ({"users": [10**60]}, 404, ["bits"]),
        ({"users": ["x" * 100_000]}, 404, ["unknown user"]),
        ({"users": ["\u0000‮"]}, 404, ["unknown user"]),
        ({"users": ["a"], "k": 0}, 422, ["k is 0", "at least 1"]),
        ({"users": ["a"], "k": 101}, 422, ["k is 101", "at most 100"]),
        ({"users": ["a"], "k": 10**400}, 422, ["k is", "at most 100"]),
        ({"users": ["a"], "k": "3"}, 422, ["k is '3'", "whole number"]),
        ({"users": ["a"], "k": 3.0}, 422, ["k is 3.0", "whole number"]),
        ({"users": ["a"], "k": None}, 422, ["k is null"]),
        ({"users": ["a"], "exclude_seen": 1}, 422, ["exclude_seen is 1", "true or false"]),
        ({"users": ["a"], "kk": 3}, 422, ["unknown field kk", "exclude_seen"]),
        ({"users": ["a"], "x" * 500: 3}, 422, ["unknown field"]),
        ({"users": ["a"], "without": {"item": "b"}}, 422, ["without.units"]),
        ({"users": ["a"], "without": {"item": "b", "units": [-1]}}, 422, ["without.units[0]"]),
        ({"users": ["a"], "without": {"item": "b", "units": []}}, 422, ["without.units"]),
    ],
    ids=lambda value: None if isinstance(value, list | int) else str(value)[:30],
)
def test_a_wrong_body_is_one_sentence(client: Any, body: Any, status: int, words: list[str]) -> None:
    refused(client.post("/recommend", json=body), status, *words)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"\xff\xfe", b'{"users": [NaN]}', b'{"users": ["a"], "k": Infinity}', b"[" * 100_000,
        b'{"users": [' + b"9" * 6000 + b"]}", b'{"users": ["\\ud800"]}', b"users=a", b"null",
    ],
    ids=lambda raw: repr(raw[:12]),
)  # fmt: skip
def test_what_is_no_json_is_one_sentence(client: Any, raw: bytes) -> None:
    refused(client.post("/recommend", content=raw, headers={"Content-Type": "application/json"}), 422)


def test_what_only_the_store_can_tell_is_one_sentence(world: World, client: Any) -> None:
    user, films = world.store["user"].id[0], list(world.store["item"].id)
    item = lists_of(world.models[0], world.store, [user], k=1)[0][0]

    def post(**asked: Any) -> Any:
        return client.post("/recommend", json={"users": [user]} | asked)

    refused(post(k=17), 422, "k is 17", "16 items")
    refused(post(k=3, items=[*films[:2], films[0]]), 422, "k is 3", "2 candidates")
    refused(post(items=[]), 422, "items is empty")
    refused(post(items=["?"]), 404, "items", "unknown item '?'")
    refused(post(exclude=["?"]), 404, "exclude", "unknown item '?'")
    refused(post(without={"item": item, "units": [10**30]}), 422, "units")
    refused(post(without={"item": "?", "units": [0]}), 404, "without.item")
    refused(post(users=world.store["user"].id[:2], without={"item": item, "units": [0]}), 422, "2 users")
    refused(client.post("/explain", json={"user": "?", "item": item}), 404, "unknown user")
    refused(client.post("/explain", json={"user": user, "item": item, "max_reasons": 51}), 422, "at most 50")
    refused(client.post("/similar", json={"items": [item], "k": 17}), 422, "k is 17")
    refused(client.get("/items", params={"limit": "x"}), 422, "limit is 'x'", "whole number")
    refused(client.get("/items", params={"limit": 1001}), 422, "at most 1000")
    refused(client.get("/users", params={"query": "x" * 201}), 422, "query", "200")
    assert client.get("/items", params={"query": "\x00*[("}).json()["total"] == 0


def test_other_paths_methods_and_content_types(client: Any) -> None:
    refused(client.get("/nothing/" + "x" * 500), 404)
    refused(client.get("/docs"), 404)
    for path in ("/page/../app", "/page/%2e%2e/app", "/page/..%2fapp", "/page//etc/passwd"):
        assert client.get(f"{path}.py").status_code == 404
        refused(client.get(path), 404)
    assert client.get("/recommend").headers["allow"] == "POST"
    refused(client.get("/recommend"), 405, "POST")
    refused(client.delete("/health"), 405, "GET")
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "x" * 500,
    ):
        refused(
            client.post("/recommend", content=b"{}", headers={"Content-Type": kind}), 415, "application/json"
        )
    refused(client.post("/recommend", content=b"{}"), 415, "missing")


def test_a_large_body_is_refused_before_it_is_read(client: Any) -> None:
    read = 0

    def parts() -> Iterator[bytes]:  # without a length in the header
        nonlocal read
        for _ in range(64):
            read += 1
            yield b" " * 2**16

    json_type = {"Content-Type": "application/json"}
    refused(client.post("/recommend", content=b" " * (2**20 + 1), headers=json_type), 413, "1048576")
    refused(client.post("/recommend", content=parts(), headers=json_type), 413, "1048576")


def test_failures_leave_no_trace_in_the_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    app = serving.create_app(world.models[0], world.store)
    with TestClient(app, raise_server_exceptions=False) as client:

        def broken(*_: Any, **__: Any) -> None:
            raise RuntimeError("folder/secret/model.pt fails")

        monkeypatch.setattr(app.state.service.current, "recommend", broken)
        sentence = refused(client.post("/recommend", json={"users": ["a"]}), 500, "its log")
        assert "secret" not in sentence
        assert client.get("/health").status_code == 200
        assert 'status="500"' in client.get("/metrics").text


# ---------------------------------------------------------------------- limits, keys, counters


def test_limits_are_those_given(world: World) -> None:
    limits = serving.Limits(max_k=2, max_users=1, max_items=2, max_body=200)
    with TestClient(serving.create_app(world.models[0], world.store, limits=limits)) as client:
        users, films = list(world.store["user"].id), list(world.store["item"].id)
        refused(client.post("/recommend", json={"users": users[:1], "k": 3}), 422, "at most 2")
        refused(client.post("/recommend", json={"users": users[:2], "k": 1}), 422, "at most 1")
        refused(
            client.post("/recommend", json={"users": users[:1], "k": 1, "items": films[:3]}),
            422,
            "items",
            "2",
        )
        refused(client.post("/recommend", json={"users": ["x" * 300]}), 413, "200 bytes")
    with pytest.raises(ValueError, match="max_k is 0, expected at least 1"):
        serving.Limits(max_k=0)
    with pytest.raises(TypeError, match="max_body"):
        serving.Limits(max_body=1.5)
    with pytest.raises(TypeError, match="expected Limits"):
        serving.create_app(world.models[0], world.store, limits=3)


def test_too_many_explanations_are_turned_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is in work, one waits, others are told to come again; recommendations are answered all the while."""
    app = serving.create_app(world.models[0], world.store, limits=serving.Limits(max_waiting=2))
    begun, go = threading.Event(), threading.Event()
    own = app.state.service.current.explain

    def slow(*asked: Any) -> Any:
        begun.set()
        assert go.wait(20)
        return own(*asked)

    monkeypatch.setattr(app.state.service.current, "explain", slow)
    user, film = world.store["user"].id[0], world.store["item"].id[0]
    asked = {"user": user, "item": film}

    async def ask() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            explaining = [asyncio.create_task(client.post("/explain", json=asked)) for _ in range(4)]
            while sum(one.done() for one in explaining) < 2:
                await asyncio.sleep(0.01)
            for answer in [one.result() for one in explaining if one.done()]:
                refused(answer, 503, "2 explanations")
                assert answer.headers["retry-after"] == "1"
            assert begun.wait(20)
            assert (await client.post("/recommend", json={"users": [user], "k": 1})).status_code == 200
            go.set()
            assert sorted(one.status_code for one in await asyncio.gather(*explaining)) == [
                200,
                200,
                503,
                503,
            ]

    try:
        asyncio.run(asyncio.wait_for(ask(), 30))
    finally:
        go.set()


def test_a_key_is_asked_for_but_for_health_and_the_page(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYG_KGREC_API_KEY", "key-1")
    with TestClient(serving.create_app(world.models[0], world.store)) as client:
        asked = {"users": world.store["user"].id[:1], "k": 1}
        right = {"X-API-Key": "key-1"}
        refused(client.post("/recommend", json=asked), 401, "X-API-Key is missing")
        for wrong in (b"", b"key", b"key-1\xfc", b"x" * 5000):
            refused(client.post("/recommend", json=asked, headers={"X-API-Key": wrong}), 401, "another key")
        assert client.post("/recommend", json=asked, headers=right).status_code == 200
        for path in ("/metrics", "/openapi.json", "/users", "/items", "/nothing"):
            refused(client.get(path), 401)
            assert client.get(path, headers=right).status_code != 401
        refused(client.post("/reload", json={}), 401)
        assert client.get("/health").status_code == 200
        assert client.get("/").status_code in (200, 404)
        assert client.get("/page/nothing.js").status_code == 404
    for key in ("", " a", "a\nb", "schlüssel"):
        with pytest.raises(ValueError, match="visible ASCII"):
            serving.create_app(world.models[0], world.store, api_key=key)


def test_what_is_counted(world: World) -> None:
    with TestClient(serving.create_app(world.models[0], world.store)) as client:
        for user in (world.store["user"].id[0], "?"):
            client.post("/recommend", json={"users": [user], "k": 1})
        for path in ("/a", "/b", "/c"):
            client.get(path)
        client.post("/reload", json={})
        lines = client.get("/metrics").text.splitlines()
    for line in (
        'pyg_kgrec_requests_total{route="/recommend",status="200"} 1.0',
        'pyg_kgrec_requests_total{route="/recommend",status="404"} 1.0',
        'pyg_kgrec_requests_total{route="other",status="404"} 3.0',
        'pyg_kgrec_request_seconds_count{route="/recommend"} 2.0',
        'pyg_kgrec_reloads_total{result="failed"} 1.0',
        'pyg_kgrec_served{generation="1",model="KGRec"} 1.0',
        "pyg_kgrec_users 12.0",
    ):
        assert line in lines


def test_openapi_describes_what_is_asked_with_examples(client: Any) -> None:
    found = client.get("/openapi.json").json()
    posts = {path: methods["post"] for path, methods in found["paths"].items() if "post" in methods}
    assert set(posts) == {"/reload", "/history", "/recommend", "/similar", "/session", "/explain"}
    for post in posts.values():
        content = post["requestBody"]["content"]["application/json"]
        name = content["schema"]["$ref"].rpartition("/")[2]
        assert "example" in content
        assert set(content["example"]) <= set(found["components"]["schemas"][name].get("properties", {}))
    text = json.dumps(found)
    for reference in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert reference in found["components"]["schemas"]


# ---------------------------------------------------------------------- files and reloads


@pytest.fixture
def files(world: World, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of a model's file and of a store's that a test may replace."""
    model, store = tmp_path / "model.pt", tmp_path / "all.store"
    shutil.copyfile(world.files[0], model)
    shutil.copyfile(world.store_file, store)
    return model, store


def replaced(file: Path, by: Path) -> None:
    next_file = file.with_name("next")
    shutil.copyfile(by, next_file)
    next_file.replace(file)


def test_a_reload_serves_the_new_file(world: World, files: tuple[Path, Path]) -> None:
    users = world.store["user"].id[:3]
    with TestClient(serving.create_app(*files)) as client:
        for generation, place in ((1, 0), (2, 1), (3, 0)):
            if generation > 1:
                replaced(files[0], world.files[place])
                assert client.post("/reload", json={}).json() == {"generation": generation}
            answer = client.post("/recommend", json={"users": users, "k": 4})
            assert answer.json()["generation"] == generation
            assert ids(answer) == lists_of(world.models[place], world.store, users, k=4)
            assert client.get("/health").json()["generation"] == generation


def _cut(world: World, model: Path, store: Path) -> None:
    model.write_bytes(world.files[1].read_bytes()[:-50])


def _gone(world: World, model: Path, store: Path) -> None:
    model.unlink()


def _script(world: World, model: Path, store: Path) -> None:
    model.write_bytes(b"import os; os.abort()")


def _store_cut(world: World, model: Path, store: Path) -> None:
    store.write_bytes(world.store_file.read_bytes()[:-50])


def _other(world: World, model: Path, store: Path) -> None:
    other = from_pandas(
        pd.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"]}),
        pd.DataFrame({"head_id": ["x"], "relation_id": ["another"], "tail_id": ["z"]}),
        pd.DataFrame({"item_id": ["x"], "entity_id": ["x"]}),
    )
    serving_store = store.with_name("other.store")
    from pyg_kgrec.data import save_store

    save_store(other, serving_store)
    serving_store.replace(store)


@pytest.mark.parametrize("spoil", [_cut, _gone, _script, _store_cut, _other])
def test_a_broken_file_leaves_the_old_one_serving(
    world: World, files: tuple[Path, Path], spoil: Callable[[World, Path, Path], None]
) -> None:
    users = world.store["user"].id[:2]
    with TestClient(serving.create_app(*files)) as client:
        spoil(world, *files)
        sentence = refused(client.post("/reload", json={}), 409, "generation 1 goes on serving")
        assert str(files[0].parent) not in sentence
        assert files[0].parent.name not in sentence
        assert ids(client.post("/recommend", json={"users": users, "k": 4})) == lists_of(
            world.models[0], world.store, users, k=4
        )
        replaced(files[0], world.files[1])
        replaced(files[1], world.store_file)
        assert client.post("/reload", json={}).json() == {"generation": 2}


def test_requests_during_reloads_are_of_one_generation_each(world: World, files: tuple[Path, Path]) -> None:
    users = list(world.store["user"].id)
    expected = [lists_of(model, world.store, users, k=4) for model in world.models]
    assert expected[0] != expected[1]
    stop = threading.Event()

    def ask(client: Any) -> set[int]:
        seen = set()
        while not stop.is_set():
            answer = client.post("/recommend", json={"users": users, "k": 4})
            generation = answer.json()["generation"]
            assert ids(answer) == expected[(generation - 1) % 2]
            seen.add(generation)
        return seen

    with TestClient(serving.create_app(*files)) as client, ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask, client) for _ in range(2)]
        for place in (1, 0, 1):
            replaced(files[0], world.files[place])
            assert client.post("/reload", json={}).status_code == 200
            client.post("/recommend", json={"users": users, "k": 4})
        stop.set()
        assert max(generation for one in asking for generation in one.result(30)) >= 2


def test_an_app_is_made_from_the_environment(
    world: World, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="model is None and PYG_KGREC_MODEL is not set"):
        serving.create_app()
    monkeypatch.setenv("PYG_KGREC_MODEL", str(files[0]))
    with pytest.raises(ValueError, match="data is None and PYG_KGREC_STORE is not set"):
        serving.create_app()
    monkeypatch.setenv("PYG_KGREC_STORE", str(files[1]))
    with TestClient(serving.create_app()) as client:
        assert client.get("/health").json()["model"] == "KGRec"


def test_what_cannot_be_served_is_said_at_once(world: World, files: tuple[Path, Path]) -> None:
    with pytest.raises(FileNotFoundError):
        serving.create_app(files[0].with_name("none.pt"), files[1])
    _other(world, *files)
    with pytest.raises(ValueError, match="relation"):
        serving.create_app(*files)
    with pytest.raises(TypeError, match="expected a model or the path"):
        serving.create_app(3, world.store)
    with pytest.raises((TypeError, ValueError)):
        serving.create_app(world.models[0], 3)


def test_an_app_that_was_stopped_answers_when_it_is_started_again(world: World) -> None:
    app = serving.create_app(world.models[0], world.store)
    user = world.store["user"].id[0]
    lists, before = [], threading.active_count()
    for _ in range(2):
        with TestClient(app, raise_server_exceptions=False) as client:
            item = ids(client.post("/recommend", json={"users": [user], "k": 1}))[0][0]
            answer = client.post("/explain", json={"user": user, "item": item})
            assert answer.status_code == 200, answer.text
            refused(client.post("/reload", json={}), 409, "in memory")
            lists.append(answer.json()["reasons"])
        assert threading.active_count() == before
    assert lists[0] == lists[1] != []


def test_who_hangs_up_in_the_middle_of_a_request_is_no_failure_of_the_service(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    app = serving.create_app(world.models[0], world.store)
    client = TestClient(app)
    sent: list[Any] = []
    received = iter(
        [{"type": "http.request", "body": b'{"us', "more_body": True}, {"type": "http.disconnect"}]
    )

    async def receive() -> Any:
        return next(received)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/recommend", "query_string": b"", "http_version": "1.1",
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"99")], "scheme": "http",
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 400
    assert not caplog.records
    counted = client.get("/metrics").text
    assert 'pyg_kgrec_requests_total{route="/recommend",status="400"} 1.0' in counted
    assert 'status="500"' not in counted
    assert "pyg_kgrec_requests_in_work 1.0" in counted  # that for the metrics
