"""Who is a stranger, what is said of it, and that the documentation's tables are what models answer."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_kgrec import BPRMF, KSR, KTUP, MKR, KGRec, LightGCN, Popularity, Recommender, evaluate, fit
from pyg_kgrec.data import ENTITY, INTERACTS, IS, ITEM, RELATES, USER
from pyg_kgrec.testing import build_splits, warns_once, with_newcomers

pytestmark = pytest.mark.usefixtures("one_thread")

DOCS = Path(__file__).resolve().parents[2] / "docs" / "models"
SMALL = {"hidden_channels": 8}
PAGES: list[tuple[str, Callable[[HeteroData], Recommender]]] = [
    ("kgrec.md", lambda data: KGRec(data, **SMALL)),
    ("mkr.md", lambda data: MKR(data, **SMALL)),
    ("ktup.md", lambda data: KTUP(data, **SMALL)),
    ("ksr.md", lambda data: KSR(data, **SMALL)),
    ("baselines.md", lambda data: LightGCN(data, **SMALL)),
    ("baselines.md", lambda data: BPRMF(data, **SMALL)),
    ("baselines.md", Popularity),
]


@pytest.mark.parametrize(("page", "build"), PAGES)
def test_the_table_of_a_page_is_what_the_model_says(
    page: str, build: Callable[[HeteroData], Recommender]
) -> None:
    model = build(build_splits(features=True)[0])
    rows = [
        [cell.strip(" `") for cell in line.strip().strip("|").split("|")]
        for line in (DOCS / page).read_text(encoding="utf-8").splitlines()
        if re.match(r"\| *(new|user with|user without|item )", line) or line.startswith("| stranger")
    ]
    column = rows[0].index(type(model).__name__)
    assert {row[0]: row[column] for row in rows[1:]} == model.strangers()


@pytest.mark.parametrize("layers", [1, 2])
def test_lightgcn_hears_as_far_as_it_has_layers(layers: int) -> None:
    train, _, test = build_splits()
    model = LightGCN(train, hidden_channels=8, num_layers=layers)
    # n0 knows a new item alone, which user 3 knows too: two hops.
    data = with_newcomers(test, [(10, 14), (3, 14), (11, 15)])
    known = model.known(model.prepare(data))
    assert known.user.tolist() == [True] * 10 + [layers > 1, False]
    assert known.item.tolist() == [True] * 15 + [False]
    own = model.own_encoding(model.prepare(data))
    assert own.score_all(torch.arange(12)).any(dim=1).tolist() == known.user.tolist()


@pytest.mark.parametrize("settings", [{}, {"item_gate": True}, {"use_kg": False}, {"num_layers": 1}])
def test_kgrec_knows_what_its_embeddings_know(settings: dict) -> None:
    train, _, test = build_splits()
    model = KGRec(train, **SMALL, **settings)
    entity = int(test[IS].edge_index[1, 0])
    data = with_newcomers(test, [(10, 14), (11, 15), (3, 15)], [(14, entity)])
    inputs = model.prepare(data)
    known, own = model.known(inputs), model.own_encoding(inputs)
    assert own.item_embeddings.any(dim=1).tolist() == known.item.tolist()
    assert own.score_all(torch.arange(12)).any(dim=1).tolist() == known.user.tolist()


def test_a_user_is_taught_by_the_store_that_fit_is_given() -> None:
    train, val, test = build_splits()
    fewer = copy.copy(train)
    pairs = train[INTERACTS]
    for key, prefix in (("edge_index", ""), ("edge_label_index", "edge_label_")):
        mask = pairs[key][0] != 4
        fewer[INTERACTS][key] = pairs[key][:, mask]
        fewer[INTERACTS][prefix + "time"] = pairs[prefix + "time"][mask]
    model = BPRMF(fewer, **SMALL)
    with warns_once(None):  # whoever set the weights
        model.recommend(test, ["u4"], k=2)
    fit(model, fewer, max_epochs=1, progress=False)
    ready = model.prepare(test)
    with warns_once("'u4'"):
        model.recommend(ready, ["u4"], k=2)
    fit(model, train, val, max_epochs=1, progress=False, monitor="ndcg@3")
    for data in (ready, test):
        with warns_once(None):
            model.recommend(data, ["u4"], k=2)


def test_one_warning_for_a_whole_training() -> None:
    train, val, _ = build_splits()
    for data in (train, val):
        pairs = data[INTERACTS]
        for key, prefix in (("edge_index", ""), ("edge_label_index", "edge_label_")):
            if data is val and key == "edge_label_index":
                continue
            mask = pairs[key][0] != 4
            pairs[key], pairs[prefix + "time"] = pairs[key][:, mask], pairs[prefix + "time"][mask]
    model = BPRMF(train, **SMALL)
    with warns_once("1 user is a stranger"):
        fit(model, train, val, max_epochs=3, progress=False, monitor="ndcg@3")
    with warns_once("1 user is a stranger"):
        evaluate(model, val, k=3)


def test_click_through_warns_once_too() -> None:
    train, _, test = build_splits()
    model, data = BPRMF(train, **SMALL), with_newcomers(test)
    pairs = data[INTERACTS]
    pairs.edge_label_index = torch.tensor([[10, 11, 3, 4], [2, 4, 0, 1]])
    pairs.edge_label = torch.tensor([0, 1, 1, 0])
    del pairs.edge_label_time
    with warns_once("2 users are strangers"):
        assert 0 <= evaluate(model, data, task="ctr")["auc"] <= 1


def test_popularity_is_that_of_training_where_the_store_holds_less() -> None:
    train, _, test = build_splits()
    model = BPRMF(train, **SMALL)
    data = with_newcomers(test)
    pairs = data[INTERACTS]
    for key in ("edge_index", "seen_edge_index"):
        pairs[key] = pairs[key][:, :1]
    pairs.time, pairs.seen_time = pairs.time[:1], pairs.seen_time[:1]
    with warns_once("popularity"):
        items = model.recommend(data, ["n0"], k=14)[0][0]
    count = torch.bincount(train[INTERACTS].edge_index[1], minlength=14)
    assert items.tolist() == sorted(range(14), key=lambda i: (-int(count[i]), i))


def test_the_message_stays_short() -> None:
    train, _, test = build_splits()
    data = with_newcomers(test)
    data[USER].id = [*data[USER].id[:10], "x" * 10_000, "y" * 10_000]
    model = LightGCN(train, **SMALL)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.recommend(data, torch.tensor([10, 11]), k=2)
    assert len(str(caught[0].message)) <= 400
    data[ITEM].id = [*data[ITEM].id[:14], 10**300, 10**301]
    with pytest.raises(ValueError, match="knows nothing of the item 1000") as error:
        KGRec(train, **SMALL).explain(data, "u1", torch.tensor([15]))
    assert len(str(error.value)) <= 400


def test_two_new_items_of_mkr_are_told_apart_by_their_entities() -> None:
    train, _, test = build_splits()
    first, second = test[IS].edge_index[1, :2].tolist()
    data = with_newcomers(test, links=[(14, first), (15, second)])
    for unit in ("cross_compress", "dcn", "stitch"):
        for head in ("dot", "mlp"):
            score = MKR(train, **SMALL, unit=unit, head=head).score_all(data, torch.arange(10))
            assert not torch.isclose(score[:, 14], score[:, 15], rtol=1e-6, atol=1e-9).any(), (unit, head)


@pytest.mark.parametrize("head", ["dot", "mlp"])
def test_an_item_of_which_nothing_is_left_ties_with_those_that_were_never_known(head: str) -> None:
    train, _, test = build_splits()
    entity = int(test[IS].edge_index[1, 0])
    data, bare = with_newcomers(test, links=[(15, entity)]), with_newcomers(test, links=[])
    model = MKR(train, **SMALL, head=head)
    why = model.explain(data, torch.tensor(3), torch.tensor(15))
    assert len(why.units) == 1
    expected = model.score_all(bare, torch.tensor([3]))[0]
    torch.testing.assert_close(why.scores_without([0]), expected, rtol=0, atol=1e-6)
    assert expected[14] == expected[15]
    # The older of the two stands first, as it does on a store without the link.
    seen = set(model.prepare(data).seen.of(3).tolist())
    last = int(sum(i not in seen for i in range(data[ITEM].num_nodes)))
    assert why.rank + int(why.units["rank_change"][0]) == last


def test_links_to_entities_of_which_nothing_is_known_count_for_nothing() -> None:
    train, _, test = build_splits()
    number = test[ENTITY].num_nodes
    data = with_newcomers(test, links=[(14, number)])
    data[ENTITY].num_nodes, data[ENTITY].id = number + 1, [*test[ENTITY].id, "unheard of"]
    assert data[RELATES].edge_index.max() < number
    for model in (KGRec(train, **SMALL), MKR(train, **SMALL), KTUP(train, **SMALL)):
        assert not bool(model.known(model.prepare(data)).item[14]), model
