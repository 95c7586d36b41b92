"""A training step of KSR side by side with hopwise's, in one run, alternating.

    make peers
    OMP_NUM_THREADS=2 python benchmarks/peers/ksr_step.py --python .venv-peers/bin/python
    OMP_NUM_THREADS=2 python benchmarks/peers/ksr_step.py --length 50 200 --relations 25 60

A step is the forward pass, the loss (cross entropy over the catalogue), the backward pass and Adam, on one batch of
random data: a sequence of full length for each user, items that all have an entity, embeddings of entities and
relations at random. Seconds are the median of the steps after a first one; the peak is the highest resident memory
of these steps over what was resident after the first, which loads libraries and makes Adam's tables. Each
measurement has a process of its own.

Both have 64 channels (items, entities, output), a GRU of one layer of twice as many without bias, dropout 0.1 and
γ = 10. What differs:

- A step of ours learns every item of a sequence but the first (B·L targets), with a read of the memory after each;
  one of hopwise learns the last item (B targets) with a single read, and L of them learn as much. "The last item
  alone" is ours with hopwise's targets: the session is still read after every step.
- hopwise learns the embeddings of entities unless told otherwise, ours keeps them by default: both are measured
  both ways, and each way is set against hopwise's own.
- hopwise keeps a slot for the padding beside those of the relations; its graph has a relation less here, so that
  both have R slots.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import Module

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from floors import peak_mebibytes

ITEMS, ENTITIES, TRIPLES = 2000, 3000, 20_000


class Size(NamedTuple):
    """Sequences in a batch, steps of a sequence, slots of the memory, channels."""

    batch: int
    length: int
    relations: int
    channels: int


def measure(model: Module, loss: Callable[[], Tensor], steps: int) -> dict[str, Any]:
    """Seconds of training steps after a first one, and their peak memory in MiB."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)

    def step() -> float:
        started = time.perf_counter()
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return time.perf_counter() - started

    model.train()
    step()
    seconds: list[float] = []
    peak = peak_mebibytes(lambda: seconds.extend(step() for _ in range(steps)))
    return {"seconds": seconds, "peak": peak}


def write(folder: Path, name: str, size: Size, relations: int) -> None:
    """Atomic files of random data with this many relations; the interactions are the same for any number."""
    rng = np.random.default_rng(0)
    item = rng.permuted(np.tile(np.arange(ITEMS), (size.batch, 1)), axis=1)[:, : size.length + 1]
    user, when = np.indices(item.shape)
    linked = np.unique(item)
    vectors = rng.normal(0, size.channels**-0.5, (ENTITIES + relations, size.channels)).round(6)
    vector = [" ".join(map(str, row)) for row in vectors]
    files: dict[str, dict[str, Any]] = {
        "inter": {
            "user_id:token": user.ravel(),
            "item_id:token": item.ravel(),
            "timestamp:float": when.ravel(),
        },
        "link": {"item_id:token": linked, "entity_id:token": linked},
        "kg": {
            "head_id:token": rng.integers(ENTITIES, size=TRIPLES),
            "relation_id:token": np.arange(TRIPLES) % relations,
            "tail_id:token": rng.integers(ENTITIES, size=TRIPLES),
        },
        "entityemb": {
            "entity_embedding_id:token": np.arange(ENTITIES),
            "entity_embedding:float_seq": vector[:ENTITIES],
        },
        "relationemb": {
            "relation_embedding_id:token": np.arange(relations),
            "relation_embedding:float_seq": vector[ENTITIES:],
        },
    }
    (folder / name).mkdir()
    for suffix, columns in files.items():
        pd.DataFrame(columns).to_csv(folder / name / f"{name}.{suffix}", sep="\t", index=False)


def ours(folder: Path, size: Size, steps: int, freeze_kg: bool, backend: str, last: bool) -> dict[str, Any]:
    """Our step, in the process at hand; ``last`` learns the last item of each sequence alone."""
    from pyg_kgrec import KSR, ops  # hopwise's environment, which takes `measure` from here, has no pyg_kgrec
    from pyg_kgrec.data import read_atomic
    from pyg_kgrec.ops import catalogue_cross_entropy

    train = read_atomic(folder / "ours", "ours")
    torch.manual_seed(0)
    rows = train["entity"].num_nodes, size.relations
    tables = tuple(torch.randn(n, size.channels) / size.channels**0.5 for n in rows)
    model = KSR(
        train,
        embedding_channels=size.channels,
        hidden_channels=2 * size.channels,
        kg_embedding=(tables[0], tables[1]),
        freeze_kg=freeze_kg,
        max_length=size.length,
    )
    inputs = model.prepare(train)
    batch = model.training_examples(inputs)
    if batch[0].shape != (size.batch, size.length + 1):
        raise RuntimeError(
            f"the batch has shape {tuple(batch[0].shape)}, not {size.batch} × {size.length + 1}"
        )
    window, generator = batch[0], torch.Generator().manual_seed(0)
    session, target = window[:, :-1], window[:, -1]

    def loss() -> Tensor:
        if not last:
            return model.training_losses(inputs, batch, generator)["ranking"]
        items, dropout_mask = model.encode(inputs).items, model._dropout_mask(session, generator)
        read = model.read(items, session, session >= 0, dropout_mask=dropout_mask)
        return catalogue_cross_entropy(read.out[:, -1], items.scored, target)

    with ops.backend(backend):
        return measure(model, loss, steps)


def theirs(python: str, folder: Path, size: Size, steps: int, freeze_kg: bool) -> dict[str, Any]:
    """hopwise's step, in its own environment and an empty folder, where it leaves its logs."""
    script = Path(__file__).with_name("hopwise_ksr.py").resolve()
    command = [str(Path(python).absolute()), str(script), str(folder / "hopwise"), json.dumps(size)]
    command += ["--steps", str(steps)] + ["--freeze"] * freeze_kg
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(command, cwd=empty, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"hopwise failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def forms(python: str, folder: Path, size: Size, steps: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each form takes, by name; a group begins with what the others are compared with."""
    for freeze_kg, entities in ((False, "entities learned"), (True, "entities frozen")):
        yield f"hopwise, {entities}", theirs(python, folder, size, steps, freeze_kg)
        for name, backend, last in (
            ("ours, the last item alone", "auto", True),
            ("ours", "auto", False),
            ("ours by the plain loop", "torch", False),
        ):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                found = pool.submit(ours, folder, size, steps, freeze_kg, backend, last).result()
            yield f"{name}, {entities}", found


def rows(python: str, size: Size, steps: int, rounds: int) -> list[str]:
    """The table's rows of one size."""
    results: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as path:
        write(Path(path), "ours", size, size.relations)
        write(Path(path), "hopwise", size, size.relations - 1)
        for _ in range(rounds):
            for name, found in forms(python, Path(path), size, steps):
                results.setdefault(name, []).append(found)
                print(f"{name}: {found}", file=sys.stderr)  # a long run tells how far it is
    table, base = [], (0.0, 0.0)
    for name, runs in results.items():
        seconds = statistics.median(s for run in runs for s in run["seconds"])
        peak = statistics.median(run["peak"] or float("nan") for run in runs)  # None where it cannot be told
        if name.startswith("hopwise"):
            base = seconds, peak
        ratio = f"{base[0] / seconds:.1f}× as fast, {peak / base[1]:.2f} of the memory"
        table.append(
            f"| {name} | {size.length} | {size.relations} | {seconds:.3f} | {peak:.0f} | {ratio} |",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=".venv-peers/bin/python", help="interpreter with hopwise")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument(
        "--length", type=int, nargs="+", default=[50], help="steps of a sequence, a table row each"
    )
    parser.add_argument(
        "--relations", type=int, nargs="+", default=[25], help="as many as lengths, at least 2"
    )
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3, help="steps after the first, in each round")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    if len(args.length) != len(args.relations) or min(args.relations) < 2 or max(args.length) >= ITEMS:
        parser.error(f"expected as many lengths as relations, lengths below {ITEMS}, relations of at least 2")
    print(f"{torch.get_num_threads()} threads, {args.batch} sequences, {args.channels} channels, medians\n")
    print("| form | L | R | seconds a step | peak MiB | ratio |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for length, relations in zip(args.length, args.relations):
        size = Size(args.batch, length, relations, args.channels)
        print("\n".join(rows(args.python, size, args.steps, args.rounds)), flush=True)


if __name__ == "__main__":
    main()
