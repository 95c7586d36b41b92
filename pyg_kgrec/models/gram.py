"""Gram matrices over items: of who had them, and of the facts that they share."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_kgrec.data.interactions import PairIndex
from pyg_kgrec.models.inputs import Inputs

_PAIRS = 2**22  # pairs of entries held at a time
_ROWS = 2**25  # entries of a dense block


def gram(columns: PairIndex, num_rows: int, weight: Tensor | None = None) -> Tensor:
    r""":math:`\mathbf{A} \operatorname{diag}(\mathbf{w}) \mathbf{A}^\top` of a matrix of zeros and ones.

    Short columns add their pairs of entries one by one, long ones are multiplied densely: a column with n entries
    takes n² additions at random places, or num_rows² multiplications that a processor does many at a time.

    Args:
        columns: The rows of each column's ones.
        num_rows: Number of rows.
        weight: Of each column, ``[num_columns]`` float; 1 if None.

    Returns:
        ``[num_rows, num_rows]`` float64.
    """
    device = columns.item.device
    out = torch.zeros(num_rows, num_rows, dtype=torch.float64, device=device)
    size = columns.start.diff()
    short = size <= num_rows // 16
    _add_pairs(out, columns, (short & (size > 0)).nonzero().flatten(), weight)
    dtype = torch.float32 if weight is None else torch.float64  # counts below 2^24 are exact in either
    for some in (~short).nonzero().flatten().split(max(1, _ROWS // max(num_rows, 1))):
        place, row = columns.select(some)
        block = torch.zeros(some.numel(), num_rows, dtype=dtype, device=device)
        block[place, row] = 1
        weighted = block if weight is None else block * weight[some].to(dtype).unsqueeze(1)
        with torch.autocast(device.type, enabled=False):  # which counts no further than to 256
            out += weighted.t() @ block
    return out


def ridge_weights(matrix: Tensor) -> Tensor:
    r"""What each item adds to each other one: :math:`B_{ij} = -P_{ij} / P_{jj}`, :math:`\mathbf{P}` the inverse.

    Args:
        matrix: A Gram matrix with its λ on the diagonal, ``[n, n]`` float64, positive definite; it is overwritten,
            so that beside it and the result's place there is one matrix at most.

    Returns:
        ``[n, n]`` float64, 0 on the diagonal.
    """
    factor = torch.linalg.cholesky(matrix)
    # The transpose has the order of columns that LAPACK writes in, and the inverse is as symmetric as the matrix.
    inverse = torch.cholesky_inverse(factor, out=matrix.mT)
    return inverse.div_(-inverse.diagonal().clone()).fill_diagonal_(0)


def _add_pairs(out: Tensor, columns: PairIndex, chosen: Tensor, weight: Tensor | None) -> None:
    """Adds what some columns give, pair by pair."""
    if not chosen.numel():
        return
    num_rows, flat = out.size(0), out.view(-1)
    size = columns.start.diff()[chosen]
    # As many columns at a time as have so many pairs.
    part = (size * size).cumsum(0).div(_PAIRS, rounding_mode="floor")
    for some in torch.split(chosen, torch.unique_consecutive(part, return_counts=True)[1].tolist()):
        place, row = columns.select(some)
        number = columns.start.diff()[some]
        first = number.cumsum(0) - number
        repeats = number[place]
        entry = torch.repeat_interleave(torch.arange(row.numel(), device=row.device), repeats)
        offset = torch.arange(entry.numel(), device=row.device) - (repeats.cumsum(0) - repeats)[entry]
        other = row[first[place[entry]] + offset]
        value = (
            torch.ones_like(other, dtype=out.dtype)
            if weight is None
            else weight[some].to(out.dtype)[place[entry]]
        )
        flat.index_add_(0, row[entry] * num_rows + other, value)


def shared_facts(inputs: Inputs) -> PairIndex:
    """The items of each fact that at least two items share.

    A fact is an entity that items are linked to, or relation, direction and other entity of a triple of theirs.

    Args:
        inputs: The store.

    Returns:
        One column per fact, and the items that have it.
    """
    item, entity = inputs.link
    head, relation, tail = inputs.triple
    num_entities = inputs.num_entities
    links = PairIndex.from_pairs(torch.stack([entity, item]), num_entities)
    num_relations = int(relation.max()) + 1 if relation.numel() else 0
    keys, items = [entity], [item]
    for own, other, direction in ((head, tail, 0), (tail, head, 1)):
        place, found = links.select(own)
        kind = 1 + direction * num_relations + relation[place]
        keys.append(kind * num_entities + other[place])
        items.append(found)
    key, number = torch.cat(keys).unique(return_inverse=True)
    columns = PairIndex.from_pairs(torch.stack([number, torch.cat(items)]), key.numel())
    shared = (columns.start.diff() > 1).nonzero().flatten()
    return PairIndex.from_pairs(torch.stack(columns.select(shared)), shared.numel())
