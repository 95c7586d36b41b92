from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec.data import IS, ITEM, RELATES
from pyg_kgrec.explain import SessionExplanation, nearest_to_slots

pytestmark = pytest.mark.usefixtures("one_thread")

Splits = tuple[HeteroData, HeteroData, HeteroData]

SESSION = torch.tensor([10, 3, 11, 12])


def triples(data: HeteroData) -> Tensor:
    store = data[RELATES]
    return torch.stack([store.edge_index[0], store.edge_type, store.edge_index[1]])


def memory(data: HeteroData) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
    rng = torch.Generator().manual_seed(0)
    slots, key, entity = (torch.randn(n, 4, generator=rng) for n in (3, 3, 20))
    item, linked = data[IS].edge_index
    mine = torch.isin(item, SESSION)
    return slots, key, entity, (item[mine], linked[mine])


def explained(data: HeteroData, held: pd.DataFrame | None = None) -> SessionExplanation:
    slots, key, entity, linked = memory(data)
    if held is None:
        held = nearest_to_slots(slots, key, entity, triples(data), linked)
    attention = torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4], [0.25, 0.5, 0.25]])
    return SessionExplanation.from_memory(
        data,
        3,
        4,
        1.0,
        SESSION,
        torch.tensor([0.5, -0.25, 0.0, 1.0]),
        data.relation_name,
        attention,
        torch.tensor([0.1, 0.2, 0.3]),
        held,
        triples(data),
    )


@pytest.mark.parametrize("nearest", [1, 3])
def test_the_nearest_entities_by_brute_force(splits: Splits, nearest: int) -> None:
    test = splits[2]
    # The last relation gets triples that touch no item, and so tells all its tails.
    free = [e for e in range(20) if e not in test[IS].edge_index[1].tolist()]
    more = torch.tensor([free[:2], free[1:3]])
    edge_index = test[RELATES].edge_index.clone()
    edge_index[:, ::2] = edge_index[:, ::2].flip(0)  # an item's entity is the tail of some triples
    test[RELATES].edge_index = torch.cat([edge_index, more], dim=1)
    test[RELATES].edge_type = torch.cat([test[RELATES].edge_type, torch.tensor([2, 2])])
    slots, key, entity, linked = memory(test)
    found = nearest_to_slots(slots, key, entity, triples(test), linked, nearest)
    for relation in range(3):
        near: dict[int, tuple[float, set[int]]] = {}
        for item, mine in zip(linked[0].tolist(), linked[1].tolist()):
            for head, r, tail in triples(test).t().tolist():
                for own, other, slot in (
                    (head, tail, slots[relation]),
                    (tail, head, slots[relation] - 2 * key[relation]),
                ):
                    if r == relation and own == mine:
                        cosine = torch.cosine_similarity(slot, entity[other], dim=0).item()
                        before, items = near.get(other, (-2.0, set()))
                        near[other] = max(before, cosine), items | {item}
        if not near:
            tails = {t for _, r, t in triples(test).t().tolist() if r == relation}
            near = {
                t: (torch.cosine_similarity(slots[relation], entity[t], dim=0).item(), set()) for t in tails
            }
            assert relation == 2
        expected = sorted(near.items(), key=lambda pair: -pair[1][0])[:nearest]
        rows = found[found["relation"] == relation]
        assert rows["entity"].tolist() == [e for e, _ in expected]
        assert rows["similarity"].tolist() == pytest.approx([cosine for _, (cosine, _) in expected], abs=1e-6)
        assert rows["items"].tolist() == [len(items) for _, (_, items) in expected]


def test_attention_and_memory_by_name(splits: Splits) -> None:
    test = splits[2]
    why = explained(test)
    assert why.attention.index.tolist() == [f"Item <{i}>" for i in SESSION.tolist()]
    assert why.attention.columns.tolist() == test.relation_name
    np.testing.assert_allclose(why.attention.iloc[-1], [0.25, 0.5, 0.25])
    # By attention, then in the order of relations; one without anything near keeps a row.
    assert why.memory["relation"].drop_duplicates().tolist() == ["made by", "has genre", "never used"]
    last = why.memory.iloc[-1]
    assert (last["relation"], last["entity"], last["items"]) == ("never used", "", 0)
    assert pd.isna(last["similarity"])
    assert set(why.units["kind"]) == {"history", "memory"}
    assert why.units["contribution"].tolist() == pytest.approx([1.0, 0.5, 0.3, 0.2, 0.1, 0.0, -0.25])
    # A triple weighs what its relation is attended to in the end.
    by_relation = dict(zip(why.triples["relation"], why.triples["weight"]))
    assert by_relation == {"has genre": 0.25, "made by": 0.5}


def test_the_session_is_told(splits: Splits) -> None:
    why = explained(splits[2])
    rows = why.memory[why.memory["relation"] == "made by"]
    near = ", ".join(
        f"{r.entity} ({r.items} of 4, similarity {r.similarity:.2f})" for r in rows.itertuples(index=False)
    )
    line = str(why).splitlines()[1]
    assert line == f"  because your last items were held together by made by (attention 0.50): {near}"
    page = why._repr_html_()
    captions = ["What the memory held", "Left out", "Triples (", "Attention to relations, latest step first"]
    assert [page.index(caption) for caption in captions] == sorted(map(page.index, captions))
    assert line.strip() in page
    steps = page[page.index(captions[-1]) :]
    order = [f"Item &lt;{i}&gt;" for i in SESSION.flip(0).tolist()]
    assert [steps.index(step) for step in order] == sorted(steps.index(step) for step in order)


def test_a_memory_that_holds_nothing_is_not_told(splits: Splits) -> None:
    nothing = pd.DataFrame(columns=["relation", "entity", "similarity", "items"])
    why = explained(splits[2], nothing)
    assert len(why.memory) == 0
    assert len(why.attention) == 4
    assert "held together" not in str(why)
    assert "What the memory held" not in why._repr_html_()


def test_relations_that_join_nothing_say_so(splits: Splits) -> None:
    held = pd.DataFrame({"relation": [1, 0], "entity": [2, 3], "similarity": [0.5, 0.4], "items": [0, 1]})
    text = str(explained(splits[2], held))
    assert (
        "by made by (attention 0.50), though it joins none of them to anything: E2 (similarity 0.50)" in text
    )


def test_a_model_without_a_memory(splits: Splits, axes: Any) -> None:
    test = splits[2]
    none = torch.zeros(4, 0)
    held = pd.DataFrame(columns=["relation", "entity", "similarity", "items"])
    args = (SESSION, torch.tensor([0.5, -0.25, 0.0, 1.0]), [], none, none[0], held, triples(test))
    why = SessionExplanation.from_memory(test, 3, 4, 1.0, *args)
    assert len(why.attention) == len(why.memory) == len(why.triples) == 0
    assert set(why.units["kind"]) == {"history"}
    assert "without history Item <12> the score would be 0.000   [+1.000]" in str(why)
    assert [bar.get_width() for bar in why.plot().patches] == [-0.25, 0.5, 1.0]
    assert "Attention to relations" not in why._repr_html_()


def test_the_heat_map(splits: Splits, axes: Any) -> None:
    why = explained(splits[2])
    ax = why.plot()
    # Relations by their greatest attention: 0.7, 0.5, 0.3.
    assert [t.get_text() for t in ax.get_xticklabels()] == ["never used", "made by", "has genre"]
    assert [t.get_text() for t in ax.get_yticklabels()] == why.attention.index.tolist()
    np.testing.assert_allclose(ax.images[0].get_array()[-1], [0.25, 0.5, 0.25])


def test_items_of_one_name_keep_their_own_figures_in_the_heat_map(splits: Splits, axes: Any) -> None:
    test = splits[2]
    test[ITEM].name = ["Heat" if i in (3, 10) else name for i, name in enumerate(test[ITEM].name)]
    ax = explained(test).plot(kind="attention")
    assert [label.get_text() for label in ax.get_yticklabels()][:2] == ["Heat", "Heat"]
    beside = {round(text.xy[1]): text.get_text() for text in ax.texts if text.xy[0] > 0 and text.xy[1] >= 0}
    assert beside == {0: "+0.5", 1: "-0.25", 3: "+1"}
    # What is framed is the one that decides, not its namesake.
    test[ITEM].name = ["Heat" if i in (3, 12) else name for i, name in enumerate(test[ITEM].name)]
    ax = explained(test).plot(kind="attention")
    bold = [place for place, label in enumerate(ax.get_yticklabels()) if label.get_fontweight() == "bold"]
    assert bold == [3]
    assert "framed: item Heat (+1)" in ax.get_title()
