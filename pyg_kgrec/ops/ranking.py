"""Scores of users with items: of sampled ones, the best of the catalogue, and cross entropy over all of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding, pad

from pyg_kgrec.ops.checks import check_floating, check_same_device, check_table, full_precision, guarded
from pyg_kgrec.ops.dispatch import KERNELS, register
from pyg_kgrec.ops.operator import operator

# ---------------------------------------------------------------------- sampled items

_SAMPLED = register("sampled_scores", __name__, "numba")


@guarded
def sampled_scores(user: Tensor, item: Tensor, sample: Tensor) -> Tensor:
    r"""Inner products of users with items of their own.

    .. math:: \hat{y}_{bj} = \mathbf{e}_b \cdot \mathbf{e}_{i_{bj}}

    What a ranking loss needs of a positive and its sampled negatives, without a tensor of the size [B, k, d].

    Args:
        user: [B, d].
        item: [I, d]; the catalogue.
        sample: [B, k] int64; items of each user.

    Returns:
        [B, k]; differentiable in ``user`` and ``item``.

    Raises:
        TypeError: Wrong or different dtypes.
        ValueError: Wrong shapes or devices.
        IndexError: A sampled item lies outside the catalogue.
    """
    check_same_device([("user", user), ("item", item), ("sample", sample)])
    check_floating(user=user, item=item)
    if sample.dtype != torch.int64:
        raise TypeError(f"sample is {sample.dtype}, expected torch.int64")
    check_table("user", user, user.size(0), "user")
    check_table("item", item, item.size(0), "item")
    if user.size(1) != item.size(1) or sample.dim() != 2 or sample.size(0) != user.size(0):
        raise ValueError(
            f"user {tuple(user.shape)}, item {tuple(item.shape)} and sample {tuple(sample.shape)}: "
            "expected (B, d), (I, d) and (B, k)"
        )
    if _SAMPLED.choose(user.device, sample.numel() * user.size(1)).backend in KERNELS:
        scores: Tensor = _sampled(user, item, sample)
        return scores
    try:
        wide_user, wide_item = full_precision(user, item)
        with torch.autocast(user.device.type, enabled=False):
            return sampled_scores_torch(wide_user, wide_item, sample)
    except RuntimeError as error:  # on the CPU; a GPU asserts
        if "out of bounds" in str(error):
            raise IndexError(f"sample holds items outside 0 … {item.size(0) - 1}") from error
        raise


def sampled_scores_torch(user: Tensor, item: Tensor, sample: Tensor) -> Tensor:
    """Inner products of users with items of their own in plain PyTorch."""
    if item.size(0) <= 64 * sample.size(1):
        # A matrix product with the whole catalogue costs less than gathering [B, k, d] and scattering it back.
        return (user @ item.t()).gather(1, sample)
    return torch.bmm(embedding(sample, item), user.unsqueeze(2)).squeeze(2)


@operator(_SAMPLED)
def _sampled(user: Tensor, item: Tensor, sample: Tensor) -> Tensor:
    """Inner products of users with items of their own, [B, k]."""
    return user.new_empty(sample.shape)


@operator(_SAMPLED, "sampled_scores_backward")
def _sampled_backward(grad: Tensor, user: Tensor, item: Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of users and items."""
    return user.new_empty(user.shape), item.new_empty(item.shape)


def _sampled_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _sampled_gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return *_sampled_backward(grad, *ctx.saved_tensors), None


_sampled.register_autograd(_sampled_gradient, _sampled_setup)

# ---------------------------------------------------------------------- the best of the catalogue

_RANK = register("rank_topk", __name__, "numba")
_MOST = 2**20  # columns of a result, padding among them, where there are fewer items
_INSERTED = 128  # the compiled form inserts into a sorted row, for which a large k is too much


@guarded
@torch.no_grad()
def rank_topk(
    user: Tensor,
    item: Tensor,
    k: int,
    seen: tuple[Tensor, Tensor] | None = None,
    block: int = 1024,
) -> tuple[Tensor, Tensor]:
    """The ``k`` items with the largest inner product for each user, without those already seen.

    Args:
        user: [B, d].
        item: [I, d].
        k: How many, at least 1.
        seen: Compressed rows (ptr [B + 1], items [n]) of what must not be recommended (default: nothing).
        block: Users that are scored at once.

    Returns:
        Items [B, k] int64 and their scores [B, k], best first, of equal ones the first item; padded with -1 and
        -inf where fewer are left.

    Raises:
        TypeError: Wrong or different dtypes.
        ValueError: Wrong shapes or devices, or a seen item out of range.
    """
    ptr, items = seen if seen is not None else (None, None)
    check_same_device([("user", user), ("item", item), ("seen ptr", ptr), ("seen items", items)])
    check_floating(user=user, item=item)
    if user.dim() != 2 or item.dim() != 2 or user.size(1) != item.size(1):
        raise ValueError(f"user {tuple(user.shape)} and item {tuple(item.shape)}: expected (B, d) and (I, d)")
    if k < 1 or block < 1:
        raise ValueError(f"k is {k} and block {block}, expected at least 1")
    if k > max(item.size(0), _MOST):
        raise ValueError(f"k is more than {_MOST} and than the {item.size(0)} items there are")
    if ptr is not None and items is not None:
        if ptr.dtype not in (torch.int32, torch.int64) or items.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"seen is {ptr.dtype} and {items.dtype}, expected int32 or int64")
        if ptr.shape != (user.size(0) + 1,):
            raise ValueError(f"seen ptr has shape {tuple(ptr.shape)}, expected ({user.size(0) + 1},)")
        if int(ptr[0]) < 0 or int(ptr[-1]) > items.numel() or bool((ptr.diff() < 0).any()):
            raise ValueError(f"seen ptr is no ascending pointer into {items.numel()} items")
        if items.numel() and (int(items.min()) < 0 or int(items.max()) >= item.size(0)):
            raise ValueError(f"seen holds items outside 0 … {item.size(0) - 1}")
    backend = _RANK.choose(user.device, user.size(0) * item.size(0)).backend
    run = rank_topk_torch if backend == "torch" or k > _INSERTED else _RANK.form(backend)
    return run(user, item, k, ptr, items, block)


def rank_topk_torch(
    user: Tensor, item: Tensor, k: int, ptr: Tensor | None, seen: Tensor | None, block: int
) -> tuple[Tensor, Tensor]:
    """Items [B, k] and scores [B, k] in plain PyTorch."""
    found = []
    for start in range(0, max(user.size(0), 1), block):
        score = user[start : start + block] @ item.t()
        if ptr is not None and seen is not None:
            span = ptr[start : start + score.size(0) + 1].long()
            row = torch.arange(score.size(0), device=score.device).repeat_interleave(span.diff())
            score[row, seen[int(span[0]) : int(span[-1])].long()] = -torch.inf
        value, index = best(score, min(k, item.size(0)))
        value = pad(value, (0, k - value.size(1)), value=-torch.inf)
        index = pad(index, (0, k - index.size(1)), value=-1)
        found.append((index.masked_fill(value == -torch.inf, -1), value))
    return torch.cat([i for i, _ in found]), torch.cat([v for _, v in found])


# ---------------------------------------------------------------------- equal numbers have an order


def largest(score: Tensor, k: int, place: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k largest numbers of each row, and where they stand; of equal ones first those of the lowest place.

    Args:
        score: ``[B, n]`` float.
        k: Up to n.
        place: Of each column, ``[n]`` int64, each of 0 … n − 1 once; by default the columns in their order.

    Returns:
        Numbers and columns, ``[B, k]`` each.
    """
    number = score.size(1)
    place = torch.arange(number, device=score.device) if place is None else place
    column = place.argsort()
    if score.dtype != torch.float32:
        found, at = score[:, column].sort(dim=1, descending=True, stable=True)
        return found[:, :k], column[at[:, :k]]
    # The bits of floats in the order of the numbers, and below them the place: no two keys are equal.
    bits = (score + 0.0).contiguous().view(torch.int32)  # −0 becomes 0
    bits = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long() << 32
    key = bits.add_(number - 1 - place).topk(k, dim=1).values
    found = column[number - 1 - (key & 0xFFFFFFFF)]
    return score.gather(1, found), found


def best(score: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest numbers of each row and their columns, best first, of equal ones the first.

    What :func:`largest` gives, sooner: ``topk`` leaves open which of equal numbers come and in what order, and only
    rows with such are looked at again. Columns of −inf come in any order.

    Args:
        score: ``[B, n]`` float.
        k: Up to n.

    Returns:
        Numbers and columns, ``[B, k]`` each.
    """
    value, index = score.topk(k, dim=1)
    if k == 0:
        return value, index
    last = value[:, -1:]
    tied = ((value[:, 1:] == value[:, :-1]) & value[:, 1:].isfinite()).any(1)
    tied |= ((score >= last).sum(1) > k) & last.squeeze(1).isfinite()
    rows = tied.nonzero().flatten()
    if rows.numel():
        value[rows], index[rows] = largest(score[rows], k)
    return value, index


# ---------------------------------------------------------------------- cross entropy over the catalogue

_ROWS, _BLOCK = 256, 2**24  # rows of logits at a time, and logits: 64 MiB


@guarded
def catalogue_cross_entropy(query: Tensor, item: Tensor, target: Tensor) -> Tensor:
    r"""Cross entropy of the right item among the whole catalogue, without a table of all logits.

    .. math:: -\mathrm{mean}_b\, \log \frac{e^{\mathbf{p}_b \cdot \mathbf{q}_{t_b}}}
        {\sum_j e^{\mathbf{p}_b \cdot \mathbf{q}_j}}

    Logits are made, and their gradient taken, for at most 64 MiB of them (and at least a row) at a time. The mean
    of no row is 0. Half precision is computed in float32. Differentiable once.

    Args:
        query: p, ``[B, d]``.
        item: q, ``[num_items, d]``.
        target: t, ``[B]`` int64.
    """
    loss: Tensor = _CatalogueCrossEntropy.apply(query, item, target)  # type: ignore[no-untyped-call]
    return loss


class _CatalogueCrossEntropy(torch.autograd.Function):
    """The gradient is taken on the way forward: a block of logits is at hand then, and never again."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, item: Tensor, target: Tensor) -> Tensor:
        wide = torch.promote_types(torch.promote_types(query.dtype, item.dtype), torch.float32)
        p, q, number = query.to(wide), item.to(wide), max(query.size(0), 1)
        wants = any(ctx.needs_input_grad[:2])
        grad_p, grad_q = (torch.empty_like(p), torch.zeros_like(q)) if wants else (p, q)
        total = p.new_zeros(())
        with torch.autocast(p.device.type, enabled=False):
            rows = min(_ROWS, max(1, _BLOCK // max(q.size(0), 1)))
            for first in range(0, p.size(0), rows):
                mine = slice(first, first + rows)
                block, right = p[mine], target[mine]
                total -= (block * q[right]).sum()
                logits = block @ q.t()
                top = logits.amax(dim=1, keepdim=True)
                odds = logits.sub_(top).exp_()  # each pass over them costs as much as a product
                whole = odds.sum(dim=1, keepdim=True)
                total += (whole.log() + top).sum()
                if wants:
                    share = 1 / (whole * number)
                    odds[torch.arange(right.numel(), device=right.device), right] -= whole.squeeze(1)
                    torch.mm(odds, q, out=grad_p[mine]).mul_(share)
                    grad_q.addmm_(odds.t(), block * share)
        if wants:
            ctx.save_for_backward(grad_p, grad_q)
            ctx.dtypes = query.dtype, item.dtype
        return total / number

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        # In half precision only after the product: gradients may come scaled up.
        grad_p, grad_q = ((grad * saved).to(dtype) for saved, dtype in zip(ctx.saved_tensors, ctx.dtypes))
        return grad_p, grad_q, None
