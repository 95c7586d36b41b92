"""Latencies of the service on MovieLens 100K, and whether it loses or spoils an answer. See README.md beside it.

python benchmarks/serving/run.py latency|beside|soak --locust PATH [--models KGRec EASE …] [--source FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

import pyg_kgrec
from pyg_kgrec.cli.commands import MODELS
from pyg_kgrec.data import load_store, save_store
from pyg_kgrec.datasets import MovieLens100K
from pyg_kgrec.transforms import RandomSplit

K = 10
CALLERS = 100  # each waits most of the time, so that a slow answer keeps no other request back
SLOW = {"KSR": 50}  # requests a second; of all others 200


def stores(work: Path, source: str | None) -> tuple[HeteroData, HeteroData, Path]:
    """The training store, the one that is served, and its file; made once."""
    train, served = work / "train.store", work / "test.store"
    if not served.is_file():
        data = MovieLens100K(work / "files", source=source, knowledge="dbpedia")[0]
        parts = RandomSplit(val=0.1, test=0.1, seed=0)(data)
        save_store(parts[0], train)
        save_store(parts[2], served)
    return load_store(train), load_store(served), served


def trained(name: str, train: HeteroData, work: Path, seed: int) -> Path:
    """A model's file; made once."""
    path = work / f"{name}-{seed}.pt"
    if not path.is_file():
        seed_everything(seed)
        model = MODELS[name](train)
        pyg_kgrec.fit(model, train, max_epochs=1, seed=seed, progress=False)
        model.save(path)
    return path


def expected(file: Path, store: HeteroData) -> dict[str, Any]:
    """What the library recommends to everyone, user by user, as the service is asked."""
    model = pyg_kgrec.load(file, store)
    ready = model.prepare(store)
    lists = []
    for user in store["user"].id:
        found = model.recommend(ready, [user], k=K, as_frame=True)
        lists.append({"items": found["item"].tolist(), "scores": found["score"].tolist()})
    return {"lists": lists}


@contextlib.contextmanager
def serving(model: Path, store: Path, core: int) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The service on one core, and its address."""
    words = ["taskset", "-c", str(core), sys.executable, "-m", "pyg_kgrec", "serve", str(model), str(store)]
    process = subprocess.Popen([*words, "--port", "0", "--json"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the service ended with {process.wait()}")
        yield json.loads(line)["page"].rstrip("/"), process
    finally:
        process.terminate()
        process.wait(60)


def processor(pid: int) -> float:
    """Seconds that a process has had of the processor."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(arguments: argparse.Namespace, address: str, plan: dict[str, Any], seconds: int) -> dict[str, Any]:
    """What the load tool measured from the other core."""
    work = arguments.work
    plan = {"callers": CALLERS, "malformed": 0, "explain": False, "pairs": [], "models": [], "k": K} | plan
    plan["out"] = str(work / "measured.json")
    (work / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    (work / "measured.json").unlink(missing_ok=True)
    words = [
        "taskset",
        "-c",
        str(arguments.load_core),
        arguments.locust,
        "-f",
        str(Path(__file__).parent / "load.py"),
    ]
    words += ["--headless", "-H", address, "-t", f"{seconds}s", "-s", "30", "--loglevel", "ERROR"]
    words += ["-u", str(CALLERS + plan["explain"] + bool(plan["models"])), "-r", str(CALLERS)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["SERVING_PLAN"] = str(work / "plan.json")
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if not Path(plan["out"]).is_file():
        raise RuntimeError(f"the load tool ended with {done.returncode}: {done.stderr[-2000:]}")
    measured: dict[str, Any] = json.loads((work / "measured.json").read_text(encoding="utf-8"))
    return measured


def row(name: str, measured: dict[str, Any], rate: float) -> str:
    """A line of the table."""
    took, count = np.array(measured["seconds"]) * 1000, measured["count"]
    p50, p99, p999 = np.percentile(took, [50, 99, 99.9])
    told = f"| {name} | {rate:.0f}/s | {count['answered']:,} | {p50:.1f} | {p99:.1f} | {p999:.1f} | {took.max():.0f} |"
    return f"{told} {count['lost']} | {count['wrong']} |"


def latency(arguments: argparse.Namespace, beside: bool) -> None:
    """Milliseconds of /recommend by model, alone or beside a caller who asks for one explanation after the other."""
    train, store, file = stores(arguments.work, arguments.source)
    print(
        "| model | asked | answers | p50 ms | p99 ms | p99.9 ms | most ms | lost | wrong | processor ms each |",
        flush=True,
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in arguments.models:
        model = trained(name, train, arguments.work, 0)
        rate = SLOW.get(name, 200)
        answers = expected(model, store)
        users = list(store["user"].id)
        plan: dict[str, Any] = {"rate": rate, "users": users, "expected": [answers], "requests": 10**9}
        if beside:
            firsts = [one["items"][0] for one in answers["lists"]]
            plan |= {"explain": True, "pairs": list(zip(users, firsts))}
        with serving(model, file, arguments.core) as (address, process):
            load(arguments, address, plan, 5)  # everything is warm
            before = processor(process.pid)
            measured = load(arguments, address, plan, arguments.seconds)
            each = (processor(process.pid) - before) / max(measured["count"]["answered"], 1)
        more = f" {each * 1000:.2f} |"
        if beside and measured["others"]["explain"]:
            took = np.array(measured["others"]["explain"])
            more += f" {len(took)} explanations beside, median {np.median(took) * 1000:.0f} ms |"
        print(row(name, measured, rate) + more, flush=True)
        for line in measured["wrong"]:
            print(f"  wrong: {line}")


def soak(arguments: argparse.Namespace) -> None:
    """Many requests, with reloads of two models in turn, damaged files and malformed requests among them."""
    train, store, file = stores(arguments.work, arguments.source)
    for name in arguments.models:
        models = [trained(name, train, arguments.work, seed) for seed in (0, 1)]
        served, damaged = arguments.work / "served.pt", arguments.work / "damaged.pt"
        shutil.copyfile(models[0], served)
        damaged.write_bytes(models[0].read_bytes()[:-100])
        rate = SLOW.get(name, 200)
        plan = {
            "rate": rate,
            "users": list(store["user"].id),
            "expected": [expected(model, store) for model in models],
            "requests": arguments.requests,
            "malformed": 0.05,
            "models": [str(model) for model in models],
            "served": str(served),
            "damaged": str(damaged),
            "reload_every": 5,
        }
        with serving(served, file, arguments.core) as (address, _):
            measured = load(arguments, address, plan, int(2 * arguments.requests / rate) + 30)
        count, others = measured["count"], measured["others"]
        print(
            f"{name}: {count['asked']:,} requests, {count['answered']:,} answered as expected, {count['lost']} lost, "
            f"{count['wrong']} wrong; {len(others['reload'])} reloads (longest {max(others['reload'], default=0):.2f} s), "
            f"{len(others['malformed']):,} malformed; p99 {np.percentile(measured['seconds'], 99) * 1000:.1f} ms"
        )
        for line in measured["wrong"]:
            print(f"  wrong: {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("latency", "beside", "soak"))
    parser.add_argument("--locust", default="locust", help="the program locust, in whatever environment")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--source", help="folder that holds MovieLens 100K and its DBpedia triples")
    parser.add_argument("--work", type=Path, default=Path("out/serving"), help="folder for stores and models")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--core", type=int, default=0, help="of the service")
    parser.add_argument("--load-core", type=int, default=1)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if arguments.what == "soak":
        soak(arguments)
    else:
        latency(arguments, arguments.what == "beside")


if __name__ == "__main__":
    main()
