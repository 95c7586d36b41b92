"""KSR: what sets it apart from other models."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData
from torch_geometric.nn.kge import TransE

from pyg_kgrec import KSR, evaluate, fit, pretrain_transe
from pyg_kgrec.data import ENTITY, INTERACTS, IS, ITEM, RELATES, USER
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.kge import embedding, training
from pyg_kgrec.models import newcomers
from pyg_kgrec.models.base import predicting
from pyg_kgrec.testing import permuted
from pyg_kgrec.transforms import LeaveOneOut

matplotlib.use("Agg")
pytestmark = pytest.mark.usefixtures("one_thread")

SplitBuilder = Callable[..., tuple[HeteroData, HeteroData, HeteroData]]


@pytest.fixture
def splits(make_splits: SplitBuilder) -> tuple[HeteroData, HeteroData, HeteroData]:
    return make_splits()


def embeddings(data: HeteroData, channels: int = 6) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(5)
    entity, relation = (
        torch.randn(n, channels, generator=rng) for n in (data[ENTITY].num_nodes, len(data.relation_name))
    )
    return entity, relation


def build(data: HeteroData, seed: int = 0, **settings: Any) -> KSR:
    seed_everything(seed)
    if settings.get("use_kg", True) and ENTITY in data.node_types:
        settings.setdefault("kg_embedding", embeddings(data))
    return KSR(data, **({"embedding_channels": 8, "hidden_channels": 7} | settings))


# ---------------------------------------------------------------------- the equations, by loops


def by_hand(model: KSR, data: HeteroData, session: list[int]) -> Tensor:
    """Scores of the catalogue after a session, step by step in the words of the paper."""
    weights = {name: t.detach() for name, t in model.state_dict().items()}
    entity, relation = weights["entity_start"], weights["relation_key"]
    q = weights["encoders.item.weight"]
    links: dict[int, list[int]] = {}
    for item, e in data[IS].edge_index.t().tolist():
        links.setdefault(item, []).append(e)
    known = {i: entity[mine].mean(0) for i, mine in links.items()}
    h = torch.zeros(model.hidden_channels)
    memory = torch.zeros(relation.size(0), relation.size(1))
    gates = weights["gru.weight_ih_l0"].chunk(3), weights["gru.weight_hh_l0"].chunk(3)
    for item in session:
        (r_in, z_in, n_in), (r_h, z_h, n_h) = gates
        reset, update = (r_in @ q[item] + r_h @ h).sigmoid(), (z_in @ q[item] + z_h @ h).sigmoid()
        new = (n_in @ q[item] + reset * (n_h @ h)).tanh()
        h = (1 - update) * new + update * h
        if item in known:
            for a in range(relation.size(0)):
                written = known[item] + relation[a]
                gate = (memory[a] @ written).sigmoid()
                memory[a] = (1 - gate) * memory[a] + gate * written
    query = weights["query.weight"] @ h + weights["query.bias"]
    read = (model.gamma * relation @ query).softmax(0) @ memory
    p = weights["session_layer.weight"] @ torch.cat([h, read]) + weights["session_layer.bias"]
    nothing = torch.zeros(relation.size(1))
    e = torch.stack([known.get(i, nothing) for i in range(q.size(0))])
    return (torch.cat([q, e], dim=1) @ weights["item_layer.weight"].t() + weights["item_layer.bias"]) @ p


def sessions_of(data: HeteroData) -> list[list[int]]:
    """Items of each user in the order of time, what was seen besides included."""
    store, out = data[INTERACTS], []
    pairs = torch.cat([store.edge_index, store.get("seen_edge_index", store.edge_index[:, :0])], dim=1)
    time = torch.cat([store.time, store.get("seen_time", store.time[:0])])
    for user in range(data[USER].num_nodes):
        mine = pairs[0] == user
        out.append(pairs[1, mine][time[mine].argsort(stable=True)].tolist())
    return out


def test_scores_by_loops(splits: Any) -> None:
    train, _, test = splits
    train[INTERACTS].time = train[INTERACTS].time.flip(0)
    model = build(train, gamma=3.0)
    for data in (train, test):
        score = model.score_all(data, torch.arange(10))
        for user, session in enumerate(sessions_of(data)):
            assert 4 <= len(session) <= 5
            torch.testing.assert_close(score[user], by_hand(model, data, session), rtol=1e-5, atol=1e-5)


def test_a_session_is_the_latest_items(splits: Any) -> None:
    model = build(splits[0], max_length=2)
    score = model.score_all(splits[2], torch.arange(10))
    for user, session in enumerate(sessions_of(splits[2])):
        torch.testing.assert_close(score[user], by_hand(model, splits[2], session[-2:]), rtol=1e-5, atol=1e-5)


def test_an_item_without_an_entity_writes_nothing(splits: Any) -> None:
    model, data = build(splits[0]), splits[0]
    linked = set(data[IS].edge_index[0].tolist())
    alone = next(i for i in range(data[ITEM].num_nodes) if i not in linked)
    session = torch.tensor([[alone, alone], [0, alone], [0, -1]])
    with predicting():
        items = model.encode(model.prepare(data)).items
        read = model.read(items, session.clamp(min=0), session >= 0)
    assert not read.memory[0].any()
    assert read.memory[1].any()
    assert torch.equal(read.memory[1], read.memory[2])  # neither does padding


def test_a_user_without_items_has_the_biases(splits: Any) -> None:
    model, data = build(splits[0]), copy.copy(splits[0])
    with torch.no_grad():
        model.session_layer.bias.uniform_(-1, 1)
    kept = data[INTERACTS].edge_index[0] != 6
    data[INTERACTS].edge_index, data[INTERACTS].time = (
        data[INTERACTS].edge_index[:, kept],
        data[INTERACTS].time[kept],
    )
    data[INTERACTS].pop("edge_label_index"), data[INTERACTS].pop("edge_label_time", None)
    torch.testing.assert_close(
        model.own_encoding(model.prepare(data)).score_all(torch.tensor([6]))[0],
        by_hand(model, data, []),
        rtol=1e-5,
        atol=1e-5,
    )


def test_sessions_are_read_in_groups(splits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, users = build(splits[0]), torch.tensor([4, 0, 9, 9, 2, 1, 7])
    expected = model.score_all(splits[2], users)
    monkeypatch.setattr("pyg_kgrec.models.ksr._SESSIONS", 3)
    torch.testing.assert_close(model.score_all(splits[2], users), expected)


# ---------------------------------------------------------------------- what is learned


def test_a_batch_of_windows_is_all_their_next_items(splits: Any) -> None:
    train = splits[0]
    model = build(train, dropout=0.0)
    inputs = model.prepare(train)
    batch = model.training_examples(inputs)
    found = model.training_losses(inputs, batch, torch.Generator())["ranking"]
    sessions = sessions_of(train)
    expected = [
        torch.nn.functional.cross_entropy(by_hand(model, train, session[:t]), torch.tensor(session[t]))
        for session in sessions
        for t in range(1, len(session))
    ]
    assert len(expected) == 30
    torch.testing.assert_close(found.detach(), torch.stack(expected).mean(), rtol=1e-5, atol=1e-5)


def test_an_item_is_predicted_from_what_came_before(splits: Any) -> None:
    train = splits[0]
    model, session = build(train, dropout=0.0), sessions_of(train)[3]
    inputs, user, so_far = model.prepare(train), torch.tensor([3]), []
    for t in range(1, len(session)):
        window = torch.tensor([[*session[: t + 1], -1]])
        loss = model.training_losses(inputs, (window, user), torch.Generator())["ranking"]
        score, target = by_hand(model, train, session[:t]), torch.tensor(session[t])
        so_far.append(torch.nn.functional.cross_entropy(score, target))
        torch.testing.assert_close(loss.detach(), torch.stack(so_far).mean(), rtol=1e-5, atol=1e-5)


def test_what_validation_holds_is_not_learned(splits: Any) -> None:
    _, _, test = splits
    model = build(splits[0])
    learned = [model.training_examples(model.prepare(data)) for data in (test, splits[0])]
    assert [t.tolist() for t in learned[0]] == [t.tolist() for t in learned[1]]


def test_bpr_compares_with_what_the_user_never_had(splits: Any) -> None:
    train = splits[0]
    model = build(train, loss="bpr", num_negatives=5, dropout=0.0)
    inputs = model.prepare(train)
    window, user = model.training_examples(inputs)
    found = model.training_losses(inputs, (window, user), torch.Generator().manual_seed(3))["ranking"]
    sessions = sessions_of(train)
    learned = [
        (u, sessions[u][:t], sessions[u][t]) for u in user.tolist() for t in range(1, len(sessions[u]))
    ]
    owners = torch.tensor([u for u, _, _ in learned])
    negative = inputs.negatives().sample(owners, 5, torch.Generator().manual_seed(3))
    terms = []
    for (u, before, item), others in zip(learned, negative.tolist()):
        assert not set(others) & set(sessions[u])
        score = by_hand(model, train, before)
        terms.append(-torch.nn.functional.logsigmoid(score[item] - score[others]).mean())
    torch.testing.assert_close(found.detach(), torch.stack(terms).mean(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loss", ["ce", "bpr"])
def test_gradients_of_a_step_in_double_precision(splits: Any, loss: str) -> None:
    train = splits[0]
    model = build(train, loss=loss, freeze_kg=False, embedding_channels=3, hidden_channels=2).double().train()
    inputs = model.prepare(train)
    examples = model.training_examples(inputs)
    parameters = list(model.parameters())

    def losses(*values: Tensor) -> Tensor:
        return model.training_losses(inputs, examples, torch.Generator().manual_seed(0))["ranking"]

    assert torch.autograd.gradcheck(losses, parameters, fast_mode=True, rtol=1e-4)


def test_dropout_draws_in_training_only(splits: Any) -> None:
    train = splits[0]
    model = build(train, dropout=0.5)
    inputs = model.prepare(train)
    examples = model.training_examples(inputs)

    def loss(seed: int) -> float:
        return model.training_losses(inputs, examples, torch.Generator().manual_seed(seed))["ranking"].item()

    model.train()
    assert loss(0) == loss(0) != loss(1)
    model.eval()
    assert loss(0) == loss(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_number_that_is_drawn_depends_on_the_default_dtype(
    splits: Any,
    quick_transe: Callable[..., TransE],
    double_by_default: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
) -> None:
    train = splits[0]
    model = KSR(train, 4, 4, kg_channels=4, dropout=0.5).to(dtype)
    other = copy.deepcopy(model)
    found = []
    for one in (model, other):
        monkeypatch.setattr(embedding, "_last", {})
        inputs = one.prepare(train)
        one.pretrain(inputs, progress=False)
        one.train()
        examples = one.training_examples(inputs)
        found.append(one.training_losses(inputs, examples, torch.Generator().manual_seed(0))["ranking"])
        double_by_default()
    assert torch.equal(model.entity_start, other.entity_start)
    assert torch.equal(*found)
    assert torch.get_default_dtype() == torch.float64


def test_knowledge_is_frozen_or_learned_on(splits: Any) -> None:
    train = splits[0]
    for freeze in (True, False):
        model = build(train, freeze_kg=freeze)
        before = {name: t.clone() for name, t in model.state_dict().items()}
        fit(model, train, max_epochs=1, progress=False)
        after = model.state_dict()
        assert torch.equal(after["relation_key"], before["relation_key"])
        assert torch.equal(after["entity_start"], before["entity_start"])
        assert ("entity" in after) != freeze
        if not freeze:
            assert not torch.equal(after["entity"], before["entity"])
            model.reset_parameters()
            assert torch.equal(model.state_dict()["entity"], before["entity_start"])


@pytest.fixture
def quick_transe(monkeypatch: pytest.MonkeyPatch) -> Callable[..., TransE]:
    """Two epochs of TransE, where a model trains one itself too."""
    quick = partial(pretrain_transe, max_epochs=2)
    monkeypatch.setattr(training, "pretrain_transe", quick)
    return partial(quick, progress=False)


def test_fit_trains_a_transe_where_no_embeddings_are_given(
    splits: Any, tmp_path: Path, quick_transe: Callable[..., TransE]
) -> None:
    train, val, test = splits
    model = KSR(train, 8, 7, kg_channels=5)
    assert not model.pretrained
    fit(model, train, val, max_epochs=1, progress=False)
    assert model.pretrained
    expected = quick_transe(train, 5)
    entity, relation = expected.node_emb.weight.detach(), expected.rel_emb.weight.detach()
    torch.testing.assert_close(model.entity_start, torch.nn.functional.normalize(entity))
    assert torch.equal(model.relation_key, relation)
    model.save(tmp_path / "model.pt")
    loaded = KSR.load(tmp_path / "model.pt", test)
    assert loaded.pretrained
    assert loaded.kg_channels == 5
    assert torch.equal(loaded.score_all(test, torch.arange(3)), model.score_all(test, torch.arange(3)))
    other = KSR(train, 8, 7, kg_embedding=TransE(train[ENTITY].num_nodes, 3, 4))
    assert other.kg_channels == 4
    assert other.pretrained


def test_what_was_trained_in_fit_is_trained_once(
    splits: Any, quick_transe: Callable[..., TransE], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = splits[0]
    model = KSR(train, 8, 7, kg_channels=5, freeze_kg=False)
    fit(model, train, max_epochs=1, progress=False)
    start, learned = model.entity_start.clone(), model.state_dict()["entity"].clone()
    assert not torch.equal(start, learned)
    nothing_is_trained(monkeypatch)
    model.pretrain(model.prepare(train), progress=False)
    assert torch.equal(model.state_dict()["entity"], learned)
    fit(model, train, max_epochs=1, progress=False)
    assert torch.equal(model.entity_start, start)


def test_entities_that_are_learned_on_start_where_transe_left_them(
    splits: Any, quick_transe: Callable[..., TransE]
) -> None:
    train = splits[0]
    model = KSR(train, 8, 7, kg_channels=5, freeze_kg=False)
    model.pretrain(model.prepare(train), progress=False)
    assert model.entity is not None
    assert torch.equal(model.entity.detach(), model.entity_start)
    assert bool(model.entity_start.any())


@pytest.mark.parametrize("progress", [True, False])
def test_training_of_a_transe_is_shown(
    splits: Any, quick_transe: Callable[..., TransE], capfd: pytest.CaptureFixture[str], progress: bool
) -> None:
    train = splits[0]
    fit(KSR(train, 8, 7, kg_channels=3 + progress), train, max_epochs=1, progress=progress)
    shown = "".join(capfd.readouterr())
    assert ("TransE" in shown) == progress


def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on no TransE is trained."""

    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("a TransE was trained")

    monkeypatch.setattr(training, "pretrain_transe", fail)


def test_the_constructor_trains_nothing(splits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, _, test = splits
    nothing_is_trained(monkeypatch)
    for settings in ({}, {"kg_embedding": tmp_path / "kg.pt"}, {"freeze_kg": False}):
        assert not KSR(train, 8, 7, **settings).pretrained
    assert list(tmp_path.iterdir()) == []
    given = build(train)
    assert given.pretrained
    fit(given, train, max_epochs=1, progress=False)
    alone = build(train, use_kg=False)
    fit(alone, train, max_epochs=1, progress=False)
    assert bool(alone.score_all(test, torch.arange(10)).isfinite().all())


NEVER_FITTED = (
    "this KSR was never fitted: it has no embeddings of entities and relations yet, expected fit to be called "
    "first, or kg_embedding to be given"
)


@pytest.mark.parametrize("loaded", [False, True])
def test_a_model_that_was_never_fitted_answers_nothing(splits: Any, tmp_path: Path, loaded: bool) -> None:
    train, _, test = splits
    model = KSR(train, 8, 7, kg_channels=5)
    if loaded:
        model.save(tmp_path / "model.pt")
        model = KSR.load(tmp_path / "model.pt", test)
    ready = model.prepare(test)
    for ask in (
        lambda: model.score(test, ["u1"], [101]),
        lambda: model.score_all(ready, ["u1"]),
        lambda: model.recommend(ready, ["u1"]),
        lambda: model.rank(test, ["u1"]),
        lambda: model.similar_items(test, [101]),
        lambda: model.explain(test, "u1", 101),
        lambda: model.recommend_session([101, 102]),
        lambda: model.recommend_session([], data=test),
        lambda: model.recommend_session([101, 102], data=ready),
        lambda: evaluate(model, test, k=3),
    ):
        with pytest.raises(ValueError, match=NEVER_FITTED):
            ask()


def test_a_model_that_was_loaded_unfitted_can_be_fitted(
    splits: Any, tmp_path: Path, quick_transe: Callable[..., TransE]
) -> None:
    train, _, test = splits
    model = KSR(train, 8, 7, kg_channels=5)
    model.save(tmp_path / "model.pt")
    loaded = KSR.load(tmp_path / "model.pt")
    for one in (model, loaded):
        fit(one, train, max_epochs=1, progress=False)
    assert torch.equal(loaded.score_all(test, torch.arange(10)), model.score_all(test, torch.arange(10)))


def test_embeddings_go_to_the_rows_of_training(splits: Any, quick_transe: Callable[..., TransE]) -> None:
    """The store that fit gets may have its entities and relations in another order than the constructor's."""
    train = splits[0]
    other = permuted(train)
    model = KSR(train, 8, 7, kg_channels=5)
    model.pretrain(model.prepare(other), progress=False)
    expected = quick_transe(other, 5)
    entity = torch.nn.functional.normalize(expected.node_emb.weight.detach())
    for raw, mine in zip(train[ENTITY].id, model.entity_start):
        torch.testing.assert_close(mine, entity[other[ENTITY].id.index(raw)])
    for name, mine in zip(train.relation_name, model.relation_key):
        assert torch.equal(mine, expected.rel_emb.weight[other.relation_name.index(name)])


def test_a_file_of_embeddings_is_written_by_fit_and_read_by_the_next_constructor(
    splits: Any, tmp_path: Path, quick_transe: Callable[..., TransE], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, _, test = splits
    path = tmp_path / "kg.pt"
    model = KSR(train, 8, 7, kg_channels=5, kg_embedding=path)
    assert not path.exists()
    fit(model, train, max_epochs=1, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["kg.pt"]
    nothing_is_trained(monkeypatch)
    again = KSR(train, 8, 7, kg_channels=5, kg_embedding=str(path))
    assert again.pretrained
    assert torch.equal(again.entity_start, model.entity_start)
    assert torch.equal(again.relation_key, model.relation_key)
    assert again.settings["kg_embedding"] is None  # the embeddings are among the weights
    fit(again, train, max_epochs=1, progress=False)
    assert bool(again.score_all(test, torch.arange(10)).isfinite().all())
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        KSR(train, 8, 7, kg_embedding=tmp_path / "nowhere" / "kg.pt")


def test_without_a_graph_it_is_the_gru(splits: Any, make_splits: SplitBuilder) -> None:
    names = {
        "encoders.item.weight",
        "gru.weight_ih_l0",
        "gru.weight_hh_l0",
        "session_layer.weight",
        "session_layer.bias",
        "item_layer.weight",
        "item_layer.bias",
    }
    bare = copy.copy(splits[0])
    bare[RELATES].edge_index, bare[RELATES].edge_type = (
        torch.empty(2, 0, dtype=torch.long),
        torch.empty(0, dtype=torch.long),
    )
    for model in (build(splits[0], use_kg=False), build(make_splits(knowledge=False)[0]), KSR(bare, 8, 7)):
        assert {name for name, _ in model.named_parameters()} == names
        assert not model.use_kg
        assert not model.settings["use_kg"]


def test_every_sequence_of_length_one_teaches_nothing(make_store: Callable[..., HeteroData]) -> None:
    data = make_store(per_user=1)
    model = build(data)
    assert torch.isfinite(model.score_all(data, torch.arange(10))).all()
    with pytest.raises(ValueError, match="no user of train has more than one interaction"):
        fit(model, data, max_epochs=1, progress=False)


def test_users_who_had_one_item_are_left_out(splits: Any) -> None:
    train = splits[0]
    store = train[INTERACTS]
    kept = (store.edge_index[0] != 2) | (
        torch.arange(store.edge_index.size(1)) == (store.edge_index[0] == 2).nonzero()[0]
    )
    store.edge_index, store.time = store.edge_index[:, kept], store.time[kept]
    model = build(train)
    assert 2 not in model.training_examples(model.prepare(train))[1].tolist()


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 0}, "max_length is 0, expected at least 1"),
        ({"num_layers": 0}, "num_layers is 0, expected at least 1"),
        ({"embedding_channels": 0}, "embedding_channels is 0"),
        ({"hidden_channels": -1}, "hidden_channels is -1"),
        ({"kg_channels": 0}, "kg_channels is 0"),
        ({"num_negatives": 0}, "num_negatives is 0"),
        ({"dropout": 1.0}, r"dropout is 1.0, expected a share in \[0, 1\)"),
        ({"gamma": 0.0}, r"gamma is 0\.0, expected above 0"),
        ({"loss": "softmax"}, "loss is 'softmax', expected 'ce' or 'bpr'"),
        ({"negatives": "all"}, "distribution of negatives is 'all'"),
        ({"features": "none"}, "features is 'none'"),
    ],
)
def test_bad_arguments_are_refused(splits: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(splits[0], **settings)


@pytest.mark.parametrize("size", [2.5, None, True, "3"])
def test_a_size_is_a_whole_number(splits: Any, size: Any) -> None:
    with pytest.raises(TypeError, match=f"max_length is {size!r}, expected a whole number"):
        build(splits[0], max_length=size)


def test_embeddings_are_of_a_graph(make_splits: SplitBuilder) -> None:
    with pytest.raises(ValueError, match="kg_embedding is given, but the store has no triples"):
        KSR(make_splits(knowledge=False)[0], kg_embedding="transe.pt")


def test_bad_embeddings_are_refused(splits: Any) -> None:
    entity, relation = embeddings(splits[0])
    with pytest.raises(ValueError, match=r"relations of shape \[2, 6\], expected \[3, K\]"):
        build(splits[0], kg_embedding=(entity, relation[:-1]))
    with pytest.raises(ValueError, match="NaN or infinity among entities"):
        build(splits[0], kg_embedding=(entity / 0, relation))
    with pytest.raises(TypeError, match=r"torch\.int64 for relations"):
        build(splits[0], kg_embedding=(entity, relation.long()))


def test_a_store_without_time_is_refused(splits: Any) -> None:
    train, _, test = splits
    model = build(train)
    del test[INTERACTS].time
    with pytest.raises(ValueError, match=r"\.time is missing, expected the time of each interaction"):
        model.score_all(test, torch.tensor([0]))
    del train[INTERACTS].time
    with pytest.raises(ValueError, match=r"\.time is missing, expected the time of each interaction"):
        build(train)


# ---------------------------------------------------------------------- sessions of nobody


def best(score: Tensor, session: list[int], k: int) -> list[int]:
    order: list[int] = score.argsort(descending=True).tolist()
    return [i for i in order if i not in session][:k]


def test_a_session_of_raw_ids_names_or_indices(splits: Any, tmp_path: Path) -> None:
    train = splits[0]
    model, session = build(train), [3, 0, 5]
    score = by_hand(model, train, session)
    model.save(tmp_path / "model.pt")
    loaded = KSR.load(tmp_path / "model.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for given in (
            [103, 100, 105],
            (103, 100, 105),
            pd.Series([103, 100, 105]),
            ["Item <3>", "item <0>", " ITEM <5>"],
            ["Item <3>", 100, "Item <5>"],
            torch.tensor(session),
            np.array(session),
        ):
            for ready in (model, loaded):
                items, scores = ready.recommend_session(given, k=4)
                assert items.tolist() == best(score, session, 4)
                torch.testing.assert_close(scores, score[items], rtol=1e-5, atol=1e-5)
        one = model.recommend_session([103], k=4)[0]
        assert torch.equal(model.recommend_session(torch.tensor(3), k=4)[0], one)
        assert torch.equal(model.recommend_session([103], k=4, data=splits[2])[0], one)
    frame = model.recommend_session([103, 100, 105], k=4, as_frame=True)
    assert list(frame.columns) == ["rank", "item", "name", "score"]
    assert frame["item"].tolist() == [100 + i for i in best(score, session, 4)]
    assert frame["rank"].tolist() == [1, 2, 3, 4]
    assert frame["name"].tolist() == [f"Item <{i}>" for i in best(score, session, 4)]


def test_a_session_gives_what_a_user_with_it_gets(splits: Any) -> None:
    model, test = build(splits[0], max_length=3), splits[2]
    for user, session in enumerate(sessions_of(test)):
        mine, scores = model.recommend(test, torch.tensor([user]), k=5)
        found, values = model.recommend_session(torch.tensor(session), k=5)
        assert torch.equal(found, mine[0])
        torch.testing.assert_close(values, scores[0], rtol=1e-5, atol=1e-5)


def test_unknown_items_of_a_session_are_reported_and_left_out(splits: Any) -> None:
    model = build(splits[0])
    with pytest.warns(
        UserWarning,
        match=r"2 of 4 items of the session are unknown \(7, 'Nothing'\) and left out \(raw ids are int\)",
    ):
        items, _ = model.recommend_session([103, 7, 100, "Nothing"], k=3)
    assert torch.equal(items, model.recommend_session([103, 100], k=3)[0])


def test_an_empty_session_gets_the_most_popular(splits: Any) -> None:
    train = splits[0]
    model = build(train)
    count = torch.bincount(train[INTERACTS].edge_index[1], minlength=14)
    with pytest.warns(UserWarning, match="no known item: the most popular items are recommended"):
        items, scores = model.recommend_session([], k=14)
    assert scores.tolist() == count[items].tolist()
    assert scores.dtype == torch.float32
    assert items.tolist() == count.argsort(descending=True, stable=True).tolist()
    with pytest.warns(UserWarning, match="unknown|no known item") as told:
        again, _ = model.recommend_session(["Nothing"], k=14)
    assert torch.equal(again, items)
    assert len(told) == 2
    for nothing in (torch.tensor([]), np.array([]), (), pd.Series([], dtype=object)):
        with pytest.warns(UserWarning, match="no known item"):
            assert torch.equal(model.recommend_session(nothing, k=14)[0], items)


def test_sessions_side_by_side_give_what_each_gives(splits: Any) -> None:
    model, sessions = build(splits[0], max_length=3), [[103, 100, 105, 101], [104], [110, 111], [103, 100]]
    alone = [model.recommend_session(session, k=4) for session in sessions]
    series = pd.Series(sessions, index=["a", "b", "c", "d"])
    as_index = [torch.tensor([i - 100 for i in session]) for session in sessions]
    for given in (sessions, tuple(sessions), series, as_index, [np.array(x) for x in as_index]):
        for batch_size in (None, 3, 1):
            items, scores = model.recommend_session(given, k=4, batch_size=batch_size)
            assert items.shape == scores.shape == (4, 4)
            for row, (item, score) in enumerate(alone):
                assert torch.equal(items[row], item)
                torch.testing.assert_close(scores[row], score, rtol=1e-5, atol=1e-5)
    frame = model.recommend_session(series, k=4, as_frame=True)
    assert list(frame) == ["session", "rank", "item", "name", "score"]
    assert frame["session"].tolist() == [name for name in "abcd" for _ in range(4)]
    assert frame["item"].tolist() == [100 + i for item, _ in alone for i in item.tolist()]
    assert model.recommend_session(sessions, k=4, as_frame=True)["session"].tolist() == [
        i for i in range(4) for _ in range(4)
    ]
    assert model.recommend_session([[103]], k=4)[0].shape == (1, 4)


def test_sessions_that_say_nothing_stand_beside_others(splits: Any) -> None:
    model = build(splits[0])
    with pytest.warns(UserWarning, match="unknown|no known item") as told:
        items, scores = model.recommend_session([[103, 7], [], [8], [100]], k=3)
    assert [str(w.message) for w in told if w.category is UserWarning] == [
        "2 of 4 items of 4 sessions are unknown (7, 8) and left out (raw ids are int)",
        "2 of 4 sessions hold no known item: the most popular items are recommended for them",
    ]
    assert all(Path(w.filename).name == "test_ksr.py" for w in told)
    with pytest.warns(UserWarning, match="no known item"):
        popular, count = model.recommend_session([], k=3)
    assert torch.equal(items[[1, 2]], popular.expand(2, -1))
    assert torch.equal(scores[[1, 2]], count.expand(2, -1))
    assert torch.equal(items[0], model.recommend_session([103], k=3)[0])
    assert torch.equal(items[3], model.recommend_session([100], k=3)[0])


def test_items_beside_sessions_are_refused(splits: Any) -> None:
    with pytest.raises(TypeError, match="a list of sessions holds 103 beside them, expected sessions alone"):
        build(splits[0]).recommend_session([[100, 101], 103], k=3)


def test_a_name_of_several_items_is_the_most_popular(splits: Any) -> None:
    train = splits[0]
    popular = int(torch.bincount(train[INTERACTS].edge_index[1], minlength=14).argmax())
    train[ITEM].name = ["The same"] * 14
    model = build(train)
    expected = model.recommend_session(torch.tensor([popular]), k=5)[0]
    assert torch.equal(model.recommend_session(["The same"], k=5)[0], expected)


def test_few_items_are_left(splits: Any) -> None:
    model = build(splits[0])
    items, scores = model.recommend_session(torch.arange(12), k=5)
    assert set(items[:2].tolist()) == {12, 13}
    assert items[2:].tolist() == [-1] * 3
    assert scores[2:].tolist() == [-torch.inf] * 3
    assert len(model.recommend_session(torch.arange(12), k=5, as_frame=True)) == 2


@pytest.mark.parametrize(
    ("session", "k", "error", "message"),
    [
        ("Item <3>", 3, TypeError, "the session is a str, expected a list"),
        (103, 3, TypeError, "the session is an int, expected a list"),
        ([103, None], 3, TypeError, "the session holds a NoneType"),
        ([1.5], 3, TypeError, "the session holds a float"),
        ([103, True], 3, TypeError, "the session holds a bool"),
        (torch.tensor([14]), 3, ValueError, "item index 14 is out of range"),
        (torch.tensor([0.5]), 3, TypeError, "expected integer indices"),
        ([103], 0, ValueError, "expected a whole number from 1 to the 14 items"),
        ([103], 15, ValueError, "expected a whole number from 1 to the 14 items"),
    ],
)
def test_bad_sessions_are_refused(
    splits: Any, session: Any, k: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build(splits[0]).recommend_session(session, k=k)


def test_features_come_with_a_store(make_splits: SplitBuilder) -> None:
    train, _, test = make_splits(features=True)
    model = build(train)
    with pytest.raises(
        ValueError, match="trained with features of item and entity nodes, which it does not keep"
    ):
        model.recommend_session([103])
    _, scores = model.recommend_session([103], k=14, data=test)
    other = copy.copy(test)
    other[ITEM].x = test[ITEM].x + 1
    assert not torch.allclose(model.recommend_session([103], k=14, data=other)[1][:13], scores[:13])
    ready = build(train, features="id")
    assert torch.equal(
        ready.recommend_session([103], k=3)[0], ready.recommend_session([103], k=3, data=test)[0]
    )


def test_new_items_of_another_store_can_be_recommended(splits: Any) -> None:
    train, _, test = splits
    model, other = build(train), copy.copy(test)
    other[ITEM].num_nodes, other[ITEM].id = 15, [*test[ITEM].id, 900]
    other[ITEM].name = [*test[ITEM].name, "New"]
    other[IS].edge_index = torch.cat([test[IS].edge_index, torch.tensor([[14], [0]])], dim=1)
    items, _ = model.recommend_session(["Item <3>"], k=15, data=other)
    assert 14 in items.tolist()
    with pytest.warns(UserWarning, match="no known item"):
        assert 14 in model.recommend_session([], k=15, data=other)[0].tolist()
    # What it knows of the new item is its entity, which item 0 shares, or another one.
    other[ITEM].id = [*test[ITEM].id[:-1], 900, test[ITEM].id[-1]]
    first, _ = model.recommend_session(["New"], k=14, data=other)
    other[IS].edge_index = torch.cat([test[IS].edge_index, torch.tensor([[14], [1]])], dim=1)
    second, _ = model.recommend_session(["New"], k=14, data=other)
    assert not torch.equal(first, second)


def test_a_session_in_a_store_of_another_order(splits: Any) -> None:
    model, test = build(splits[0]), splits[2]
    other, turn = copy.copy(test), torch.arange(13, -1, -1)
    other[ITEM].id, other[ITEM].name = test[ITEM].id[::-1], test[ITEM].name[::-1]
    for edge_type, row in ((INTERACTS, 1), (IS, 0)):
        for key in [key for key in test[edge_type].to_dict() if key.endswith("index")]:
            index = test[edge_type][key].clone()
            index[row] = turn[index[row]]
            other[edge_type][key] = index
    frames = [
        model.recommend_session([103, "Item <7>"], k=9, data=data, as_frame=True) for data in (test, other)
    ]
    assert frames[0]["item"].tolist() == frames[1]["item"].tolist()
    np.testing.assert_allclose(frames[0]["score"], frames[1]["score"], rtol=1e-5)
    with pytest.warns(UserWarning, match="no known item"):
        count = model.recommend_session([], k=14, data=other)[1]
    assert count.tolist() == sorted(model.popularity.tolist(), reverse=True)


def test_a_list_needs_ids_or_names(make_splits: SplitBuilder) -> None:
    model = build(make_splits(ids=False)[0])
    with pytest.raises(ValueError, match="there are none here, expected a tensor of indices"):
        model.recommend_session([3, 4])
    assert model.recommend_session(torch.tensor([3, 4]), k=3)[0].shape == (3,)


@pytest.mark.parametrize("names", [True, False])
def test_the_catalogue_and_its_words_are_read_once(splits: Any, names: bool) -> None:
    if not names:
        del splits[0][ITEM].name
    model = build(splits[0])
    inputs = model.session_inputs()
    words = newcomers._words(model, inputs)
    model.recommend_session([103], k=3)
    assert model.session_inputs() is inputs
    assert newcomers._words(model, inputs) is words
    assert words[0] == {100 + i: i for i in range(14)}
    assert words[1] == ({f"item <{i}>": i for i in range(14)} if names else {})


# ---------------------------------------------------------------------- explanation


def test_units_are_really_left_out(splits: Any) -> None:
    train, _, test = splits
    model, user, item = build(train), 4, 9
    explained = model.explain(test, torch.tensor(user), torch.tensor(item))
    session = sessions_of(test)[user]
    score = by_hand(model, test, session)[item]
    assert explained.score == pytest.approx(float(score), abs=1e-5)
    units = explained.units
    assert sorted(set(units["kind"])) == ["history", "memory"]
    history = units[units["kind"] == "history"].set_index("name")["contribution"]
    assert len(history) == len(session)
    for place, i in enumerate(session):
        without = by_hand(model, test, session[:place] + session[place + 1 :])[item]
        assert history[f"Item <{i}>"] == pytest.approx(float(score - without), abs=1e-5)
    slots = units[units["kind"] == "memory"].set_index("name")["contribution"]
    assert set(slots.index) == set(train.relation_name)
    # Together the slots are all that the memory adds.
    silent = copy.deepcopy(model)
    with torch.no_grad():
        silent.session_layer.weight[:, silent.hidden_channels :] = 0
    assert slots.sum() == pytest.approx(float(score - by_hand(silent, test, session)[item]), abs=1e-5)


@pytest.mark.parametrize("joined_by_all", [True, False])
def test_attention_and_what_the_memory_held(splits: Any, joined_by_all: bool) -> None:
    train, _, test = splits
    if not joined_by_all:  # "made by" goes between entities that are no items
        entities = test[IS].edge_index[1]
        away = torch.tensor([e for e in range(test[ENTITY].num_nodes) if e not in entities.tolist()])
        made_by = test[RELATES].edge_type == 1
        test[RELATES].edge_index[:, made_by] = away[test[RELATES].edge_index[:, made_by] % away.numel()]
    test[ENTITY].name = [f"E{i}" for i in range(test[ENTITY].num_nodes)]
    model, user = build(train), 4
    explained = model.explain(test, torch.tensor(user), torch.tensor(9))
    session = sessions_of(test)[user]
    steps = explained.attention
    assert steps.index.tolist() == [f"Item <{i}>" for i in session]
    assert list(steps.columns) == train.relation_name
    np.testing.assert_allclose(steps[train.relation_name].sum(axis=1), 1, rtol=1e-5)
    memory = explained.memory
    last = steps.iloc[-1]
    assert memory["relation"].iloc[0] == last.idxmax()
    assert memory["attention"].is_monotonic_decreasing
    assert set(memory["relation"]) == set(train.relation_name)
    encoded = model.encode(model.prepare(test))
    read = model.read(encoded.items, torch.tensor([session]), torch.ones(1, 5, dtype=torch.bool))
    entities = {
        e: {i for i, x in test[IS].edge_index.t().tolist() if x == e and i in session}
        for e in test[IS].edge_index[1].tolist()
    }
    for relation, rows in memory.groupby("relation"):
        assert rows["attention"].tolist() == [pytest.approx(last[relation])] * len(rows)
        number = train.relation_name.index(relation)
        slot, key = read.memory[0, number].detach(), model.relation_key[number]
        joined: dict[int, tuple[float, set[int]]] = {}
        for (head, tail), r in zip(test[RELATES].edge_index.t().tolist(), test[RELATES].edge_type.tolist()):
            for mine, other, place in ((head, tail, slot), (tail, head, slot - 2 * key)):
                if r == number and entities.get(mine):
                    near = torch.cosine_similarity(place, model.entity_start[other], dim=0).item()
                    before, items = joined.get(other, (-2.0, set()))
                    joined[other] = max(before, near), items | entities[mine]
        if not joined:  # all tails of the relation then
            tails = test[RELATES].edge_index[1, test[RELATES].edge_type == number].tolist()
            places = {e: torch.cosine_similarity(slot, model.entity_start[e], dim=0).item() for e in tails}
            joined = {e: (near, set()) for e, near in places.items()}
        nearest = sorted(joined, key=lambda e: -joined[e][0])[:3]
        assert rows["entity"].tolist() == ([f"E{e}" for e in nearest] or [""])
        if nearest:
            assert rows["similarity"].tolist() == [pytest.approx(joined[e][0], abs=1e-5) for e in nearest]
        assert rows["items"].tolist() == ([len(joined[e][1]) for e in nearest] or [0])
    assert f"held together by {last.idxmax()} (attention {last.max():.2f})" in str(explained)
    idle = memory["items"].groupby(memory["relation"]).sum().eq(0)
    assert ("joins none of them" in str(explained)) == idle[last.idxmax()]
    assert idle["made by"] != joined_by_all
    assert "Attention to relations, latest step first" in explained._repr_html_()


def test_the_explanation_is_drawn(splits: Any) -> None:
    model = build(splits[0])
    explained = model.explain(splits[2], "u4", 109)
    axes = explained.plot()
    assert [t.get_text() for t in axes.get_yticklabels()] == explained.attention.index.tolist()
    assert {t.get_text() for t in axes.get_xticklabels()} == set(splits[0].relation_name)
    np.testing.assert_allclose(
        np.sort(axes.images[0].get_array(), axis=1),
        np.sort(explained.attention[splits[0].relation_name].to_numpy(), axis=1),
    )
    _, mine = pyplot.subplots()
    assert explained.plot(mine) is mine
    pyplot.close("all")


def test_short_sessions_are_explained(splits: Any) -> None:
    train, test = splits[0], copy.copy(splits[0])
    model, store = build(train), test[INTERACTS]
    for length in (1, 0):
        kept = store.edge_index[0] != 4
        if length:
            kept[(store.edge_index[0] == 4).nonzero()[0]] = True
        store.edge_index, store.time = store.edge_index[:, kept], store.time[kept]
        store.pop("edge_label_index", None), store.pop("edge_label_time", None)
        if length == 0:
            with pytest.raises(ValueError, match="stranger to this KSR"):
                model.explain(test, "u4", 109)
            return
        explained = model.explain(test, "u4", 109)
        assert len(explained.attention) == 1
        assert (explained.units["kind"] == "history").sum() == 1
        session = sessions_of(test)[4]
        only = explained.units[explained.units["kind"] == "history"]["contribution"].iloc[0]
        lost = by_hand(model, test, session)[9] - by_hand(model, test, [])[9]
        assert only == pytest.approx(float(lost), abs=1e-5)
        lines = str(explained).splitlines()
        assert sum("without history" in line for line in lines) == 1
        assert sum("held together by" in line for line in lines) == 1


def test_a_step_left_out_lets_an_older_one_in(splits: Any) -> None:
    train, _, test = splits
    model, session = build(train, max_length=3), sessions_of(test)[4]
    assert len(session) == 5
    units = model.explain(test, torch.tensor(4), torch.tensor(9)).units
    history = units[units["kind"] == "history"].set_index("name")["contribution"]
    score = by_hand(model, test, session[-3:])[9]
    assert len(history) == 3
    for place in range(2, 5):
        without = by_hand(model, test, (session[:place] + session[place + 1 :])[-3:])[9]
        assert history[f"Item <{session[place]}>"] == pytest.approx(float(score - without), abs=1e-5)


def test_an_empty_memory_holds_nothing(splits: Any) -> None:
    train, _, test = splits
    test[IS].edge_index = test[IS].edge_index[:, :0]
    explained = build(train).explain(test, "u4", 109)
    assert len(explained.memory) == 0
    assert len(explained.attention) == 5
    assert "held together" not in str(explained)
    assert (explained.units[explained.units["kind"] == "memory"]["contribution"] == 0).all()


def test_a_relation_may_be_called_item(splits: Any) -> None:
    for data in splits:
        data.relation_name = ["item", "made by", "never used"]
    explained = build(splits[0]).explain(splits[2], "u4", 109)
    assert list(explained.attention.columns) == ["item", "made by", "never used"]
    assert {t.get_text() for t in explained.plot().get_xticklabels()} == {"item", "made by", "never used"}
    pyplot.close("all")
    assert "Attention" in explained._repr_html_()


def test_a_new_entity_without_features_is_as_none(splits: Any) -> None:
    train, _, test = splits
    model, other = build(train), copy.copy(test)
    other[ENTITY].num_nodes = test[ENTITY].num_nodes + 1
    other[ENTITY].id = [*test[ENTITY].id, "new"]
    new = test[ENTITY].num_nodes
    linked = set(test[IS].edge_index[0].tolist())
    alone = next(i for i in range(14) if i not in linked)
    other[IS].edge_index = torch.cat([test[IS].edge_index, torch.tensor([[alone, 0], [new, new]])], dim=1)
    with predicting():
        first, second = (model.encode(model.prepare(data)).items for data in (test, other))
    assert torch.equal(first.e, second.e)
    assert torch.equal(first.linked, second.linked)


def test_the_gru_alone_explains_by_history(splits: Any) -> None:
    model = build(splits[0], use_kg=False)
    explained = model.explain(splits[2], "u4", 109)
    assert set(explained.units["kind"]) == {"history"}
    assert len(explained.attention) == len(explained.memory) == 0
    assert explained.plot().get_xlabel() == "what the score loses without it"
    pyplot.close("all")


# ---------------------------------------------------------------------- end to end


def test_what_follows_what_is_learned() -> None:
    """In a store where item i is followed by i + 1, from wherever a user began."""
    num_users, num_items, length = 40, 20, 9
    whole = SyntheticKG(num_users=num_users, num_items=num_items, seed=0)[0]
    user = torch.arange(num_users).repeat_interleave(length)
    step = torch.arange(length).repeat(num_users)
    begin = torch.randint(num_items, (num_users,), generator=torch.Generator().manual_seed(0))
    pairs = whole[INTERACTS]
    for key in list(pairs.keys()):
        del pairs[key]
    pairs.edge_index, pairs.time = torch.stack([user, (begin[user] + step) % num_items]), step
    train, val, test = LeaveOneOut()(whole)
    seed_everything(0)
    model = KSR(train, 16, 16, kg_embedding=pretrain_transe(train, 8, max_epochs=2, progress=False))
    assert evaluate(model, test, k=1)["recall@1"] < 0.5
    fit(model, train, val, max_epochs=40, lr=0.02, batch_size=8, monitor="recall@1", progress=False)
    assert evaluate(model, test, k=1)["recall@1"] > 0.9
    nxt, _ = model.recommend_session(torch.tensor([3, 4, 5, 6]), k=1)
    assert nxt.tolist() == [7]
