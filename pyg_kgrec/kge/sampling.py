"""Corrupted triples: sampling that never takes a true triple for a false one."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_kgrec.data.sampling import NegativeSampler


class TripleSampler:
    """Corrupts triples: another head or another tail, and never a triple that is true.

    Draws are exact, as those of :class:`~pyg_kgrec.data.sampling.NegativeSampler` are: the tails of a head and a
    relation are the "items" that this "user" has had.

    Args:
        triple: Everything that is true: head, relation and tail, ``[3, T]`` int64.
        num_entities: Number of entities.
    """

    def __init__(self, triple: Tensor, num_entities: int) -> None:
        head, relation, tail = triple
        self.num_entities = num_entities
        self._tails = _Ends(relation * num_entities + head, tail, num_entities)
        self._heads = _Ends(relation * num_entities + tail, head, num_entities)

    def sample(
        self, head: Tensor, relation: Tensor, tail: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Replaces the head or the tail of each triple, either with probability one half.

        Where one of the two leaves no false triple the other is replaced.

        Args:
            head: ``[B]`` int64.
            relation: ``[B]`` int64.
            tail: ``[B]`` int64.
            generator: Source of randomness on the device of the triples.

        Returns:
            Heads and tails, ``[B]`` int64 each.

        Raises:
            ValueError: If neither the head nor the tail of a triple can be replaced.
        """
        other_tail, some_tail = self._tails.draw(relation * self.num_entities + head, generator)
        other_head, some_head = self._heads.draw(relation * self.num_entities + tail, generator)
        self._check(head, relation, tail, some_head | some_tail)
        coin = torch.rand(head.shape, dtype=torch.float32, device=head.device, generator=generator) < 0.5
        change_head = torch.where(some_tail, coin & some_head, True)
        return torch.where(change_head, other_head, head), torch.where(change_head, tail, other_tail)

    def check(self, triple: Tensor) -> None:
        """Asks before training what :meth:`sample` would say in the middle of an epoch; nothing is drawn.

        Args:
            triple: Triples that are to be sampled for, ``[3, n]`` int64.

        Raises:
            ValueError: If neither the head nor the tail of one can be replaced.
        """
        head, relation, tail = triple
        if not (self._tails.never_full or self._heads.never_full):
            some_tail = self._tails.group(relation * self.num_entities + head)[1]
            some_head = self._heads.group(relation * self.num_entities + tail)[1]
            self._check(head, relation, tail, some_head | some_tail)

    def _check(self, head: Tensor, relation: Tensor, tail: Tensor, some: Tensor) -> None:
        if not (self._tails.never_full or self._heads.never_full) and not bool(some.all()):
            at = int((~some).nonzero()[0])
            raise ValueError(
                f"triple ({int(head[at])}, {int(relation[at])}, {int(tail[at])}) is true whatever its head or "
                "tail is: there is no false one to sample"
            )


class _Ends:
    """The entities that complete each pair of a relation and an entity to a true triple."""

    def __init__(self, key: Tensor, end: Tensor, num_entities: int) -> None:
        known, group = key.unique(return_inverse=True)
        # One more group, without ends, for keys that no triple has.
        self._key = torch.cat([known, known.new_tensor([torch.iinfo(known.dtype).max])])
        self._sampler = NegativeSampler(torch.stack([group, end]), self._key.numel(), num_entities)
        self.never_full = not self._sampler._some_user_is_full

    def group(self, key: Tensor) -> tuple[Tensor, Tensor]:
        """The group of each key, ``[B]`` int64, and whether an entity is left that is not in it, ``[B]`` bool."""
        nowhere = self._key.numel() - 1
        index = torch.searchsorted(self._key, key)
        group = torch.where(self._key[index] == key, index, nowhere)
        return group, self._sampler.has_negatives(group)

    def draw(self, key: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """An entity for each key, ``[B]`` int64, and whether there was one to be drawn, ``[B]`` bool."""
        group, free = self.group(key)
        nowhere = self._key.numel() - 1
        return self._sampler.sample(torch.where(free, group, nowhere), 1, generator).squeeze(1), free
