"""Compile every Triton kernel for compute capability 9.0 and print its name; needs no GPU.

Run as ``python compile_kernels.py '*fp32'`` with the type of the tables.
"""

from __future__ import annotations

import sys

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from pyg_kgrec.ops.triton import attention, dropout, memory, segments

TABLES = {
    "query",
    "value",
    "relation",
    "left",
    "right",
    "grad",
    "x",
    "y",
    "src",
    "entity",
    "attention",
    "grad_read",
    "grad_memory",
}
NUMBERS = {
    "inputs": "i64",
    "edges": "i64",
    "lefts": "i64",
    "rights": "i64",
    "rows": "i64",
    "threshold": "i64",
    "scale": "fp32",
    "batch": "i32",
    "steps": "i32",
    "kinds": "i32",
    "tiles": "i32",
    "chunk": "i32",
    "chunks": "i32",
}
SUMS = {
    "logits",
    "lse",
    "part_out",
    "part_top",
    "part_total",
    "part_query",
    "part_value",
    "weight",
    "factor",
    "part",
    "d_query",
    "inverse",
    "room",
    "part_entity",
    "part_relation",
}


def main(table: str) -> None:
    """Compile all kernels for one type of table."""
    wide, acc = ("*fp64", tl.float64) if table == "*fp64" else ("*fp32", tl.float32)
    layout = {"H": 2, "K": 24, "HP": 2, "KP": 32}
    heads = {**layout, "BLOCK": 16, "MASKED": True}
    gather = {**layout, "BLOCK": 16, "BY_POSITION": True, "PAIR": True, "WEIGHTED": True, "SHARED": False}
    rows = {"D": 48, "DP": 64, "DROP": True}
    columns = {**layout, "BLOCK": 16}
    softmax = {"H": 2, "HP": 2, "BLOCK": 64}
    slots = {"K": 48, "KP": 64, "RP": 32, "MASKED": True}
    for kernel, settings, results in (
        (attention._attention_forward, heads, table),
        (attention._merge_attention, {**layout, "SLOTS": 32}, table),
        (attention._attention_backward_rows, heads, table),
        (segments._gather_sum, {**gather, "ORDERED": True}, wide),
        (attention._attention_backward_columns, columns, table),
        (attention._attention_backward_relations, columns, wide),
        (segments._merge_sum, {"D": 48, "BLOCK": 32, "SLOTS": 32, "VIA": True}, wide),
        (attention._mean_logits, {"D": 48, "DP": 64, "BLOCK": 64, "MASKED": True}, wide),
        (attention._softmax_forward, {**softmax, "TIMES_COUNT": True}, table),
        (attention._softmax_backward, softmax, table),
        (dropout._dropout_normalize_forward, rows, table),
        (dropout._dropout_normalize_backward, rows, table),
        (memory._memory_forward, {**slots, "WEIGHTS": False}, table),
        (memory._memory_backward, slots, table),
    ):
        constants = {**settings, "ACC": acc} if "ACC" in kernel.arg_names else settings
        types = {}
        for name in kernel.arg_names:
            if name in constants:
                types[name] = "constexpr"
            elif name in ("out", "result", "memory", "d_attention"):
                types[name] = results
            elif name in ("keep", "mask"):
                types[name] = "*i1"
            elif name in TABLES:
                types[name] = table
            else:
                types[name] = NUMBERS.get(name) or (wide if name in SUMS else "*i64")
        chosen = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
        triton.compile(
            ASTSource(fn=kernel, signature=types, constexprs=chosen),
            target=GPUTarget("cuda", 90, 32),
            options={"num_warps": 1, "maxnreg": 64} if "BLOCK" in settings and "K" in settings else {},
        )
        print(kernel.__name__)


if __name__ == "__main__":
    main(sys.argv[1])
