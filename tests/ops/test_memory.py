"""The memory that sequences write: every backend against the definition, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops_graphs import interpreted, made_for, there
from torch import Tensor

from pyg_kgrec import ops
from pyg_kgrec.ops import dispatch, scan

pytestmark = pytest.mark.usefixtures("one_thread")

IN_PROCESS = [name for name in ("torch", "scan", "numba") if dispatch.installed(name)]
Results = list[Tensor]


@pytest.fixture(params=["torch", "scan", "numba", "triton"])
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    """Name of each backend that offers the memory."""
    name: str = request.param
    if not dispatch.installed(name):
        pytest.skip(f"backend {name} needs a package that is not installed")
    if name == "triton" and not (torch.cuda.is_available() or dispatch.interpreting()):
        pytest.skip("test_triton.py runs this under TRITON_INTERPRET=1")
    with made_for(name):
        yield name


def tables(
    batch: int = 3, steps: int = 7, relations: int = 4, channels: int = 5, seed: int = 0, dtype: Any = None
) -> Results:
    """Entities, keys and weights of the read that ask for gradients."""
    rng = torch.Generator("cpu").manual_seed(seed)
    like: dict[str, Any] = {"generator": rng, "dtype": dtype or torch.float64, "device": "cpu"}
    entity = torch.randn(batch, steps, channels, **like)
    relation = torch.randn(relations, channels, **like)
    weight = torch.randn(batch, steps, relations, **like).softmax(-1)
    return [there(t).requires_grad_() for t in (entity, relation, weight)]


def masks(batch: int = 3, steps: int = 7, seed: int = 0) -> Tensor:
    rng = torch.Generator("cpu").manual_seed(seed)
    return there(torch.rand(batch, steps, generator=rng, device="cpu") < 0.6)


def by_definition(
    entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None
) -> tuple[Any, Any]:
    """One sequence, step and relation after the other, in float64."""
    e, k, w = (t.detach().double().cpu().numpy() for t in (entity, relation, attention))
    read, memory = np.zeros(e.shape), np.zeros((e.shape[0], *k.shape))
    for b in range(e.shape[0]):
        for t in range(e.shape[1]):
            for a in range(k.shape[0]):
                if mask is None or bool(mask[b, t]):
                    new = e[b, t] + k[a]
                    z = (1 + np.tanh(memory[b, a] @ new / 2)) / 2
                    memory[b, a] = (1 - z) * memory[b, a] + z * new
                read[b, t] += w[b, t, a] * memory[b, a]
    return there(torch.from_numpy(read)), there(torch.from_numpy(memory))


def with_gradients(
    name: str, inputs: Results, mask: Tensor | None, of: tuple[float, float] = (1, 1)
) -> Results:
    """Both results and three gradients of a function of both that depends on every entry."""
    leaves = [t.detach().clone().requires_grad_() for t in inputs]
    with ops.backend(name):
        read, memory = ops.relational_memory(*leaves, mask)  # type: ignore[arg-type]
        (of[0] * (1 + read).sin().sum() + of[1] * (1 + memory).cos().sum()).backward()
    grads = [leaf.grad for leaf in leaves]
    assert all(g is not None for g in grads)
    return [read.detach(), memory.detach(), *(g for g in grads if g is not None)]


def close(ours: Results, expected: Results, **tolerance: float) -> None:
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a.to(b.dtype), b, **tolerance)


# ---------------------------------------------------------------------- results


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_are_the_definitions(form: str, masked: bool, dtype: torch.dtype) -> None:
    inputs = tables(dtype=dtype, steps=13)
    mask = masks(steps=13) if masked else None
    with ops.backend(form):
        found = ops.relational_memory(*inputs, mask)
    assert all(t.dtype == dtype for t in found)
    rtol, atol = (1e-5, 1e-5) if dtype == torch.float32 else (1e-12, 1e-12)
    close(list(found), list(by_definition(*inputs, mask)), rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("batch", "steps", "relations", "channels"),
    [
        (0, 4, 2, 3),
        (3, 0, 2, 3),
        (0, 0, 1, 1),
        (1, 1, 1, 1),
        (2, 3, 1, 4),
        (2, 3, 40, 1),
        (2, 40, 3, 17),
        (3, 4, 9, 300),
    ],
)
def test_sizes_at_the_edge(form: str, batch: int, steps: int, relations: int, channels: int) -> None:
    inputs = tables(batch, steps, relations, channels)
    mask = masks(batch, steps)
    found = with_gradients(form, inputs, mask)
    close(found[:2], list(by_definition(*inputs, mask)), rtol=1e-9, atol=1e-9)
    close(found, with_gradients("torch", inputs, mask), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("where", ["leading", "trailing", "middle"])
def test_steps_that_write_nothing(form: str, where: str) -> None:
    """They leave the memory as a sequence without them leaves it, and are read all the same."""
    steps, idle = 9, {"leading": slice(0, 4), "trailing": slice(5, 9), "middle": slice(3, 6)}[where]
    entity, relation, attention = (t.detach() for t in tables(steps=steps))
    mask = torch.ones(3, steps, dtype=torch.bool)
    mask[:, idle] = False
    entity[:, idle] = 1e3  # what stands there must not matter
    with ops.backend(form):
        read, memory = ops.relational_memory(entity, relation, attention, mask)
        short, after = ops.relational_memory(entity[:, mask[0]], relation, attention[:, mask[0]])
        _, before = ops.relational_memory(entity[:, : idle.start], relation, attention[:, : idle.start])
    torch.testing.assert_close(memory, after)
    torch.testing.assert_close(read[:, mask[0]], short)
    torch.testing.assert_close(read[:, idle], attention[:, idle] @ before)


def test_a_sequence_that_writes_nothing_is_zero(form: str) -> None:
    inputs, mask = tables(), masks()
    mask[1] = False
    read, memory, d_entity, _, d_attention = with_gradients(form, inputs, mask)
    for found in (read, memory, d_entity, d_attention):
        assert not found[1].any()
        assert found[0].any()
    assert not d_entity[~mask].any()
    nothing = with_gradients(form, inputs, torch.zeros_like(mask))
    assert not any(t.any() for t in nothing)


def test_gates_of_any_size(form: str) -> None:
    """A gate that is all but open replaces the vector, one that is all but shut keeps it."""
    steps = 8 if interpreted(form) else 30
    for scale in (30.0, 1e3):
        inputs = [t.detach().clone() for t in tables(steps=steps, dtype=torch.float32)]
        inputs[0] *= scale
        found = with_gradients(form, inputs, None)
        assert all(bool(t.isfinite().all()) for t in found)
        expected = by_definition(*inputs, None)
        close(found[:2], list(expected), rtol=1e-4, atol=1e-4 * scale)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(0, 4),
    steps=st.integers(0, 30),
    relations=st.integers(1, 6),
    channels=st.integers(1, 9),
    masked=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_backends_agree(
    batch: int, steps: int, relations: int, channels: int, masked: bool, seed: int
) -> None:
    inputs = tables(batch, steps, relations, channels, seed)
    mask = masks(batch, steps, seed) if masked else None
    expected = with_gradients("torch", inputs, mask)
    close(expected[:2], list(by_definition(*inputs, mask)), rtol=1e-9, atol=1e-9)
    for name in IN_PROCESS[1:]:
        close(with_gradients(name, inputs, mask), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", IN_PROCESS)
def test_the_numbers_of_the_papers_code(reference_root: Path, name: str) -> None:
    stored = np.load(reference_root / "ksr.npz")
    sequence, length = (torch.from_numpy(stored[key]) for key in ("sequence", "length"))
    table, relation = (torch.from_numpy(stored[key]) for key in ("item_entity_emb", "relation_emb"))
    steps = sequence.size(1)
    mask = torch.arange(steps) < length.unsqueeze(1)
    attention = torch.zeros(*sequence.shape, relation.size(0))
    attention[:, -1] = torch.from_numpy(stored["attention"])
    with ops.backend(name):
        read, memory = ops.relational_memory(table[sequence], relation, attention, mask)
    expected = torch.from_numpy(stored["memory"])
    torch.testing.assert_close(memory, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(read[:, -1], (attention[:, -1:] @ expected).squeeze(1), rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------- derivatives


@pytest.mark.parametrize("masked", [False, True])
def test_gradcheck(form: str, masked: bool) -> None:
    if interpreted(form) and not masked:
        pytest.skip("the interpreter is slow")
    inputs = tables(2, 4, 3, 3)
    mask = masks(2, 4, seed=3) if masked else None
    with ops.backend(form):
        assert torch.autograd.gradcheck(
            lambda *t: ops.relational_memory(*t, mask), inputs, fast_mode=form == "triton"
        )


@pytest.mark.parametrize("of", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_gradients_equal_those_of_plain_pytorch(form: str, of: tuple[float, float]) -> None:
    if interpreted(form) and 0 in of:
        pytest.skip("the interpreter is slow, and either result alone is tested below")
    inputs, mask = tables(steps=13, dtype=torch.float32), masks(steps=13)
    expected = with_gradients("torch", [t.double() for t in inputs], mask, of)
    close(with_gradients(form, inputs, mask, of), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("output", [0, 1])
def test_either_result_alone_has_a_gradient(form: str, output: int) -> None:
    grads = []
    for name in (form, "torch"):
        inputs = tables()
        with ops.backend(name):
            ops.relational_memory(*inputs)[output].sin().sum().backward()
        grads.append([torch.zeros_like(t) if t.grad is None else t.grad for t in inputs])
    close(*grads)


@pytest.mark.parametrize("asking", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_only_what_asks_gets_a_gradient(form: str, asking: tuple[int, ...]) -> None:
    """Frozen tables take a way of their own."""
    everything = with_gradients("torch", tables(), masks())[2:]
    inputs = [t.detach().clone().requires_grad_(i in asking) for i, t in enumerate(tables())]
    with ops.backend(form):
        read, memory = ops.relational_memory(*inputs, masks())
        ((1 + read).sin().sum() + (1 + memory).cos().sum()).backward()
    for i, t in enumerate(inputs):
        if i in asking:
            assert t.grad is not None
            torch.testing.assert_close(t.grad, everything[i])
        else:
            assert t.grad is None


def test_strided_input_and_gradients(form: str) -> None:
    wide = [torch.stack([t.detach()] * 2, -1) for t in tables()]
    strided = [t[..., 0].requires_grad_() for t in wide]
    assert not any(t.is_contiguous() for t in strided)
    mask = masks(7, 3).t()
    with ops.backend(form):
        read, memory = ops.relational_memory(*strided, mask)
        (read.sum() + memory.mT.contiguous().sum()).backward()  # the gradient of a sum is an expanded number
    plain = tables()
    with ops.backend("torch"):
        expected = ops.relational_memory(*plain, mask.contiguous())
        (expected[0].sum() + expected[1].sum()).backward()
    close([read, memory], list(expected))
    close(*([t.grad for t in ts if t.grad is not None] for ts in (strided, plain)))


@pytest.mark.parametrize("masked", [False, True])
def test_blocks_and_chunks_do_not_show(masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, mask = tables(5, 9), masks(5, 9) if masked else None
    whole = with_gradients("scan", inputs, mask)
    monkeypatch.setattr(scan, "_BLOCK", 2000)
    monkeypatch.setattr(scan, "_CHUNK", 4)
    close(with_gradients("scan", inputs, mask), whole)
    monkeypatch.setattr(scan, "_BLOCK", 1)
    close(with_gradients("scan", inputs, mask), whole)


# ---------------------------------------------------------------------- operators


@pytest.mark.skipif(not dispatch.installed("numba"), reason="no numba")
def test_same_bits_twice_and_on_any_number_of_threads() -> None:
    inputs, mask = tables(70, 9, 6, 8, dtype=torch.float32), masks(70, 9)
    runs = []
    for threads in (1, 2, 2):
        torch.set_num_threads(threads)
        runs.append(with_gradients("numba", inputs, mask))
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


def test_compiled_equals_eager(form: str) -> None:
    if interpreted(form):
        pytest.skip("the interpreter is slow, and the operator is the one that numba's kernel has")
    inputs, mask = tables(2, 2), masks(2, 2)

    def run(e: Tensor, k: Tensor, w: Tensor) -> Tensor:
        read, memory = ops.relational_memory(e, k, w, mask)
        return read.sum(1) + memory.sum(1)

    torch.compiler.reset()
    compiled: Callable[..., Tensor] = torch.compile(run, fullgraph=True, backend="aot_eager")
    with ops.backend(form):
        out, expected = compiled(*inputs), run(*inputs)
        torch.testing.assert_close(out, expected)
        ours = list(torch.autograd.grad(out.sum(), inputs))
        close(ours, list(torch.autograd.grad(expected.sum(), inputs)))


def test_autocast_computes_in_float32(form: str) -> None:
    inputs = tables(dtype=torch.float32)
    with ops.backend(form), torch.autocast(inputs[0].device.type, dtype=torch.bfloat16):
        read, memory = ops.relational_memory(inputs[0].bfloat16(), inputs[1], inputs[2])
        assert read.dtype == memory.dtype == torch.float32
        (read.sum() + memory.sum()).backward()
    assert inputs[0].grad is not None
    expected = by_definition(inputs[0].bfloat16(), inputs[1], inputs[2], None)
    close([read, memory], list(expected), rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------- memory


def held(name: str, batch: int, steps: int, relations: int, channels: int) -> int:
    """Numbers that are held between forward and backward."""
    storages: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes() // t.element_size()
        return t

    inputs = tables(batch, steps, relations, channels, dtype=torch.float32)
    with ops.backend(name), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        read, memory = ops.relational_memory(*inputs, masks(batch, steps))
    assert read.requires_grad
    assert memory.requires_grad
    return sum(storages.values())


@pytest.mark.parametrize("name", [n for n in IN_PROCESS if n != "torch"])
def test_no_vector_of_each_step_and_relation_is_held(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond one block nothing but the arguments is kept for the gradient."""
    batch, steps, relations, channels = 16, 40, 24, 32
    monkeypatch.setattr(scan, "_BLOCK", 1 << 17)
    arguments = sum(t.numel() for t in tables(batch, steps, relations, channels)) + batch * steps
    all_vectors = batch * steps * relations * channels
    assert held("torch", batch, steps, relations, channels) > all_vectors
    assert held(name, batch, steps, relations, channels) <= arguments < all_vectors / 12
    twice = held(name, 2 * batch, 2 * steps, relations, channels)
    assert twice <= 4 * arguments


@pytest.mark.parametrize("name", [n for n in IN_PROCESS if n != "torch"])
def test_the_peak_is_below_all_vectors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward together, as the operating system counts them."""
    monkeypatch.setattr(scan, "_BLOCK", 1 << 20)
    batch, steps, relations, channels = 64, 64, 64, 64
    with_gradients(name, tables(1, 64, 64, 64, dtype=torch.float32), None)  # what loading a kernel takes
    inputs = tables(batch, steps, relations, channels, dtype=torch.float32)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the resident set
    except OSError:
        pytest.skip("only Linux tells the peak of a part of a process")
    before = resident("VmRSS")
    with_gradients(name, inputs, None)
    assert resident("VmHWM") - before < batch * steps * relations * channels * 4 / 1024 / 2


def resident(key: str) -> int:
    """A line of /proc/self/status, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def test_a_block_holds_no_more_than_said() -> None:
    """The estimate by which ``scan`` cuts a batch into blocks."""
    batch, steps, relations, channels = 2, 48, 20, 32
    said = batch * steps * relations * (2 * scan._CHUNK + 3 * channels // scan._CHUNK)
    assert said < scan._BLOCK
    assert 0.5 * said < held("scan", batch, steps, relations, channels) < 2 * said


# ---------------------------------------------------------------------- the choice


def test_which_backend_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "installed", lambda name: True)
    assert ops.report()["relational_memory"].backend == "numba"
    assert ops.report(size=100)["relational_memory"].backend == "torch"
    assert ops.report("cuda")["relational_memory"].backend == "triton"
    assert ops.report("mps")["relational_memory"].backend == "scan"
    assert ops.report("mps")["relational_mean"].backend == "torch"
    monkeypatch.setattr(dispatch, "installed", lambda name: name not in dispatch._NEEDS)
    assert ops.report()["relational_memory"] == (
        "scan",
        'numba is faster here: pip install "pyg-kgrec[fused]"',
    )
    assert ops.report("cuda")["relational_memory"].backend == "scan"
    with ops.backend("scan"):
        assert ops.report()["relational_mean"] == (
            "torch",
            "'scan' was asked for but does not offer this operation",
        )
    with ops.backend("scatter") if dispatch.installed("scatter") else ops.backend("torch"):
        assert ops.report()["relational_memory"].backend == "torch"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"entity": torch.zeros(7, 5)}, ValueError, r"entity has shape \(7, 5\), expected \(sequences, steps, ch"),
        ({"relation": torch.zeros(4, 6)}, ValueError, r"relation has shape \(4, 6\), expected \(relations, 5\)"),
        ({"relation": torch.zeros(5)}, ValueError, r"relation has shape \(5,\), expected \(relations, 5\)"),
        ({"relation": torch.zeros(0, 5)}, ValueError, "relation has no row, expected at least one relation"),
        ({"attention": torch.zeros(3, 7, 3)}, ValueError, r"attention has shape .*, expected \(3, 7, 4\)"),
        ({"attention": torch.zeros(3, 4)}, ValueError, r"attention has shape \(3, 4\), expected \(3, 7, 4\)"),
        ({"mask": torch.ones(3, 7)}, TypeError, r"mask is torch\.float32, expected torch\.bool"),
        ({"mask": torch.ones(3, 6, dtype=torch.bool)}, ValueError, r"mask has shape \(3, 6\), expected \(3, 7\)"),
        ({"relation": torch.zeros(4, 5).double()}, TypeError, "relation is torch.float64 but entity is"),
        ({"entity": torch.zeros(3, 7, 5).long()}, TypeError, "entity is torch.int64 on cpu, expected one of"),
        ({"attention": torch.zeros(3, 7, 4, device="meta")}, ValueError, "attention is on meta but entity on cpu"),
        ({"mask": torch.ones(3, 7, device="meta")}, ValueError, "mask is on meta but entity on cpu"),
    ],
)  # fmt: skip
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    names = ("entity", "relation", "attention")
    arguments: dict[str, Any] = dict(zip(names, tables(dtype=torch.float32)))
    with pytest.raises(error, match=message):
        ops.relational_memory(**(arguments | change))
