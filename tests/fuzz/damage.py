"""What is put in the place of something right, for every area of the fuzz."""

from __future__ import annotations

import copy
from random import Random
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

_PIECES: Final = (
    b"\0",
    b"\xff" * 8,
    b"PK\x03\x04",
    b"\x80\x02",
    b"cos\nsystem\n",
    b"\r\n",
    b"-1",
    b"9" * 30,
    b"x" * 5000,
)
_SHAPES: Final = ((), (0,), (1,), (7,), (2, 0), (2, 3), (3, 2), (2, 2, 2), (1, 10**6))


def bytes_of(raw: bytes, random: Random) -> bytes:
    """Some bytes flipped, cut, doubled, moved or put in."""
    for _ in range(random.choice((1, 1, 1, 3))):
        start = random.randrange(len(raw) + 1)
        end = min(len(raw), start + random.choice((1, 1, 4, 50, 10**6)))
        kind = random.randrange(8)
        if kind <= 2 and start < len(raw):
            raw = raw[:start] + bytes([raw[start] ^ 1 << random.randrange(8)]) + raw[start + 1 :]
        elif kind == 3:
            raw = raw[:start]
        elif kind == 4:
            raw = raw[:start] + raw[end:]
        elif kind == 5:
            raw = raw[:end] + raw[start:]
        elif kind == 6:
            raw = raw[:start] + random.choice(_PIECES) + raw[start:]
        else:
            raw = random.choice(_PIECES) + raw
    return raw


def tensor(random: Random, files: bool = False) -> Tensor:
    """A tensor of any dtype, shape and layout; for ``files`` one that a file can hold."""
    dtypes = [
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.uint8,
    ]
    dtypes += [torch.bool, torch.complex64, torch.float8_e4m3fn, torch.int8]
    x = torch.zeros(random.choice(_SHAPES)).to(random.choice(dtypes))
    kind = random.randrange(12)
    if kind == 0 and x.dim() and x.numel():
        x = torch.full_like(x, 1).to(x.dtype)
    elif kind == 1:
        x = torch.full(x.shape, random.choice((float("nan"), float("inf"), -1.0, 1e30)))
    elif kind == 2:
        x = torch.full(x.shape, random.choice((-1, 10**9, 2**62, -(2**63))))
    elif kind == 3:
        x = torch.zeros(3, 3).to_sparse()
    elif kind == 4:
        x = torch.zeros(2, 5, device="meta")
    elif kind == 5 and not files:
        x = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    elif kind == 6:
        x = torch.zeros(1).expand(random.choice((2, 10**6, 10**12)))
    elif kind == 7:
        x = torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)
    elif kind == 8:
        x = torch.eye(4).to_sparse_csr()
    return x


def value(random: Random, files: bool = False) -> Any:
    """Something of any kind; for ``files`` something that a file can hold."""
    plain: list[Any] = [
        None, True, 0, 1, -1, 3, 2**31, 10**9, 10**12, 2**63, 10**30, 10**400, 0.5, -0.5, 1e39, 1e308,
        float("nan"), float("inf"), "", "text", "x" * 300_000, "a\nb", "$_$", [], {}, [1], [[]], ["a"] * 20, (1, 2),
        {"a": 1}, {1: 2}, b"bytes", list(range(1000)),
    ]  # fmt: skip
    if not files:
        plain += [
            "\ud800",
            object(),
            np.zeros(3),
            np.zeros((2, 2), dtype=object),
            np.int64(3),
            {1, 2},
            int,
            print,
        ]
    return tensor(random, files) if random.random() < 0.4 else random.choice(plain)


def element(x: Tensor, random: Random) -> Any:
    """A copy of a tensor with some numbers changed, or another dtype, shape or order."""
    if x.layout != torch.strided or x.is_nested or x.is_quantized:  # it was damaged before
        return value(random)
    kind = random.randrange(8)
    if kind == 0:
        return x.to(
            random.choice((torch.int32, torch.float32, torch.float64, torch.bool, torch.uint8, torch.float16))
        )
    if kind == 1:
        return x[..., : max(x.size(-1) - 1, 0)] if x.dim() else x.view(1)
    if kind == 2:
        return x.unsqueeze(random.randrange(x.dim() + 1))
    if kind == 3:
        return x.flip(0) if x.dim() else ~x if x.dtype == torch.bool else -x
    if kind == 4 and x.dim():
        return torch.cat([x, x])
    x = x.clone()
    if x.numel():
        wrong = random.choice(
            (-1, 10**9, 2**62, -(2**63), float("nan"), float("inf"), 1e30, -1e30, 10**6, 1, 0)
        )
        if x.is_floating_point() or (wrong == wrong and abs(wrong) < 2**63 and isinstance(wrong, int)):
            limit = None if x.is_floating_point() or x.dtype == torch.bool else torch.iinfo(x.dtype)
            if limit is None or limit.min <= wrong <= limit.max:
                x.view(-1)[random.randrange(x.numel())] = wrong
    return x


def inside(content: Any, random: Random) -> Any:
    """A copy of nested dictionaries and lists with one part changed, gone, new, or of another kind."""
    content = copy.copy(content)
    keys: list[Any] = list(content) if isinstance(content, dict) else list(range(len(content)))
    if not keys:
        return value(random, files=True)
    key = random.choice(keys)
    part, kind = content[key], random.randrange(8)
    if kind <= 4 and isinstance(part, dict | list) and part:
        content[key] = inside(part, random)
    elif kind <= 5 and isinstance(part, Tensor):
        content[key] = element(part, random).contiguous()
    elif kind == 6 and isinstance(content, dict):
        if random.random() < 0.5:
            del content[key]
        else:
            content[random.choice(("other", 1, "x" * 1000))] = part
    else:
        content[key] = value(random, files=True)
    return content
