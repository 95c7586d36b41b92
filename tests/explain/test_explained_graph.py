from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch_geometric.data import HeteroData
from torch_geometric.explain import HeteroExplanation

from pyg_kgrec import KGRec
from pyg_kgrec.data import ENTITY, INTERACTS, IS, ITEM, RELATES, USER
from pyg_kgrec.explain import DeletionExplanation, ExplainedGraph, PathExplanation, SessionExplanation

pytestmark = pytest.mark.usefixtures("one_thread")

Splits = tuple[HeteroData, HeteroData, HeteroData]


def relation_and_ends(data: HeteroData, position: int) -> tuple[str, str, str]:
    head, tail = data[RELATES].edge_index[:, position].tolist()
    return f"E{head}", data.relation_name[int(data[RELATES].edge_type[position])], f"E{tail}"


def test_the_masks_hold_what_the_explanation_lists(splits: Splits) -> None:
    train, _, test = splits
    flipped = test[RELATES].edge_index.clone()  # an item's entity is the tail of some triples
    flipped[:, ::2] = flipped[:, ::2].flip(0)
    train[RELATES].edge_index = test[RELATES].edge_index = flipped
    model = KGRec(train, hidden_channels=8)
    gamma = model.rationale_score(test)
    for user, item in ((0, 1), (3, 10), (5, 11), (8, 12), (9, 0), (3, 13)):
        why = model.explain(test, torch.tensor(user), torch.tensor(item))
        graph = why.to_hetero()
        assert isinstance(graph, HeteroExplanation)
        assert graph.validate(raise_on_error=True)
        assert set(graph.node_types) == set(test.node_types)
        assert set(graph.edge_types) == {INTERACTS, IS, RELATES}
        for edge_type in graph.edge_types:
            assert torch.equal(graph[edge_type].edge_index, test[edge_type].edge_index)
        assert graph.edge_label_index.tolist() == [[user], [item]]
        assert graph.prediction.tolist() == pytest.approx([why.score])

        # Triples: every listed one, and every one of a path; at the weight that is its γ.
        mask = graph[RELATES].edge_mask
        positions = mask.nonzero().flatten()
        torch.testing.assert_close(mask[positions], gamma[positions].detach())
        shown = {relation_and_ends(test, int(p)) for p in positions}
        listed = set(zip(why.triples["head"], why.triples["relation"], why.triples["tail"]))
        assert listed <= shown
        if len(why.triples) < 100 and not len(why.paths):
            assert listed == shown

        # The history: what leaving each item out does to the score.
        own = why.units[(why.units["kind"] == "history") & (why.units["contribution"] != 0)]
        heaviest = dict(zip(own["name"], own["contribution"].abs()))
        found = {
            f"Item <{i}>": weight
            for (u, i), weight in zip(
                test[INTERACTS].edge_index.t().tolist(), graph[INTERACTS].edge_mask.tolist()
            )
            if weight
        }
        assert found == pytest.approx(heaviest)
        users = test[INTERACTS].edge_index[0, graph[INTERACTS].edge_mask > 0]
        assert set(users.tolist()) <= {user}

        # Links on the way, as heavy as the heaviest triple of their entity.
        known = {item, *(int(name.removeprefix("Item <").removesuffix(">")) for name in heaviest)}
        for (i, e), weight in zip(test[IS].edge_index.t().tolist(), graph[IS].edge_mask.tolist()):
            touching = [float(mask[p]) for p in positions if e in test[RELATES].edge_index[:, p].tolist()]
            assert weight == pytest.approx(max(touching, default=0.0) if i in known else 0.0)


@pytest.mark.parametrize("per_item", [10, 1])
def test_every_path_is_a_path_of_the_subgraph(splits: Splits, per_item: int) -> None:
    test = splits[2]
    gamma = torch.rand(test[RELATES].num_edges, generator=torch.Generator().manual_seed(0)) + 0.5
    why = PathExplanation.from_rationale(test, 3, 10, gamma, 1.0, per_item)
    assert why.triples["about"].value_counts().max() == min(per_item, 4)
    own = why.triples[why.triples["about"] == why.item]
    if per_item == 1:  # some paths go over triples that are not listed by themselves
        assert set(why.paths["entity"]) - set(own["head"]) - set(own["tail"])
    graph = why.to_hetero()
    part = graph.get_explanation_subgraph()
    assert part.validate(raise_on_error=True)
    assert part[USER].n_id.tolist() == [3]
    assert 10 in part[ITEM].n_id.tolist()
    assert part[RELATES].num_edges == int((graph[RELATES].edge_mask > 0).sum()) < graph[RELATES].num_edges
    # The numbering of the store is kept, and edges of the part join what they join in the store.
    for edge_type in part.edge_types:
        source, target = part[edge_type].edge_index
        ends = torch.stack([part[edge_type[0]].n_id[source], part[edge_type[2]].n_id[target]])
        assert torch.equal(ends, test[edge_type].edge_index[:, part[edge_type].e_id])
    assert torch.equal(part[RELATES].edge_type, test[RELATES].edge_type[part[RELATES].e_id])
    # From the user over a link of the history and one or two triples to a link of the item.
    history = {f"Item <{i}>" for i in part[ITEM].n_id[part[INTERACTS].edge_index[1]].tolist()}
    links = {
        (f"Item <{part[ITEM].n_id[i]}>", f"E{part[ENTITY].n_id[e]}")
        for i, e in part[IS].edge_index.t().tolist()
    }
    triples = {relation_and_ends(test, int(p)) for p in part[RELATES].e_id}
    near: dict[tuple[str, str], set[str]] = {}
    for head, relation, tail in triples:
        near.setdefault((head, relation), set()).add(tail)
        near.setdefault((tail, relation), set()).add(head)
    mine = {e for i, e in links if i == why.item}
    assert len(why.paths) > 0
    for row in why.paths.itertuples(index=False):
        assert row.history in history
        past = {e for i, e in links if i == row.history}
        reached = set().union(*(near.get((e, row.relation), set()) for e in past))
        if row.entity:
            assert row.entity in reached
            reached = near[row.entity, row.item_relation]
        assert reached & mine
    rest = graph.get_complement_subgraph()
    assert rest[RELATES].num_edges < graph[RELATES].num_edges


def test_the_store_is_left_as_it_was(splits: Splits) -> None:
    train, _, test = splits
    keys = {t: sorted(test[t].keys()) for t in (*test.node_types, *test.edge_types)}
    graph = KGRec(train, hidden_channels=8).explain(test, "u3", 110).to_hetero()
    graph.get_explanation_subgraph()
    assert keys == {t: sorted(test[t].keys()) for t in (*test.node_types, *test.edge_types)}
    top = graph.threshold("topk", 2)
    assert int((top[RELATES].edge_mask > 0).sum()) == 2
    assert top.validate(raise_on_error=True)


def test_a_store_that_changes_later_moves_no_edge(splits: Splits) -> None:
    train, _, test = splits
    why = KGRec(train, hidden_channels=8).explain(test, "u3", 110)
    before = why.to_hetero()
    for edge_type in (INTERACTS, IS, RELATES):
        test[edge_type].edge_index = test[edge_type].edge_index.flip(1)
    test[RELATES].edge_type = test[RELATES].edge_type.flip(0)
    test[ENTITY].num_nodes += 1
    after = why.to_hetero()
    for edge_type in (INTERACTS, IS, RELATES):
        assert torch.equal(before[edge_type].edge_index, after[edge_type].edge_index)
        assert torch.equal(before[edge_type].edge_mask, after[edge_type].edge_mask)
    assert after[ENTITY].num_nodes == test[ENTITY].num_nodes - 1


def test_features_go_along(make_splits: Callable[..., Splits]) -> None:
    _, _, test = make_splits(features=True)
    why = DeletionExplanation.from_units(test, 3, 4, 1.0, [], torch.ones(test[RELATES].num_edges), "one")
    graph = why.to_hetero()
    assert graph.validate(raise_on_error=True)
    part = graph.get_explanation_subgraph()
    for node_type in (USER, ITEM, ENTITY):
        assert torch.equal(part[node_type].x, test[node_type].x[part[node_type].n_id])
    assert part[INTERACTS].num_edges == 0
    assert (part[USER].n_id.tolist(), part[ITEM].n_id.tolist()) == ([3], [4])
    assert part[RELATES].num_edges == len(why.triples) > 0


def test_what_was_left_out_weighs_what_it_contributes(splits: Splits) -> None:
    test = splits[2]
    one, two = (int(e) for i, e in test[IS].edge_index.t().tolist() if i == 10)
    units = [("entity", one, -0.5), ("entity", two, 0.25), ("all", -1, 0.75)]
    weight = torch.full((test[RELATES].num_edges,), 2.0)
    graph = DeletionExplanation.from_units(test, 3, 10, 1.0, units, weight, "two").to_hetero()
    links = zip(test[IS].edge_index.t().tolist(), graph[IS].edge_mask.tolist())
    assert {tuple(pair): w for pair, w in links if w} == {(10, one): 0.5, (10, two): 0.25}
    assert graph[RELATES].edge_mask.unique().tolist() == [0.0, 2.0]
    assert graph[ENTITY].node_mask[[one, two]].flatten().tolist() == [1.0, 1.0]


def test_an_entity_that_two_items_share_is_left_out_of_one(splits: Splits) -> None:
    test = splits[2]
    shared = int(test[IS].edge_index[1].mode().values)
    assert {(11, shared), (12, shared)} <= set(map(tuple, test[IS].edge_index.t().tolist()))
    position = int((test[RELATES].edge_index[0] == shared).nonzero()[0])
    listed = ExplainedGraph(test, 3, 11, triples={position: 2.0}, history={12: 1.0}, entities={shared: 0.5})
    graph = listed.to_hetero()
    links = zip(test[IS].edge_index.t().tolist(), graph[IS].edge_mask.tolist())
    assert {tuple(pair): w for pair, w in links if w} == {(11, shared): 0.5, (12, shared): 2.0}


def test_a_session_is_the_history(splits: Splits) -> None:
    test = splits[2]
    session = test[INTERACTS].edge_index[1, test[INTERACTS].edge_index[0] == 3]
    contribution = torch.linspace(-1, 1, session.numel())
    contribution[0] = 0.0
    units = [("history", i, c) for i, c in zip(session.tolist(), contribution.tolist())]
    units.append(("history", int(session[1]), 5.0))  # an item that came twice
    no_triple = torch.zeros(test[RELATES].num_edges)
    graph = SessionExplanation.from_units(test, 3, 4, 1.0, units, no_triple, "none").to_hetero()
    mask = graph[INTERACTS].edge_mask
    mine = test[INTERACTS].edge_index[0] == 3
    expected = contribution.abs()
    expected[1] = 5.0
    torch.testing.assert_close(mask[mine], expected)
    assert not mask[~mine].any()
    part = graph.get_explanation_subgraph()
    assert set(part[ITEM].n_id.tolist()) == {4, *session[1:].tolist()}


def test_an_item_of_the_history_that_was_only_seen(splits: Splits) -> None:
    test = splits[2]
    store = test[INTERACTS]
    num_edges = store.edge_index.size(1)
    (late,) = store.seen_edge_index[1, store.seen_edge_index[0] == 3].tolist()
    early = int(store.edge_index[1, store.edge_index[0] == 3][0])
    store.seen_edge_index = torch.cat([store.seen_edge_index, torch.tensor([[3, 5], [early, late]])], dim=1)
    graph = ExplainedGraph(test, 3, 4, history={late: 0.5, early: 0.25}).to_hetero()
    assert graph.validate(raise_on_error=True)
    assert graph[INTERACTS].edge_index[:, :-1].equal(store.edge_index)
    assert graph[INTERACTS].edge_index[:, -1].tolist() == [3, late]
    place = (store.seen_edge_index == torch.tensor([[3], [late]])).all(0).nonzero().item()
    assert graph[INTERACTS].e_id[-1] == num_edges + place
    assert graph[INTERACTS].edge_mask.sum() == 0.75
    part = graph.get_explanation_subgraph()
    assert set(part[ITEM].n_id.tolist()) == {4, early, late}
    # Nothing is added where it is not listed.
    graph = ExplainedGraph(test, 3, 4, history={early: 0.25}).to_hetero()
    assert graph[INTERACTS].edge_index.equal(store.edge_index)


def test_a_store_without_knowledge(make_splits: Callable[..., Splits]) -> None:
    test = make_splits(knowledge=False)[2]
    graph = ExplainedGraph(test, user=3, item=4, history={1: 0.5}).to_hetero()
    assert set(graph.node_types) == {USER, ITEM}
    assert graph.validate(raise_on_error=True)
    part = graph.get_explanation_subgraph()
    assert part[USER].num_nodes == 1
    assert 4 in part[ITEM].n_id.tolist()


def test_the_items_own_triples_are_not_those_of_an_item_of_its_name(splits: Splits) -> None:
    test = splits[2]
    test[ITEM].name = ["Heat"] * test[ITEM].num_nodes
    gamma = torch.rand(test[RELATES].num_edges, generator=torch.Generator().manual_seed(0)) + 0.5
    why = PathExplanation.from_rationale(test, 3, 10, gamma, 1.0)
    mine = set(test[IS].edge_index[1, test[IS].edge_index[0] == 10].tolist())
    number = sum(bool(mine & set(pair)) for pair in test[RELATES].edge_index.t().tolist())
    assert len(why.triples) > number > 0
    assert len(why._own_triples()) == number
    lines = str(why).splitlines()
    assert len(lines) - 1 - lines.index(f"  Heat is best described by ({why.weight_name})") == number


def test_entities_that_are_one_item_are_told_apart_in_its_picture(splits: Splits) -> None:
    test = splits[2]
    del test[ENTITY].name  # they are called as the item
    free = next(e for e in range(test[ENTITY].num_nodes) if e not in test[IS].edge_index[1].tolist())
    test[IS].edge_index = torch.cat([test[IS].edge_index, torch.tensor([[4], [free]])], dim=1)
    own = test[IS].edge_index[1, test[IS].edge_index[0] == 4].tolist()
    none = torch.zeros(test[RELATES].num_edges)
    units = [("entity", e, 0.5 - i) for i, e in enumerate(own)]
    why = DeletionExplanation.from_units(test, 3, 4, 1.0, units, none, "none")
    assert why.units["name"].tolist() == ["Item <4>", "Item <4>"]
    told = why.graph.told_apart(why.paths, why.units)[1]
    assert told["name"].tolist() == [f"Item <4> (e{e})" for e in own]
    assert told["contribution"].tolist() == [0.5, -0.5]


def test_a_name_that_looks_like_another_with_its_id_is_told_apart(splits: Splits) -> None:
    test = splits[2]
    names = list(test[ITEM].name)
    names[9] = names[7] = "Heat"
    names[5] = f"Heat ({test[ITEM].id[7]})"
    test[ITEM].name = names
    graph = ExplainedGraph(test, 3, 4, history={9: 1.0, 7: 1.0, 5: 1.0})
    called = [graph._items[i] for i in (9, 7, 5)]
    assert called == ["Heat (109)", "Heat (107) (107)", "Heat (107) (105)"]


def test_an_entity_with_the_name_of_the_item_is_another_box(splits: Splits) -> None:
    test = splits[2]
    entity = int(test[IS].edge_index[1, test[IS].edge_index[0] == 4][0])
    free = next(e for e in range(test[ENTITY].num_nodes) if e not in test[IS].edge_index[1].tolist())
    test[ENTITY].name = ["Item <4>" if e == free else f"E{e}" for e in range(test[ENTITY].num_nodes)]
    both = torch.tensor([[entity, free], [free, entity]])
    test[RELATES].edge_index = torch.cat([test[RELATES].edge_index, both], dim=1)
    test[RELATES].edge_type = torch.cat([test[RELATES].edge_type, torch.tensor([2, 2])])
    last = test[RELATES].num_edges
    graph = ExplainedGraph(
        test, 3, 4, {last - 2: 1.0, last - 1: 1.0}, effects={last - 2: 0.5, last - 1: -0.25}
    )
    box = f"Item <4> (e{free})"
    assert graph.named()[1] == {
        ("Item <4>", "never used", box): 0.5,
        (box, "never used", "Item <4>"): -0.25,
    }


def test_a_picture_draws_no_box_beside_the_item_that_is_the_item(splits: Splits) -> None:
    test = splits[2]
    mine, past = (int(test[IS].edge_index[1, test[IS].edge_index[0] == item][0]) for item in (10, 4))
    free = next(e for e in range(test[ENTITY].num_nodes) if e not in test[IS].edge_index[1].tolist())
    test[IS].edge_index = torch.cat([test[IS].edge_index, torch.tensor([[10], [free]])], dim=1)
    # Between two entities of the item, loops of the item's and of the history's, and between the two items.
    ends = torch.tensor([[mine, mine, past, past], [free, mine, past, mine]])
    test[RELATES].edge_index, test[RELATES].edge_type = ends, torch.tensor([0, 1, 1, 2])
    test[INTERACTS].edge_index = torch.tensor([[3], [4]])
    why = PathExplanation.from_rationale(test, 3, 10, torch.ones(4), 1.0)
    assert len(why.paths) > 1  # the way between the two, and detours over what both are
    assert why.graph.own()[["head", "relation", "tail"]].to_numpy().tolist() == [
        ["Item <4>", test.relation_name[2], "Item <10>"]
    ]
    paths = why.graph.told_apart(why.paths, why.units)[0]
    assert paths[["history", "relation", "entity"]].to_numpy().tolist() == [
        ["Item <4>", test.relation_name[2], ""]
    ]
    boxes = [text.get_text() for text in why.plot().texts]
    assert boxes.count("Item <10>") == 1
