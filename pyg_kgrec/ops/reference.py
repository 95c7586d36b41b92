"""Backend ``reference``: plain PyTorch, one line a step, differentiated by autograd.

It forms [E, d] intermediates; every other backend is tested against it. It runs on any device and traces under
``torch.compile``. Rows are taken by ``index_select``, whose gradient sums in a fixed order on the CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding, normalize, pad
from torch.utils.checkpoint import checkpoint

from pyg_kgrec.ops.index import BipartiteIndex, Segments, TripleIndex


def _gather(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a table; -1 is a zero vector."""
    if table.size(0) == 0:
        return table.new_zeros(index.numel(), table.size(1))
    rows = table.index_select(0, index.clamp(min=0))
    return torch.where((index >= 0).view(-1, 1), rows, 0)


def _segment_of(seg: Segments) -> Tensor:
    length = seg.ptr.long().diff()
    ids = torch.arange(seg.num_segments, device=length.device)
    return ids.repeat_interleave(length, output_size=seg.edge.numel())


def softmax_by(src: Tensor, row: Tensor, num_rows: int) -> Tensor:
    """Softmax of ``src`` [E, H] over equal ``row``; -inf takes no part, an empty row gives zeros."""
    index = row.view(-1, 1).expand_as(src)
    top = src.detach().new_full((num_rows, src.size(1)), -torch.inf)
    top = top.scatter_reduce(0, index, src.detach(), "amax")
    top = top.masked_fill(top == -torch.inf, 0)
    weight = (src - top.index_select(0, row)).exp()
    total = weight.new_zeros(num_rows, src.size(1)).index_add(0, row, weight)
    return weight / total.masked_fill(total == 0, 1).index_select(0, row)


def _accumulate(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def relational_attention(
    query: Tensor, value: Tensor, relation: Tensor, index: TripleIndex, num_heads: int, keep: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`pyg_kgrec.ops.relational_attention`; also returns the weights [E, H]."""
    q, v = _accumulate(query), _accumulate(value)
    r = _accumulate(relation).index_select(0, index.edge_type)
    row, width = index.row.long(), query.size(1) // num_heads
    key = _gather(q, index.tail) * r
    logits = (q.index_select(0, index.head_row.index_select(0, row)) * key).view(-1, num_heads, width).sum(
        -1
    ) / width**0.5
    taking_part = logits if keep is None else logits.masked_fill(~keep.view(-1, 1), -torch.inf)
    weight = softmax_by(taking_part, row, index.num_rows)
    message = (_gather(v, index.tail) * r).view(-1, num_heads, width) * weight.unsqueeze(-1)
    out = message.new_zeros(index.num_rows, query.size(1)).index_add(0, row, message.flatten(1))
    if keep is not None:
        logits = logits.masked_fill(~keep.view(-1, 1), 0)
    return out.to(value.dtype), logits, weight


def rationale_scores(
    query: Tensor, relation: Tensor, index: TripleIndex, num_heads: int, keep: Tensor | None
) -> Tensor:
    """See :func:`pyg_kgrec.ops.rationale_scores`."""
    q, row = _accumulate(query), index.row.long()
    r = _accumulate(relation).index_select(0, index.edge_type)
    scale = num_heads * (query.size(1) // num_heads) ** 0.5
    head = q.index_select(0, index.head_row.index_select(0, row))
    logits = (head * _gather(q, index.tail) * r).sum(-1, keepdim=True) / scale
    if keep is not None:
        logits = logits.masked_fill(~keep.view(-1, 1), -torch.inf)
    return softmax_by(logits, row, index.num_rows).view(-1) * index.degree(keep)[row].to(logits.dtype)


def relational_mean(value: Tensor, relation: Tensor, index: TripleIndex, keep: Tensor | None) -> Tensor:
    """See :func:`pyg_kgrec.ops.relational_mean`."""
    r = _accumulate(relation).index_select(0, index.edge_type)
    message = _gather(_accumulate(value), index.tail) * r
    if keep is not None:
        message = message * keep.view(-1, 1)
    out = message.new_zeros(index.num_rows, value.size(1)).index_add(0, index.row.long(), message)
    return (out / index.degree(keep).clamp(min=1).view(-1, 1).to(out.dtype)).to(value.dtype)


def segment_softmax(src: Tensor, seg: Segments) -> Tensor:
    """See :func:`pyg_kgrec.ops.segment_softmax`."""
    return softmax_by(_accumulate(src), _segment_of(seg), seg.num_segments).to(src.dtype)


def weighted_aggregate(x: Tensor, weight: Tensor | None, index: BipartiteIndex, to_items: bool) -> Tensor:
    """See :func:`pyg_kgrec.ops.weighted_aggregate`."""
    source, target = (index.user, index.item) if to_items else (index.item, index.user)
    size = index.num_items if to_items else index.num_users
    message = _gather(_accumulate(x), source)
    if weight is not None:
        message = message * weight.view(-1, 1).to(message.dtype)
    if to_items:
        message = message * (target >= 0).view(-1, 1)
    if size == 0:
        return x.new_zeros(0, x.size(1))
    out = message.new_zeros(size, x.size(1)).index_add(0, target.clamp(min=0).long(), message)
    return out.to(x.dtype)


def sampled_scores(user: Tensor, item: Tensor, sample: Tensor) -> Tensor:
    """See :func:`pyg_kgrec.ops.sampled_scores`."""
    if item.size(0) <= 64 * sample.size(1):
        # A matrix product with the whole catalogue costs less than gathering [B, k, d] and scattering it back.
        return (user @ item.t()).gather(1, sample)
    return torch.bmm(embedding(sample, item), user.unsqueeze(2)).squeeze(2)


def _mix(x: Tensor) -> Tensor:
    """A 32-bit finaliser (shifts and odd multipliers) in 64-bit arithmetic: low 32 bits as in uint32."""
    mask = 0xFFFFFFFF
    x = (x ^ (x >> 16)) * 0x7FEB352D & mask
    x = (x ^ (x >> 15)) * 0x846CA68B & mask
    return x ^ (x >> 16)


def hash_rows(seed: Tensor, count: int) -> Tensor:
    """One 32-bit number a row [count] int64 from ``seed`` [] int64."""
    mask = 0xFFFFFFFF
    row = torch.arange(count, device=seed.device)
    low = _mix(((row & mask) + (seed & mask)) & mask)
    return _mix(((low ^ (row >> 32)) + ((seed >> 32) & mask)) & mask)


def hash_grid(seed: Tensor, rows: int, columns: int) -> Tensor:
    """One 32-bit number a cell [rows, columns] int64 from ``seed`` [] int64."""
    column = torch.arange(columns, device=seed.device) * 0x9E3779B9
    return _mix((hash_rows(seed, rows).view(-1, 1) + column) & 0xFFFFFFFF)


def dropout_normalize(x: Tensor, p: float, seed: Tensor) -> Tensor:
    """See :func:`pyg_kgrec.ops.dropout_normalize`."""
    z = _accumulate(x)
    if p > 0:
        z = z * (hash_grid(seed, *x.shape) >= int(p * 2**32)) / (1 - p)
    return normalize(z, dim=-1, eps=1e-12).to(x.dtype)


def stratified_keep(rels: Segments, quota: Tensor, seed: Tensor) -> Tensor:
    """See :func:`pyg_kgrec.ops.stratified_keep`: the ``quota`` [R] smallest (hash, edge) of each relation."""
    edge = rels.edge.long()
    segment = _segment_of(rels)
    key = hash_rows(seed, edge.numel())[edge]
    order = torch.argsort(key, stable=True)
    order = order[torch.argsort(segment[order], stable=True)]
    rank = torch.arange(edge.numel(), device=edge.device) - rels.ptr.long()[segment]
    keep = torch.empty(edge.numel(), dtype=torch.bool, device=edge.device)
    keep[edge[order]] = rank < quota[segment]
    return keep


def topk_mask(score: Tensor, k: int) -> Tensor:
    """See :func:`pyg_kgrec.ops.topk_mask`."""
    top = torch.sort(score, descending=True, stable=True).indices[:k]
    return torch.zeros_like(score, dtype=torch.bool).index_fill(0, top, True) & (score > -torch.inf)


def search_rows(key: Tensor, ptr: Tensor, row: Tensor, query: Tensor) -> Tensor:
    """See :func:`pyg_kgrec.ops.search_rows`: what the row spares is left to the search in all keys."""
    return torch.searchsorted(key, query, right=True)


def rank_topk(
    user: Tensor, item: Tensor, k: int, ptr: Tensor | None, seen: Tensor | None, block: int
) -> tuple[Tensor, Tensor]:
    """See :func:`pyg_kgrec.ops.rank_topk`."""
    best = []
    for start in range(0, max(user.size(0), 1), block):
        score = user[start : start + block] @ item.t()
        if ptr is not None and seen is not None:
            span = ptr[start : start + score.size(0) + 1].long()
            row = torch.arange(score.size(0), device=score.device).repeat_interleave(span.diff())
            score[row, seen[int(span[0]) : int(span[-1])].long()] = -torch.inf
        value, index = score.topk(min(k, item.size(0)), dim=1)
        value = pad(value, (0, k - value.size(1)), value=-torch.inf)
        index = pad(index, (0, k - index.size(1)), value=-1)
        best.append((index.masked_fill(value == -torch.inf, -1), value))
    return torch.cat([i for i, _ in best]), torch.cat([v for _, v in best])


_BLOCK = 2**22  # floats of a block of pairs: 16 MiB
_DENSE = 4  # a pair within a matrix product costs about a fifth of one that is gathered


def translate(source: Tensor, translation: Tensor, normal: Tensor, target: Tensor, norm: str) -> Tensor:
    """See :func:`pyg_kgrec.ops.translate`."""
    between = source - target
    step = between + translation - (between * normal).sum(-1, keepdim=True) * normal
    return -(step.abs() if norm == "l1" else step.pow(2)).sum(-1)


def _factors(
    source: Tensor, target: Tensor, translation: Tensor, normal: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Left and right factors of -‖h₀‖², s, w·h₀ and ‖w‖² in soft mode: each is ``left @ right.t()``.

    All but the first are sums over relations; where there are more relations than channels, over channels.
    """
    pi = [x @ translation.t() for x in (source, target)]
    a, b = source + pi[0] @ translation, target - pi[1] @ translation  # h₀ = a - b
    if normal.size(0) <= normal.size(1):
        (c_x, c_y), gram = pi, normal @ normal.t()
        n_x, n_y, n_a, n_b = (v @ normal.t() for v in (source, target, a, b))
    else:
        c_x, c_y = (p @ normal for p in pi)
        gram, (n_x, n_y, n_a, n_b) = None, (source, target, a, b)
    g_x, g_y = (c if gram is None else c @ gram for c in (c_x, c_y))
    one_x, one_y = (torch.ones_like(v[:, :1]) for v in (source, target))

    def dot(x: Tensor, y: Tensor) -> Tensor:
        return (x * y).sum(-1, keepdim=True)

    return [
        (torch.cat([2 * a, -dot(a, a), one_x], 1), torch.cat([b, one_y, -dot(b, b)], 1)),
        (torch.cat([n_x, -c_x, dot(n_x, c_x), one_x], 1), torch.cat([c_y, n_y, one_y, -dot(n_y, c_y)], 1)),
        (torch.cat([n_a, -c_x, dot(n_a, c_x), one_x], 1), torch.cat([c_y, n_b, one_y, -dot(n_b, c_y)], 1)),
        (torch.cat([2 * g_x, dot(g_x, c_x), one_x], 1), torch.cat([c_y, one_y, dot(g_y, c_y)], 1)),
    ]


def _combine(minus_h: Tensor, s: Tensor, g: Tensor, q: Tensor) -> Tensor:
    """Scores -(h - 2 s g + s² q)."""
    return minus_h.addcmul(s, g.addcmul(s, q, value=-0.5), value=2)


def hyperplane_scores(
    source: Tensor, target: Tensor, translation: Tensor, normal: Tensor, relation: str | Tensor, norm: str
) -> Tensor:
    """See :func:`pyg_kgrec.ops.hyperplane_scores`: blocks of sources."""
    tables = translation, normal
    width = target.size(0)
    if norm == "l2" and relation == "soft":
        factors = _factors(source, target, *tables)

        def block(part: slice) -> Tensor:
            return _combine(*(left[part] @ right.t() for left, right in factors))

    elif norm == "l2":
        pi_x, pi_y = (x @ translation.t() for x in (source, target))
        nu_x, nu_y = (x @ normal.t() for x in (source, target))
        squared = [x.pow(2).sum(-1) for x in (source, target, translation, normal)]
        along = 2 * (translation * normal).sum(-1)
        width *= 1 if isinstance(relation, Tensor) else translation.size(0)

        def block(part: slice) -> Tensor:
            x_r = pi_x[part], nu_x[part]
            if isinstance(relation, Tensor):
                r = relation[part].unsqueeze(1)
                y_r = [y.t()[relation[part]] for y in (pi_y, nu_y)]
            else:
                r = (x_r[0].unsqueeze(1) + pi_y).argmax(-1)
                y_r = [y.gather(1, r.t()).t() for y in (pi_y, nu_y)]
            s = x_r[1].gather(1, r) - y_r[1]
            h = squared[0][part].unsqueeze(1) + squared[1] - 2 * source[part] @ target.t()
            h = h + 2 * (x_r[0].gather(1, r) - y_r[0]) + squared[2][r]
            return -(h + s * (s * (squared[3][r] - 2) - along[r]))

    else:
        width *= target.size(1)

        def block(part: slice) -> Tensor:
            return _pairs(source[part], target.unsqueeze(0), *tables, _part(relation, part), norm)

    rows = max(1, _BLOCK // max(width, 1))
    if source.size(0) <= rows:
        return block(slice(None))
    starts = range(0, source.size(0), rows)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (source, target, *tables)):
        return torch.cat([block(slice(i, i + rows)) for i in starts])
    out = source.new_empty(source.size(0), target.size(0))
    for i in starts:
        out[i : i + rows] = block(slice(i, i + rows))
    return out


def _part(relation: str | Tensor, part: slice) -> str | Tensor:
    return relation[part] if isinstance(relation, Tensor) else relation


def _pairs(
    source: Tensor, target: Tensor, translation: Tensor, normal: Tensor, relation: str | Tensor, norm: str,
    noise: Tensor | None = None, temperature: float = 1.0,
) -> Tensor:  # fmt: skip
    """Scores of sources [B, d] with targets [B, k, d] or [1, k, d] by the definition."""
    x = source.unsqueeze(1)
    if isinstance(relation, Tensor):
        weight = None
        p, w = (table[relation].unsqueeze(1) for table in (translation, normal))
    else:
        pi = (source @ translation.t()).unsqueeze(1) + target @ translation.t()
        weight = pi if relation == "soft" else choose_relation(pi, noise, temperature)
        p, w = weight @ translation, weight @ normal
    return translate(x, p, w, target, norm)


def choose_relation(pi: Tensor, noise: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """One-hot arg max of π; with noise that of π + noise, with the gradient of its softmax (straight-through)."""
    logits = pi if noise is None else pi + noise
    hard = torch.zeros_like(pi).scatter_(-1, logits.argmax(-1, keepdim=True), 1)
    if noise is None:
        return hard
    soft = (logits / temperature).softmax(-1)
    return hard - soft.detach() + soft


def sampled_hyperplane_scores(
    source: Tensor, target: Tensor, translation: Tensor, normal: Tensor, relation: str, norm: str,
    sample: Tensor, row: Tensor | None, noise: Tensor | None, temperature: float,
) -> Tensor:  # fmt: skip
    """See :func:`pyg_kgrec.ops.hyperplane_scores` with ``sample``."""
    from pyg_kgrec.ops.functional import sampled_scores as products

    tables = translation, normal
    if norm == "l2" and relation == "soft":
        if source.size(0) * target.size(0) <= _DENSE * sample.numel():
            every = hyperplane_scores(source, target, *tables, relation, norm)
            start = torch.arange(sample.size(0), device=sample.device) if row is None else row
            place = (start * target.size(0)).unsqueeze(1) + sample
            return every.flatten().index_select(0, place.flatten()).view(sample.shape)
        lefts, rights = zip(*_factors(source, target, *tables))
        own = [left if row is None else left.index_select(0, row) for left in lefts]
        return _combine(*(products(left, right, sample) for left, right in zip(own, rights)))

    x = source if row is None else source.index_select(0, row)
    rows = max(1, _BLOCK // max(sample.size(1) * (source.size(1) if norm == "l1" else normal.size(0)), 1))

    def block(x: Tensor, chosen: Tensor, gumbel: Tensor | None, y: Tensor, p: Tensor, w: Tensor) -> Tensor:
        if norm == "l2":
            return _hard_squared(x, y, p, w, chosen, gumbel, temperature)
        return _pairs(x, embedding(chosen, y), p, w, relation, norm, gumbel, temperature)

    if sample.size(0) <= rows:
        return block(x, sample, noise, target, *tables)
    # Blocks are computed again in the backward pass: their [rows, k, d] tensors live one at a time.
    noises = [None] * sample.size(0) if noise is None else noise.split(rows)
    parts = zip(x.split(rows), sample.split(rows), noises)
    return torch.cat([checkpoint(block, *part, target, *tables, use_reentrant=False) for part in parts])


def _hard_squared(
    x: Tensor, y: Tensor, p: Tensor, w: Tensor, sample: Tensor, noise: Tensor | None, temperature: float
) -> Tensor:
    """Scores for L2 with one relation a pair, from [B, k, R] tensors instead of [B, k, d].

    A polynomial in the choice, so that the straight-through gradient is that of the definition.
    """
    from pyg_kgrec.ops.functional import sampled_scores as products

    squared_x, squared_y = (v.pow(2).sum(-1, keepdim=True) for v in (x, y))
    one_x, one_y = torch.ones_like(squared_x), torch.ones_like(squared_y)
    left, right = torch.cat([x, squared_x, one_x], 1), torch.cat([-2 * y, one_y, squared_y], 1)
    pi_x, nu_x = (x @ p.t()).unsqueeze(1), (x @ w.t()).unsqueeze(1)
    of_y = embedding(sample, torch.cat([y @ p.t(), y @ w.t()], 1))
    pi_y, nu_y = of_y.chunk(2, dim=-1)
    choice = choose_relation(pi_x + pi_y, noise, temperature)
    forms = torch.cat([p @ p.t(), p @ w.t(), w @ w.t()], 1)
    p_p, w_p, w_w = ((choice * part).sum(-1) for part in (choice @ forms).chunk(3, dim=-1))
    s = (choice * (nu_x - nu_y)).sum(-1)
    h = products(left, right, sample) + 2 * (choice * (pi_x - pi_y)).sum(-1) + p_p
    return -(h + s * (s * (w_w - 2) - 2 * w_p))


def empty_memory(entity: Tensor, relation: Tensor, attention: Tensor) -> Tensor:
    """Zeros [B, R, K] as empty sums over all three, whose gradients are then zeros where there is no step."""
    return attention[:, :0].sum(1).unsqueeze(-1) + entity[:, :0].sum(1, keepdim=True) + relation[:0].sum(0)


def relational_memory(
    entity: Tensor, relation: Tensor, attention: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See :func:`pyg_kgrec.ops.relational_memory`."""
    memory = empty_memory(entity, relation, attention)
    reads, writes = [], None if mask is None else mask.to(entity.dtype)
    for t, (e, weight) in enumerate(zip(entity.unbind(1), attention.unbind(1))):
        new = e.unsqueeze(1) + relation
        gate = (memory * new).sum(-1).sigmoid()
        gate = gate if writes is None else gate * writes[:, t, None]
        memory = torch.lerp(memory, new, gate.unsqueeze(-1))
        reads.append((weight.unsqueeze(1) @ memory).squeeze(1))
    return torch.stack(reads, 1) if reads else entity, memory
