"""A knowledge graph with a known answer: which triples made users like items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import HeteroData, InMemoryDataset

from pyg_kgrec._checks import check_at_least, check_optional
from pyg_kgrec.data.labels import indexable
from pyg_kgrec.data.store import ENTITY, INTERACTS, IS, ITEM, RELATES, USER

Array = NDArray[Any]

_LINKED_SHARE: Final = 0.95  # of the items, those that have an entity
_TASTE: Final = 0.95  # of the interactions, those that come from a preferred attribute
_POPULARITY: Final = 0.3  # standard deviation of the log of the items' popularity
_RATIONALE_SHARE: Final = 4  # one relation in so many is a rationale relation
_POOL: Final = 1.7  # attributes a rationale relation, as a multiple of the root of the number of items
_SECOND: Final = 0.2  # chance of a second attribute under a rationale relation
_NOISE_TRIPLES: Final = (4, 8)  # fewest and most of an item
_STRAY: Final = 0.15  # of the noise tails, those under rationale relations
_HUBS: Final = 0.3  # exponent by which noise tails differ in popularity
_ACTIVITY: Final = 0.4  # standard deviation of the log of how much users interact
_YEARS: Final = 3 * 31_536_000
_START: Final = 1_577_836_800  # 1 January 2020


def _words(text: str) -> list[str]:
    return text.split()


_FIRST: Final = _words(
    "Ada Amir Anya Bela Bruno Carla Chen Dario Dina Edgar Elif Emeka Esther Farah Felix Greta Hana Hugo "
    "Ines Ivan Jamal Jonas Kaja Kofi Lena Lucia Mads Maya Milan Nadia Niko Noor Olga Omar Paula Pavel "
    "Quinn Rania Ravi Rosa Sami Sofia Tara Theo Uma Viktor Wanda Yusuf Zara Zeno"
)
_LAST: Final = _words(
    "Abara Almeida Andersen Banerjee Becker Castillo Costa Dahl Demir Dubois Eklund Farkas Fischer Garcia "
    "Haddad Hansen Ibarra Ito Jansen Kaya Keller Kim Kovacs Lang Lindqvist Marino Meyer Moreau Nakamura "
    "Novak Okafor Olsen Papadakis Park Petrov Quispe Rossi Saito Santos Sharma Silva Tanaka Torres Ueda "
    "Vargas Virtanen Weber Wu Yilmaz Zhang"
)
_ADJECTIVES: Final = _words(
    "Amber Ancient Bitter Blue Borrowed Broken Burning Crimson Distant Drowned Electric Empty Endless "
    "Faithful Fallen Forgotten Frozen Gentle Gilded Golden Hidden Hollow Honest Infinite Invisible Iron "
    "Last Little Lonely Lost Midnight Narrow Northern Paper Patient Quiet Red Restless Scarlet Second "
    "Secret Silent Silver Sleepless Stolen Tender Velvet Wandering Wild Winter"
)
_NOUNS: Final = _words(
    "Alphabet Apartment Archive Atlas Bridge Cathedral Circus Clockmaker Coast Compass Country Daughter "
    "Echo Empire Engine Fable Ferry Forest Fortune Garden Harbour Horizon House Island Journey Kingdom "
    "Lantern Letter Library Lighthouse Machine Map Mirror Mountain Night Ocean Orchard Passenger Promise "
    "River Season Shadow Signal Song Station Stranger Summer Tower Violin Voyage"
)
_PLACE_HEADS: Final = _words(
    "Alder Ash Bell Black Bright Clear Cold Copper Crow Deer East Elm Fair Falcon Fern Fox Glen Grand "
    "Green Grey Hazel High Kings Lake Long Maple Mill Moss New North Oak Old Otter Pine Port Raven Red "
    "Rock Rose Salt Silver South Stone Sun Swan Thorn West White Wind Wolf"
)
_PLACE_TAILS: Final = _words(
    "bay borough bridge brook burg bury by cliff combe cross dale den field ford gate grove ham haven "
    "head hill hurst land leigh marsh mere mill minster moor mouth ness pool port ridge shaw shore side "
    "stead stow thorpe ton town vale view wall ware water well wick wood worth"
)
_QUALITIES: Final = _words(
    "Baroque Bittersweet Bold Brooding Comic Contemplative Cosmic Dark Dreamlike Eerie Epic Feverish Folk "
    "Gothic Gritty Heroic Intimate Ironic Joyful Lyrical Melancholy Minimal Modern Mythic Naive Noir "
    "Nostalgic Offbeat Pastoral Playful Poetic Political Psychological Raw Romantic Rural Satirical "
    "Sentimental Slow Social Solemn Surreal Suspenseful Tragic Urban Visionary Warm Whimsical Wistful Wry"
)
_GENRES: Final = _words(
    "adventure allegory ballad biography chamber-piece chronicle comedy coming-of-age confession "
    "courtroom-drama crime-story detective-story diary documentary drama elegy essay fairy-tale "
    "family-saga fantasy farce ghost-story heist history horror love-story melodrama memoir monologue "
    "musical mystery odyssey parable parody portrait puzzle rebellion revenge road-trip romance satire "
    "science-fiction sea-story spy-story survival-story thriller tragedy travelogue war-story western"
)
_RELATIONS: Final = (
    ("directed by", "person"),
    ("has theme", "theme"),
    ("set in", "place"),
    ("written by", "person"),
    ("edited by", "person"),
    ("filmed in", "place"),
    ("music by", "person"),
    ("listed under", "theme"),
    ("premiered in", "place"),
    ("stars", "person"),
    ("produced by", "person"),
    ("financed in", "place"),
)
_WORDS: Final = {
    "person": (_FIRST, _LAST, " "),
    "title": (_ADJECTIVES, _NOUNS, " "),
    "place": (_PLACE_HEADS, _PLACE_TAILS, ""),
    "theme": (_QUALITIES, _GENRES, " "),
}


class SyntheticKG(InMemoryDataset):
    r"""A generated data set in which users like items *because of* some triples and not of others.

    One relation in four (at least one) is a rationale relation. Under each of them the entity of an item has an
    attribute, sometimes two, and every user prefers one. An interaction of user u comes with probability 0.95
    from one of the preferred attributes, chosen alike, and otherwise from the whole catalogue; within either,
    items differ in popularity :math:`p_i = e^{0.3 z_i}, z_i \sim \mathcal N(0, 1)`. With :math:`A_u` the preferred
    attributes of u and :math:`I_a` the items that have attribute a,

    .. math::
        P(i \mid u) = \frac{0.95}{|A_u|} \sum_{a \in A_u} [i \in I_a] \frac{p_i}{\sum_{j \in I_a} p_j}
            + 0.05 \, \frac{p_i}{\sum_j p_j},

    and what a user has already is drawn again. An item is liked the more, the more preferred attributes it has.

    All other triples are noise. The entity of an item has four to eight of them, whose tails are about as many
    and as often seen as the attributes, but were drawn without regard to users; some stand under rationale
    relations. The remaining entities are background, each the tail of one triple whose head is no item.
    ``data['entity', 'relates', 'entity'].is_rationale`` [T] marks the triples that drive liking: those that lead
    from an item to an attribute that somebody prefers. One item in twenty has no entity, and only its popularity
    speaks for it.

    Everything is made in memory, from ``seed`` alone; no file is read or written, and no global random state is
    read or changed. Interactions carry ``time`` (whole seconds) and are sorted by it; nodes and relations carry
    readable names.

    Args:
        num_users: The number of users.
        num_items: The number of items.
        num_entities: The number of entities, the items' own included (10 or more). If there are few, fewer
            items have one, so that a third of the entities are left for other things.
        num_relations: The number of relations (2 or more).
        num_interactions: The number of user-item pairs, all different, at least one per user; 28 per user on
            average (or a quarter of the items, if that is less) if :obj:`None`.
        seed: The seed that everything follows from.
        transform: Called on the store whenever it is accessed.

    Raises:
        TypeError: If a number or the seed is no whole number.
        ValueError: If a number is too small, the seed is negative, or if ``num_interactions`` is more than fits.

    Example:
        >>> data = SyntheticKG(num_users=100, seed=0)[0]
    """

    def __init__(
        self,
        num_users: int = 600,
        num_items: int = 800,
        num_entities: int = 2000,
        num_relations: int = 9,
        num_interactions: int | None = None,
        seed: int = 0,
        transform: Callable[[HeteroData], Any] | None = None,
    ) -> None:
        check_at_least(1, num_users=num_users)
        check_at_least(4, num_items=num_items)
        check_at_least(10, num_entities=num_entities)
        check_at_least(2, num_relations=num_relations)
        check_at_least(0, seed=seed)
        check_optional(1, num_interactions=num_interactions)
        # Whole numbers of Python's: a product of NumPy's small ones overflows.
        num_users, num_items = int(num_users), int(num_items)
        num_entities, num_relations = int(num_entities), int(num_relations)
        most = num_users * (num_items // 2)
        if num_interactions is None:
            num_interactions = num_users * min(28, max(1, num_items // 4))
        if not num_users <= num_interactions <= most:
            raise ValueError(
                f"num_interactions is {num_interactions}, expected {num_users} (one per user) "
                f"to {most} (half of the items per user)."
            )
        super().__init__(None, transform)
        rng = np.random.default_rng(seed)
        facts = _Facts(rng, num_items, num_entities, num_relations)
        prefers = _draw_preferences(rng, facts, num_users)
        user, item, popularity = _draw_interactions(rng, facts, prefers, num_interactions)
        data = HeteroData()
        _name_nodes(data, rng, facts, num_users)
        _add_interactions(data, rng, user, item)
        _add_knowledge(data, rng, facts, prefers)
        self.data, self.slices = self.collate([indexable(data)])
        self._taste = facts, prefers, popularity

    def likelihood(self) -> Tensor:
        r"""How likely each item is to be the next one drawn for each user: :math:`P(i \mid u)` above.

        Who knows this knows all that can be known of a user but the draw. No ranking of the items that a user does
        not have yet can be expected to find more than the one in this order, so that its metrics are what a
        model's are to be measured against.

        Returns:
            Probabilities, ``[num_users, num_items]`` float64, each row with sum 1.
        """
        facts, prefers, popularity = self._taste
        # [attributes, items]: what each attribute's items are drawn with.
        share = np.zeros((facts.num_attributes, facts.num_items))
        having = facts.linked[facts.owner]
        share[facts.attribute, having] = popularity[having]
        share /= share.sum(1, keepdims=True)
        probability = np.tile((1 - _TASTE) * popularity / popularity.sum(), (len(prefers), 1))
        for preferred in prefers.T:
            probability += _TASTE / prefers.shape[1] * share[preferred]
        return torch.from_numpy(probability)


class _Facts:
    """The triples, and the attributes that items owe to them.

    Here entities stand in blocks: the items' own, the attributes by relation, the tails of items' noise, the
    background. In the store they are shuffled (``order``), so that no index tells what an entity is for.
    """

    def __init__(
        self, rng: np.random.Generator, num_items: int, num_entities: int, num_relations: int
    ) -> None:
        self.num_items, self.num_entities, self.num_relations = num_items, num_entities, num_relations
        self.num_linked = min(round(_LINKED_SHARE * num_items), num_entities - num_entities // 3)
        num_others = num_entities - self.num_linked
        num_rationale = max(1, min(num_relations // _RATIONALE_SHARE, num_others // 4))
        self.pool = min(round(_POOL * num_items**0.5), num_others // (2 * num_rationale), self.num_linked)
        self.num_attributes = num_rationale * self.pool
        self.first_noise = self.num_linked + self.num_attributes
        # As few tails for noise as attributes: a tail of one item alone would be that item's fingerprint.
        self.num_noise = min(self.num_attributes, num_others - self.num_attributes)

        self.relations = np.sort(rng.permutation(num_relations)[:num_rationale])
        self.linked = np.sort(rng.permutation(num_items)[: self.num_linked])
        self.order = rng.permutation(num_entities)
        self.noise_relation = self._share_out(rng, num_entities - self.first_noise)
        self.attribute, self.owner = self._draw_attributes(rng)
        self.noise = self._draw_noise(rng)

    def _share_out(self, rng: np.random.Generator, num_tails: int) -> Array:
        """A relation for each tail of noise: people direct and places do not."""
        others = np.setdiff1d(np.arange(self.num_relations), self.relations)
        tail = np.arange(num_tails)
        stray = rng.random(num_tails) < _STRAY
        return np.where(stray, self.relations[tail % self.relations.size], others[tail % others.size])

    def _draw_attributes(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """Who has what: attributes, ascending, and the linked item (by position) that has each."""
        shape = (self.num_linked, self.relations.size)
        first = _evenly(rng, self.pool, shape)
        second = np.where(rng.random(shape) < _SECOND, rng.integers(self.pool, size=shape), first)
        attribute = np.stack([first, second]) + np.arange(shape[1]) * self.pool
        pair = np.unique(attribute * self.num_linked + np.arange(shape[0])[:, None])
        return pair // self.num_linked, pair % self.num_linked

    def _draw_noise(self, rng: np.random.Generator) -> Array:
        """Triples [3, n] that say nothing about users: those of items, and one to each background entity."""
        count = rng.integers(*_NOISE_TRIPLES, size=self.num_linked, endpoint=True)
        weight = rng.permutation(np.arange(1, self.num_noise + 1) ** -_HUBS)
        of_items = rng.choice(self.num_noise, size=count.sum(), p=weight / weight.sum())
        background = np.arange(self.num_noise, self.noise_relation.size)
        from_others = rng.integers(self.num_linked, self.first_noise + background)  # a head before its tail
        head = np.concatenate([np.repeat(np.arange(self.num_linked), count), from_others])
        tail = np.concatenate([of_items, background])
        pair = head * self.num_entities + tail  # a tail determines its relation
        kept = np.unique(pair, return_index=True)[1]
        return np.stack([head, self.noise_relation[tail], self.first_noise + tail])[:, kept]


def _draw_preferences(rng: np.random.Generator, facts: _Facts, num_users: int) -> Array:
    """The attribute that each user prefers under each rationale relation: [num_users, relations]."""
    drawn = _evenly(rng, facts.pool, (num_users, facts.relations.size))
    return np.asarray(drawn + np.arange(facts.relations.size) * facts.pool)


def _evenly(rng: np.random.Generator, size: int, shape: tuple[int, int]) -> Array:
    """Numbers below ``size``, each as often in a column as any other, to within one."""
    return rng.permuted(np.broadcast_to(np.arange(shape[0])[:, None] % size, shape), axis=0)


def _draw_interactions(
    rng: np.random.Generator, facts: _Facts, prefers: Array, num_interactions: int
) -> tuple[Array, Array, Array]:
    """Draws every user's items, what a user has already again; returns pairs and the items' popularity."""
    num_users, num_items = len(prefers), facts.num_items
    count = _draw_counts(rng, num_users, num_interactions, num_items // 2)
    popularity = rng.lognormal(sigma=_POPULARITY, size=num_items)
    having = facts.linked[facts.owner]  # the items with attribute 0, then those with attribute 1, ...
    bound = np.searchsorted(facts.attribute, np.arange(facts.num_attributes + 1))
    all_mass = np.cumsum(popularity)
    mass = np.concatenate([[0], np.cumsum(popularity[having])])

    drawn = np.empty(0, dtype=np.int64)
    missing = count
    while missing.any():
        user = np.repeat(np.arange(num_users), missing)
        wanted = prefers[user, rng.integers(prefers.shape[1], size=user.size)]
        low, high = mass[bound[wanted]], mass[bound[wanted + 1]]
        place = np.searchsorted(mass, low + rng.random(user.size) * (high - low), side="right") - 1
        by_taste = having[np.clip(place, bound[wanted], bound[wanted + 1] - 1)]
        by_popularity = np.searchsorted(all_mass, rng.random(user.size) * all_mass[-1], side="right")
        item = np.where(rng.random(user.size) < _TASTE, by_taste, by_popularity.clip(max=num_items - 1))
        drawn = np.sort(np.concatenate([drawn, user * num_items + item]))
        drawn = drawn[np.diff(drawn, prepend=-1) != 0]
        missing = count - np.bincount(drawn // num_items, minlength=num_users)
    return drawn // num_items, drawn % num_items, popularity


def _draw_counts(rng: np.random.Generator, num_users: int, num_interactions: int, most: int) -> Array:
    """How many interactions each user has: between 1 and ``most``, ``num_interactions`` in all."""
    weight = rng.lognormal(sigma=_ACTIVITY, size=num_users)
    count: Array = 1 + rng.multinomial(num_interactions - num_users, weight / weight.sum())
    while (excess := int((count - most).clip(min=0).sum())) > 0:
        count = count.clip(max=most)
        room = most - count
        count = count + rng.multinomial(excess, room / room.sum())
    return count


def _add_interactions(data: HeteroData, rng: np.random.Generator, user: Array, item: Array) -> None:
    time = rng.integers(_START, _START + _YEARS, size=user.size)
    order = np.argsort(time, kind="stable")
    data[INTERACTS].edge_index = torch.from_numpy(np.stack([user, item])[:, order])
    data[INTERACTS].time = torch.from_numpy(time[order])


def _add_knowledge(data: HeteroData, rng: np.random.Generator, facts: _Facts, prefers: Array) -> None:
    relation = facts.relations[facts.attribute // facts.pool]
    rationale = np.stack([facts.owner, relation, facts.num_linked + facts.attribute])
    triples = np.concatenate([rationale, facts.noise], axis=1)
    drives = np.zeros(triples.shape[1], dtype=bool)
    drives[: relation.size] = np.isin(facts.attribute, prefers)  # what nobody prefers drives nothing
    shuffle = rng.permutation(drives.size)
    triples, drives = triples[:, shuffle], drives[shuffle]

    data[IS].edge_index = torch.from_numpy(np.stack([facts.linked, facts.order[: facts.num_linked]]))
    data[RELATES].edge_index = torch.from_numpy(facts.order[triples[[0, 2]]])
    data[RELATES].edge_type = torch.from_numpy(triples[1])
    data[RELATES].is_rationale = torch.from_numpy(drives)
    known = len(_RELATIONS)
    data.relation_name = [_numbered(_RELATIONS[r % known][0], r // known) for r in range(facts.num_relations)]


def _name_nodes(data: HeteroData, rng: np.random.Generator, facts: _Facts, num_users: int) -> None:
    titles = _names(rng, "title", facts.num_items)
    kinds = np.array([_RELATIONS[r % len(_RELATIONS)][1] for r in range(facts.num_relations)])
    attribute_kind = kinds[np.concatenate([np.repeat(facts.relations, facts.pool), facts.noise_relation])]
    blocks = np.array([titles[i] for i in facts.linked] + [""] * attribute_kind.size, dtype=object)
    for kind in sorted(set(kinds)):
        places = facts.num_linked + np.flatnonzero(attribute_kind == kind)
        blocks[places] = _names(rng, kind, places.size)
    entities = np.empty(facts.num_entities, dtype=object)
    entities[facts.order] = blocks

    named = ((USER, _names(rng, "person", num_users)), (ITEM, titles), (ENTITY, entities.tolist()))
    for kind, names in named:
        width = len(str(len(names) - 1))
        data[kind].num_nodes = len(names)
        data[kind].id = [f"{kind[0]}{index:0{width}}" for index in range(len(names))]
        data[kind].name = names


def _names(rng: np.random.Generator, kind: str, count: int) -> list[str]:
    """``count`` different names; a number tells repeats apart."""
    heads, tails, between = _WORDS[kind]
    order = rng.permutation(len(heads) * len(tails))
    pairs = [f"{heads[i // len(tails)]}{between}{tails[i % len(tails)]}" for i in order[:count].tolist()]
    return [_numbered(pairs[i % len(pairs)], i // len(pairs)) for i in range(count)]


def _numbered(name: str, repeat: int) -> str:
    return f"{name} {repeat + 1}" if repeat else name
