"""Requests at a steady rate, each answer compared with the library's own: a locustfile, started by run.py.

The plan is a JSON file named by SERVING_PLAN; what was measured goes to the file that it names. It needs locust and
nothing of this project, so locust may live in an environment of its own.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, events, task

PLAN: dict[str, Any] = json.loads(Path(os.environ["SERVING_PLAN"]).read_text(encoding="utf-8"))
USERS: int = PLAN["callers"]
JSON = {"Content-Type": "application/json", "Connection": "keep-alive"}
MALFORMED: list[tuple[bytes, int]] = [
    (b"", 422),
    (b"{", 422),
    (b"null", 422),
    (b'{"users": ["1"], "k": NaN}', 422),
    (b'{"users": [' + b"9" * 6000 + b"]}", 422),
    (b"[" * 50_000, 422),
    (b'{"users": ["nobody"]}', 404),
    (b'{"users": ["1"], "k": 0}', 422),
    (b'{"users": ["1"], "k": 99999999999999999999}', 422),
    (b'{"users": ["1"], "items": ["1"], "k": 2}', 422),
    (b'{"users": ["1"], "nothing": 1}', 422),
    (b'{"users": "1"}', 422),
    (b"\xff\xfe\x00", 422),
    (b" " * 2_000_000, 413),
]

seconds: list[float] = []
others: dict[str, list[float]] = {"explain": [], "reload": [], "malformed": []}
count: dict[str, int] = {"asked": 0, "answered": 0, "lost": 0, "wrong": 0}
wrong: list[str] = []
random.seed(0)


def is_right(answer: Any, user: Any) -> bool:
    """Whether an answer is the library's, of the model that the answer's generation served."""
    expected = PLAN["expected"][(answer["generation"] - 1) % len(PLAN["expected"])]["lists"]
    place = PLAN["users"].index(user)
    found = answer["lists"][0]["items"]
    return [item["id"] for item in found] == expected[place]["items"] and all(
        math.isclose(item["score"], score, rel_tol=1e-5, abs_tol=1e-6)
        for item, score in zip(found, expected[place]["scores"], strict=True)
    )


class Asker(FastHttpUser):  # type: ignore[misc]
    """Asks for recommendations, and now and then for something malformed."""

    fixed_count = USERS
    network_timeout = connection_timeout = 60.0

    def on_start(self) -> None:
        self.due = time.perf_counter()
        gevent.sleep(self.wait_time())

    def wait_time(self) -> float:
        """Seconds until this caller's next request, which is due whether the last answer was slow or not.

        The callers are a Poisson process. locust's constant_throughput counts what on_start sleeps as work:
        all callers would ask at the same moment, twice a second.
        """
        self.due += random.expovariate(PLAN["rate"] / USERS)
        return max(0.0, self.due - time.perf_counter())

    @task
    def ask(self) -> None:
        if count["asked"] >= PLAN["requests"]:
            self.environment.runner.quit()
            return
        count["asked"] += 1
        if PLAN["malformed"] and random.random() < PLAN["malformed"]:
            self._malformed()
            return
        user = random.choice(PLAN["users"])
        body = json.dumps({"users": [user], "k": PLAN["k"]})
        started = time.perf_counter()
        with self.client.post("/recommend", data=body, headers=JSON, catch_response=True) as answer:
            took = time.perf_counter() - started
            if answer.status_code != 200:
                count["lost"] += 1
                wrong.append(f"{answer.status_code} {answer.text!r:.200}")
                return
            count["answered"] += 1
            seconds.append(took)
            if not is_right(json.loads(answer.text), user):
                count["wrong"] += 1
                wrong.append(answer.text[:300])

    def _malformed(self) -> None:
        body, status = random.choice(MALFORMED)
        started = time.perf_counter()
        with self.client.post("/recommend", data=body, headers=JSON, catch_response=True) as answer:
            others["malformed"].append(time.perf_counter() - started)
            if not answer.status_code:
                count["lost"] += 1
            elif answer.status_code != status or "detail" not in json.loads(answer.text):
                count["wrong"] += 1
                wrong.append(f"{body[:40]!r} {answer.status_code} {answer.text!r:.200}")
            else:
                count["answered"] += 1
                answer.success()


if PLAN["explain"]:

    class Explainer(FastHttpUser):  # type: ignore[misc]
        """Asks for explanations, one after the other."""

        fixed_count = 1
        network_timeout = connection_timeout = 60.0

        @task
        def ask(self) -> None:
            user, item = random.choice(PLAN["pairs"])
            started = time.perf_counter()
            self.client.post("/explain", data=json.dumps({"user": user, "item": item}), headers=JSON)
            others["explain"].append(time.perf_counter() - started)


if PLAN["models"]:

    class Reloader(FastHttpUser):  # type: ignore[misc]
        """Puts the next model in place of the one that serves and asks for a reload; some files are damaged."""

        fixed_count = 1
        network_timeout = connection_timeout = 60.0
        number = 1

        @task
        def reload(self) -> None:
            gevent.sleep(PLAN["reload_every"])
            if random.random() < 1 / 3:
                self._put(PLAN["damaged"])
                with self.client.post("/reload", data="{}", headers=JSON, catch_response=True) as answer:
                    if answer.status_code == 409:
                        answer.success()
                    else:
                        count["wrong"] += 1
                        wrong.append(f"a damaged file: {answer.status_code} {answer.text!r:.200}")
            self._put(PLAN["models"][self.number % len(PLAN["models"])])
            started = time.perf_counter()
            with self.client.post("/reload", data="{}", headers=JSON, catch_response=True) as answer:
                others["reload"].append(time.perf_counter() - started)
                if answer.status_code != 200:
                    count["wrong"] += 1
                    wrong.append(f"a reload: {answer.status_code} {answer.text!r:.200}")
                    return
            self.number += 1

        def _put(self, file: str) -> None:
            served = Path(PLAN["served"])
            shutil.copyfile(file, served.with_suffix(".next"))
            served.with_suffix(".next").replace(served)


@events.quitting.add_listener
def write(environment: Any, **_: Any) -> None:
    """Writes what was measured."""
    found = {"count": count, "seconds": seconds, "others": others, "wrong": wrong[:20]}
    Path(PLAN["out"]).write_text(json.dumps(found), encoding="utf-8")
    environment.process_exit_code = 0
