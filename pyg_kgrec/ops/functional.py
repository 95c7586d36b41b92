"""The operations: pure tensors in, tensors out; input is checked here, once, for every backend."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Literal, overload

import torch
from torch import Tensor

from pyg_kgrec.ops import library, reference
from pyg_kgrec.ops.door import check_floating, choose
from pyg_kgrec.ops.index import BipartiteIndex, Segments, TripleIndex, check_same_device


def _composed(name: str) -> ModuleType:
    """The module of a backend that autograd differentiates."""
    if name == "scatter":
        from pyg_kgrec.ops import scatter

        return scatter
    return reference


def _full(*tables: Tensor) -> Any:
    """Under autocast backends composed of PyTorch operations compute in float32, as the kernels do."""
    device = tables[0].device.type
    if torch.is_autocast_enabled(device):
        return tuple(t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in tables)
    return tables


def _check_table(name: str, table: Tensor, rows: int, what: str) -> None:
    if table.dim() != 2 or table.size(0) != rows:
        raise ValueError(
            f"{name} has shape {tuple(table.shape)}, expected ({rows}, channels): one row {what}"
        )


def _check_keep(keep: Tensor | None, edges: int) -> None:
    if keep is None:
        return
    if keep.dtype != torch.bool:
        raise TypeError(f"keep is {keep.dtype}, expected torch.bool")
    if keep.shape != (edges,):
        raise ValueError(f"keep has shape {tuple(keep.shape)}, expected ({edges},): one entry a triple")


def _check_triples(index: TripleIndex, keep: Tensor | None, num_heads: int, **tables: Tensor) -> None:
    check_same_device([*tables.items(), ("index", index.tail), ("keep", keep)])
    check_floating(**tables)
    width = next(iter(tables.values())).size(-1)
    for name, table in tables.items():
        if name == "relation":
            _check_table(name, table, index.num_relations, "a relation")
        else:
            _check_table(name, table, index.num_inputs, "an input row of the index")
        if table.size(1) != width:
            raise ValueError(f"{name} has {table.size(1)} channels, expected {width} as the first table has")
    _check_keep(keep, index.num_edges)
    if num_heads < 1 or width % num_heads or not width:
        raise ValueError(f"{width} channels cannot be split into {num_heads} heads")
    index.check_unchanged()


@overload
def relational_attention(
    query: Tensor,
    value: Tensor,
    relation: Tensor,
    index: TripleIndex,
    num_heads: int = ...,
    keep: Tensor | None = ...,
    return_logits: Literal[False] = ...,
) -> Tensor: ...


@overload
def relational_attention(
    query: Tensor,
    value: Tensor,
    relation: Tensor,
    index: TripleIndex,
    num_heads: int = ...,
    keep: Tensor | None = ...,
    *,
    return_logits: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def relational_attention(
    query: Tensor,
    value: Tensor,
    relation: Tensor,
    index: TripleIndex,
    num_heads: int = 1,
    keep: Tensor | None = None,
    return_logits: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Relation-aware attention over the triples of each head, KGRec's layer.

    .. math::
        s_{hrt} = \mathbf{q}_h^\top(\mathbf{q}_t \odot \mathbf{r}) / \sqrt{d_k}, \quad
        \omega = \mathrm{softmax}_{(r,t) \in N_h} s, \quad
        \mathbf{e}_h' = \sum_{(r,t) \in N_h} \omega_{hrt}\, (\mathbf{e}_t \odot \mathbf{r})

    for each of the heads of attention, which share the channels. Project nodes first (``query = x @ W``).
    Differentiable in ``query``, ``value`` and ``relation``; the softmax is stable for any size of the logits.

    Args:
        query: [N, d]; projected rows, gathered at heads (query) and at tails (key).
        value: [N, d]; the rows that messages are made of.
        relation: [R, d].
        index: The triples; N is ``index.num_inputs``.
        num_heads: Heads of attention H; d is a multiple of it.
        keep: [E] bool in the index's order; triples that take part (default: all).
        return_logits: Also return the logits.

    Returns:
        [M, d] with M = ``index.num_rows``; a row without kept triples is zero. With ``return_logits`` also
        the logits [E, H] in the index's order, detached; 0 for triples that took no part. The weights ω are
        ``segment_softmax(logits.masked_fill(~keep[:, None], -inf), index.rows)``.

    Raises:
        TypeError: Wrong or different dtypes.
        ValueError: Wrong shapes or devices, or d no multiple of H.
        RuntimeError: The index was changed in place after it was built.
    """
    _check_triples(index, keep, num_heads, query=query, value=value, relation=relation)
    name = choose("relational_attention", query.device, index.num_edges * query.size(1)).backend
    if name in library.KERNELS:
        out, logits, _ = library.relational_attention(
            query, value, relation, index.tensors(), num_heads, keep, name
        )
    else:
        out, logits, _ = _composed(name).relational_attention(
            *_full(query, value, relation), index, num_heads, keep
        )
    return (out, logits.detach()) if return_logits else out


@torch.no_grad()
def rationale_scores(
    query: Tensor, relation: Tensor, index: TripleIndex, num_heads: int = 1, keep: Tensor | None = None
) -> Tensor:
    r"""Rationale score of triples, without gradient: :math:`\gamma = |N_h|\,\mathrm{softmax}_{N_h} \bar s`.

    :math:`\bar s` is the mean over heads of the logits of :func:`relational_attention`, :math:`N_h` the kept
    triples of the head; 1 is an average triple of its head.

    Args:
        query: [N, d]; projected rows, as in :func:`relational_attention`.
        relation: [R, d].
        index: The triples.
        num_heads: Heads of attention.
        keep: [E] bool in the index's order (default: all).

    Returns:
        [E] in the index's order; 0 for triples that take no part.

    Raises:
        TypeError: Wrong or different dtypes.
        ValueError: Wrong shapes or devices, or d no multiple of H.
        RuntimeError: The index was changed in place after it was built.
    """
    _check_triples(index, keep, num_heads, query=query, relation=relation)
    name = choose("rationale_scores", query.device, index.num_edges * query.size(1)).backend
    if name in library.KERNELS:
        return library.rationale_scores(query, relation, index.tensors(), num_heads, keep, name)
    result: Tensor = _composed(name).rationale_scores(*_full(query, relation), index, num_heads, keep)
    return result


def relational_mean(
    value: Tensor, relation: Tensor, index: TripleIndex, keep: Tensor | None = None
) -> Tensor:
    r"""Mean of :math:`\mathbf{e}_t \odot \mathbf{r}` over each head's kept triples: no attention.

    Args:
        value: [N, d].
        relation: [R, d].
        index: The triples.
        keep: [E] bool in the index's order (default: all).

    Returns:
        [M, d]; a row without kept triples is zero. Differentiable in ``value`` and ``relation``.

    Raises:
        TypeError: Wrong or different dtypes.
        ValueError: Wrong shapes or devices.
        RuntimeError: The index was changed in place after it was built.
    """
    _check_triples(index, keep, 1, value=value, relation=relation)
    name = choose("relational_mean", value.device, index.num_edges * value.size(1)).backend
    if name in library.KERNELS:
        count = index.degree(keep)
        return library.relational_mean(value, relation, index.tensors(), keep, count, name)
    result: Tensor = _composed(name).relational_mean(*_full(value, relation), index, keep)
    return result


def segment_softmax(src: Tensor, segments: Segments) -> Tensor:
    """Softmax over each segment; -inf takes no part, a segment without any part gives zeros.

    Args:
        src: [E] or [E, H], in the segments' order (for ``index.rows`` the index's order).
        segments: ``index.rows``, for example.

    Returns:
        Same shape; differentiable.

    Raises:
        TypeError: Not a floating dtype.
        ValueError: Wrong shape or devices.
    """
    check_same_device([("src", src), ("segments", segments.ptr)])
    check_floating(src=src)
    if src.dim() not in (1, 2) or src.size(0) != segments.edge.numel():
        raise ValueError(
            f"src has shape {tuple(src.shape)}, expected ({segments.edge.numel()},) or one more axis"
        )
    segments.check_unchanged()
    flat = src.unsqueeze(-1) if src.dim() == 1 else src
    name = choose("segment_softmax", src.device, src.numel()).backend
    if name in library.KERNELS:
        out = library.segment_softmax(flat, segments.tensors(), name)
    else:
        out = _composed(name).segment_softmax(*_full(flat), segments)
    return out.view(src.shape)


def weighted_aggregate(
    x: Tensor, index: BipartiteIndex, weight: Tensor | None = None, to_items: bool = False
) -> Tensor:
    r"""Weighted sum over interactions, :math:`\mathbf{e}_u' = \sum_{i \in N_u} w_{ui}\,\mathbf{e}_i`.

    Args:
        x: [num_items, d] (rows of the index's item table), or [num_users, d] with ``to_items``.
        index: The interactions.
        weight: [E] in the index's order, 0 for a dropped interaction (default: 1). Not differentiated.
        to_items: Sum users into items instead: :math:`\sum_{u \in N_i} w_{ui}\,\mathbf{e}_u`.

    Returns:
        [num_users, d], or [num_items, d] with ``to_items``. Differentiable in ``x``.

    Raises:
        TypeError: Wrong dtypes.
        ValueError: Wrong shapes or devices, or a weight that asks for a gradient.
        RuntimeError: The index was changed in place after it was built.
    """
    check_same_device([("x", x), ("index", index.user), ("weight", weight)])
    check_floating(x=x)
    _check_table(
        "x", x, index.num_users if to_items else index.num_items, "a user" if to_items else "an item"
    )
    if weight is not None:
        if not weight.is_floating_point():
            raise TypeError(f"weight is {weight.dtype}, expected a floating dtype")
        if weight.shape != (index.num_edges,):
            raise ValueError(f"weight has shape {tuple(weight.shape)}, expected ({index.num_edges},)")
        if weight.requires_grad:
            raise ValueError("weight requires a gradient, which this operation does not give: detach it")
    index.check_unchanged()
    name = choose("weighted_aggregate", x.device, index.num_edges * x.size(1)).backend
    if name not in library.KERNELS:
        result: Tensor = _composed(name).weighted_aggregate(*_full(x), weight, index, to_items)
        return result
    user, item = index.by_user.tensors(), index.by_item.tensors()
    if to_items:
        return library.weighted_aggregate(x, index.user, index.item, weight, item, user, name)
    return library.weighted_aggregate(x, index.item, index.user, weight, user, item, name)


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
    _check_table("user", user, user.size(0), "a user")
    _check_table("item", item, item.size(0), "an item")
    if user.size(1) != item.size(1) or sample.dim() != 2 or sample.size(0) != user.size(0):
        raise ValueError(
            f"user {tuple(user.shape)}, item {tuple(item.shape)} and sample {tuple(sample.shape)}: "
            "expected (B, d), (I, d) and (B, k)"
        )
    name = choose("sampled_scores", user.device, sample.numel() * user.size(1)).backend
    if name in library.KERNELS:
        result: Tensor = library.sampled_scores(user, item, sample, name)
        return result
    try:
        wide_user, wide_item = _full(user, item)
        return reference.sampled_scores(wide_user, wide_item, sample)
    except RuntimeError as error:  # on the CPU; a GPU asserts
        if "out of bounds" in str(error):
            raise IndexError(f"sample holds items outside 0 … {item.size(0) - 1}") from error
        raise


@torch.no_grad()
def search_rows(key: Tensor, ptr: Tensor, row: Tensor, query: Tensor) -> Tensor:
    """Where numbers go into ascending keys, of which each row of queries needs to look at one run only.

    The same as ``torch.searchsorted(key, query, right=True)`` for queries that belong into their run; a short run
    stays in the cache where a search in all keys does not.

    Args:
        key: [n] int64, ascending.
        ptr: [S + 1] int64; run ``s`` of the keys is ``ptr[s]:ptr[s + 1]``.
        row: [B] int64; the run of each row of queries.
        query: [B, k] int64; not below the last key before the run, below the first one after it.

    Returns:
        Positions, [B, k] int64.

    Raises:
        TypeError: Not int64.
        ValueError: Wrong shapes or devices.
        IndexError: A row outside the runs (``fused`` only).
    """
    given = {"key": key, "ptr": ptr, "row": row, "query": query}
    check_same_device(list(given.items()))
    for name, x in given.items():
        if x.dtype != torch.int64:
            raise TypeError(f"{name} is {x.dtype}, expected torch.int64")
    if (key.dim(), ptr.dim(), row.dim(), query.dim()) != (1, 1, 1, 2) or row.size(0) != query.size(0):
        shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in given.items())
        raise ValueError(f"{shapes}: expected (n,), (S + 1,), (B,) and (B, k)")
    if choose("search_rows", query.device, query.numel()).backend == "fused":
        from pyg_kgrec.ops import fused

        return fused.search_rows(key, ptr, row, query)
    return reference.search_rows(key, ptr, row, query)


def make_seed(generator: torch.Generator | None = None, device: torch.device | str = "cpu") -> Tensor:
    """Draw a seed, [] int64 on ``device``, for :func:`dropout_normalize` and :func:`stratified_keep`.

    Stays on the device: nothing waits for it. ``generator`` must belong to the device.
    """
    return torch.randint(1 << 62, (), generator=generator, device=device)


def _seed(seed: Tensor | int, device: torch.device) -> Tensor:
    if isinstance(seed, Tensor):
        if seed.dtype != torch.int64 or seed.numel() != 1:
            raise TypeError(f"seed is {seed.dtype} of shape {tuple(seed.shape)}, expected one int64 number")
        return seed.to(device)
    if not 0 <= seed < 1 << 63:
        raise ValueError(f"seed is {seed}, expected 0 … 2**63 - 1")
    return torch.tensor(seed, device=device)


def dropout_normalize(x: Tensor, p: float = 0.0, seed: Tensor | int = 0) -> Tensor:
    """Dropout (kept entries divided by 1 - p), then every row divided by its L2 norm (at least 1e-12).

    An entry's fate is a hash of (seed, row, column): no mask is stored, and every backend draws the same one.
    Pass ``p=0`` outside training, a fresh :func:`make_seed` each time in training.

    Args:
        x: [N, d].
        p: Probability of an entry to be dropped, in [0, 1).
        seed: int64 number.

    Returns:
        [N, d]; differentiable.

    Raises:
        TypeError: Wrong dtype of ``x`` or ``seed``.
        ValueError: ``x`` is no matrix, or ``p`` or ``seed`` out of range.
    """
    if x.dim() != 2:
        raise ValueError(f"x has shape {tuple(x.shape)}, expected (rows, channels)")
    if not 0 <= p < 1:
        raise ValueError(f"p is {p}, expected a probability in [0, 1)")
    check_floating(x=x)
    number = _seed(seed, x.device)
    name = choose("dropout_normalize", x.device, x.numel()).backend
    if name in library.KERNELS:
        return library.dropout_normalize(x, p, number, name)[0]
    return reference.dropout_normalize(_full(x)[0], p, number)


@torch.no_grad()
def stratified_keep(index: TripleIndex, share: float, seed: Tensor | int) -> Tensor:
    """Keep a random share of each relation's triples, exactly as many as its size says.

    Of n triples, n · share are kept, rounded up with the probability of the fraction (so that a relation with
    a single triple is sometimes there). Every subset of that size is equally likely. No loop over relations.

    Args:
        index: The triples.
        share: In [0, 1].
        seed: int64 number; the same seed gives the same triples in every backend.

    Returns:
        [E] bool in the index's order.

    Raises:
        TypeError: Wrong dtype of ``seed``.
        ValueError: ``share`` or ``seed`` out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}, expected 0 … 1")
    index.check_unchanged()
    device = index.tail.device
    number = _seed(seed, device)
    size = index.rels.ptr.long().diff().double() * share
    chance = reference.hash_rows(number ^ 0x5DEECE66D, size.numel()).double() / 2**32
    quota = (size.floor() + (chance < size - size.floor())).long()
    name = choose("stratified_keep", device, index.num_edges).backend
    if name == "fused":
        from pyg_kgrec.ops import fused

        return fused.stratified_keep(index.rels.tensors(), quota, number)
    return reference.stratified_keep(index.rels, quota, number)


def _check_scores(score: Tensor, k: int) -> None:
    if score.dim() != 1:
        raise ValueError(f"scores have shape {tuple(score.shape)}, expected one axis")
    if k < 0:
        raise ValueError(f"k is {k}, expected at least 0")
    check_floating(score=score)


@torch.no_grad()
def topk_mask(score: Tensor, k: int) -> Tensor:
    """Mark the ``k`` largest scores; of equal ones the first. -inf is never marked.

    Args:
        score: [E].
        k: How many; fewer are marked where fewer than ``k`` scores are above -inf.

    Returns:
        [E] bool.

    Raises:
        TypeError: Not a floating dtype.
        ValueError: More than one axis, or a negative ``k``.
    """
    _check_scores(score, k)
    if choose("topk_mask", score.device, score.numel()).backend == "fused":
        from pyg_kgrec.ops import fused

        return fused.topk_mask(score, k)
    return reference.topk_mask(score, k)


def gumbel_noise(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard Gumbel noise −log(−log ε) of the shape, dtype and device of ``like``; always finite."""
    # On a CPU uniform numbers and two vectorised logarithms take a third of the time of exponential_ (0.9 against
    # 2.7 ms for 92,000 numbers).
    wide = like.dtype if like.dtype == torch.float64 else torch.float32
    noise = torch.rand(like.shape, dtype=wide, device=like.device, generator=generator)
    return noise.clamp_(min=torch.finfo(wide).tiny).log_().neg_().log_().neg_().to(like.dtype)


@torch.no_grad()
def sample_mask(log_weight: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw ``k`` entries without replacement with probabilities softmax(log_weight) (Gumbel top-k).

    Zeros give a uniform draw; -inf is never drawn. No limit on the number of categories.

    Args:
        log_weight: [E].
        k: How many.
        generator: Of the same device.

    Returns:
        [E] bool.

    Raises:
        TypeError: Not a floating dtype.
        ValueError: More than one axis, or a negative ``k``.
    """
    _check_scores(log_weight, k)
    return topk_mask(log_weight + gumbel_noise(log_weight, generator), k)


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
        Items [B, k] int64 and their scores [B, k], best first; padded with -1 and -inf where fewer are left.

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
    if ptr is not None and items is not None:
        if ptr.dtype not in (torch.int32, torch.int64) or items.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"seen is {ptr.dtype} and {items.dtype}, expected int32 or int64")
        if ptr.shape != (user.size(0) + 1,):
            raise ValueError(f"seen ptr has shape {tuple(ptr.shape)}, expected ({user.size(0) + 1},)")
        if int(ptr[0]) < 0 or int(ptr[-1]) > items.numel() or bool((ptr.diff() < 0).any()):
            raise ValueError(f"seen ptr is no ascending pointer into {items.numel()} items")
        if items.numel() and (int(items.min()) < 0 or int(items.max()) >= item.size(0)):
            raise ValueError(f"seen holds items outside 0 … {item.size(0) - 1}")
    name = choose("rank_topk", user.device, user.size(0) * item.size(0)).backend
    if name == "fused" and k <= 128:
        from pyg_kgrec.ops import fused

        return fused.rank_topk(user, item, k, ptr, items, block)
    return reference.rank_topk(user, item, k, ptr, items, block)
