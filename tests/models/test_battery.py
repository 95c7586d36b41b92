"""What every model must do. A new model joins with one line in ``CASES``."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_kgrec import BPRMF, KSR, KTUP, MKR, KGRec, LightGCN, Popularity, Recommender
from pyg_kgrec.data import ENTITY, INTERACTS, IS, ITEM, RELATES, USER

pytestmark = pytest.mark.usefixtures("one_thread")

Splits = tuple[HeteroData, HeteroData, HeteroData]
SplitBuilder = Callable[..., Splits]


@dataclass(frozen=True)
class Case:
    """A model with the settings that the battery builds it with, and what it can do."""

    model: type[Recommender]
    settings: dict[str, Any] = field(default_factory=dict)
    learns: bool = True
    hears: tuple[str, ...] = ()
    """Edges that scores depend on: ``'interactions'``, ``'links'`` of items and entities, ``'relations'``."""
    constant: tuple[str, ...] = ()
    """Parameters that start at fixed values, by the end of their names."""
    given: Callable[[HeteroData], dict[str, Any]] = lambda data: {}
    """Further arguments, made from the store, which no file keeps."""

    def build(self, data: HeteroData, seed: int = 0, **settings: Any) -> Recommender:
        seed_everything(seed)
        return self.model(data, **(self.given(data) | self.settings | settings))


def some_vectors(data: HeteroData) -> dict[str, Any]:
    """Vectors of entities and relations that nobody has to train."""
    if ENTITY not in data.node_types:
        return {}
    rng = torch.Generator().manual_seed(5)
    sizes = data[ENTITY].num_nodes, len(data.relation_name)
    vectors = (torch.randn(n, 6, generator=rng) for n in sizes)
    return {"kg_embedding": tuple(torch.nn.functional.normalize(v, dim=1) for v in vectors)}


EVERYTHING = ("interactions", "links", "relations")
FIXED = ("bias", *(f"{part}_mlp.lins.{i}.weight" for part in ("user", "knowledge") for i in range(2)))
CASES = {
    "KGRec": Case(KGRec, {"hidden_channels": 8, "num_negatives": 3, "mae_msize": 3}, hears=EVERYTHING),
    "KGRec-gate": Case(
        KGRec,
        {"hidden_channels": 8, "num_negatives": 3, "mae_msize": 3, "item_gate": True},
        hears=EVERYTHING,
        constant=("encoder.gate",),
    ),
    "KGRec-inverse-bpr": Case(
        KGRec,
        {"hidden_channels": 8, "inverse": True, "loss": "bpr", "hide_targets": False},
        hears=EVERYTHING,
    ),
    "KGRec-no-kg": Case(
        KGRec, {"hidden_channels": 8, "num_negatives": 3, "use_kg": False}, hears=("interactions",)
    ),
    "MKR": Case(MKR, {"hidden_channels": 8, "num_negatives": 3}, hears=("links",), constant=FIXED),
    "MKR-mlp-paper": Case(
        MKR,
        {
            "hidden_channels": 8,
            "num_layers": 2,
            "head": "mlp",
            "loss": "bce",
            "partners": "sample",
            "knowledge_loss": "paper",
            "knowledge_form": "paper",
        },
        hears=("links",),
        constant=FIXED,
    ),
    "MKR-dcn": Case(
        MKR,
        {"hidden_channels": 8, "unit": "dcn", "loss": "bpr", "knowledge_interval": None},
        hears=("links",),
        constant=FIXED,
    ),
    "MKR-stitch": Case(
        MKR,
        {"hidden_channels": 8, "unit": "stitch", "head": "mlp", "num_head_layers": 1},
        hears=("links",),
        constant=FIXED,
    ),
    "MKR-no-kg": Case(MKR, {"hidden_channels": 8, "use_kg": False}, constant=FIXED),
    "KTUP": Case(KTUP, {"hidden_channels": 8, "num_negatives": 3}, hears=("links",)),
    "KTUP-soft-alternate": Case(
        KTUP,
        {"hidden_channels": 8, "num_negatives": 2, "induction": "soft", "joint": "alternate"},
        hears=("links",),
    ),
    "KTUP-soft-l1-bpr": Case(
        KTUP, {"hidden_channels": 8, "induction": "soft", "norm": "l1", "loss": "bpr"}, hears=("links",)
    ),
    "KTUP-hard-l1": Case(
        KTUP,
        {"hidden_channels": 8, "num_negatives": 2, "induction": "hard", "norm": "l1", "joint_ratio": 0.7},
        hears=("links",),
    ),
    "TUP": Case(KTUP, {"hidden_channels": 8, "num_negatives": 3, "use_kg": False}),
    "TUP-soft": Case(KTUP, {"hidden_channels": 8, "num_negatives": 3, "use_kg": False, "induction": "soft"}),
    "KSR": Case(
        KSR,
        {"embedding_channels": 8, "hidden_channels": 7},
        hears=("interactions", "links"),
        constant=("bias",),
        given=some_vectors,
    ),
    "KSR-bpr-tuned": Case(
        KSR,
        {
            "embedding_channels": 5,
            "hidden_channels": 8,
            "num_layers": 2,
            "loss": "bpr",
            "freeze_kg": False,
            "num_negatives": 2,
            "max_length": 3,
        },
        hears=("interactions", "links"),
        constant=("bias", "entity"),
        given=some_vectors,
    ),
    "GRU": Case(
        KSR,
        {"embedding_channels": 8, "hidden_channels": 7, "use_kg": False},
        hears=("interactions",),
        constant=("bias",),
    ),
    "BPRMF": Case(BPRMF, {"hidden_channels": 8}),
    "LightGCN": Case(
        LightGCN, {"hidden_channels": 8, "loss": "softmax", "num_negatives": 3}, hears=("interactions",)
    ),
    "Popularity": Case(Popularity, learns=False, hears=("interactions",)),
}
LEARNING = [name for name, case in CASES.items() if case.learns]
KNOWING = [name for name, case in CASES.items() if "relations" in case.hears]
LINKING = [name for name, case in CASES.items() if "links" in case.hears]


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(params=LEARNING)
def learner(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(params=KNOWING)
def knower(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def splits(make_splits: SplitBuilder) -> Splits:
    return make_splits()


def users_of(data: HeteroData) -> Tensor:
    return torch.arange(data[USER].num_nodes)


def train_step(model: Recommender, data: HeteroData, lr: float = 0.05, seed: int = 0) -> dict[str, Tensor]:
    """One step of gradient descent on all training pairs."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = model.training_losses(
        data, *data[INTERACTS].edge_label_index, torch.Generator().manual_seed(seed)
    )
    optimizer.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    optimizer.step()
    return {name: loss.detach() for name, loss in losses.items()}


# ---------------------------------------------------------------------- scores


def test_scores_of_a_batch_are_those_of_its_rows(case: Case, splits: Splits) -> None:
    model, test = case.build(splits[0]), splits[2]
    users, items = torch.tensor([0, 3, 3, 9, 1]), torch.tensor([5, 5, 0, 13, 2])
    together = model.score(test, users, items)
    assert together.shape == (5,)
    apart = torch.cat([model.score(test, users[i : i + 1], items[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-6)
    rows = torch.cat([model.score_all(test, users[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(model.score_all(test, users), rows, rtol=1e-5, atol=1e-6)


def test_the_catalogue_is_scored_as_its_pairs_are(case: Case, splits: Splits) -> None:
    model, test = case.build(splits[0]), splits[2]
    users, items = users_of(test), torch.arange(test[ITEM].num_nodes)
    whole = model.score_all(test, users)
    assert whole.shape == (users.numel(), items.numel())
    pairs = torch.cartesian_prod(users, items)
    torch.testing.assert_close(model.score(test, *pairs.t()), whole.flatten(), rtol=1e-5, atol=1e-6)
    assert bool(torch.isfinite(whole).all())


def test_scores_are_without_gradient_and_in_evaluation_mode(case: Case, splits: Splits) -> None:
    model = case.build(splits[0]).train()
    first = model.score_all(splits[2], users_of(splits[2]))
    assert not first.requires_grad
    assert torch.equal(model.score_all(splits[2], users_of(splits[2])), first)
    assert model.training
    assert not model.eval().training


def test_a_pair_asked_twice_is_answered_twice(case: Case, splits: Splits) -> None:
    model = case.build(splits[0])
    score = model.score(splits[2], torch.tensor([2, 2, 4]), torch.tensor([7, 7, 7]))
    assert score[0] == score[1]
    assert score.numel() == 3


def test_users_are_indices_or_raw_ids(case: Case, splits: Splits) -> None:
    model, test = case.build(splits[0]), splits[2]
    expected = model.score(test, torch.tensor([3, 0]), torch.tensor([1, 13]))
    raw_users, raw_items = ["u3", "u0"], [101, 113]
    for users, items in (
        (raw_users, raw_items),
        (tuple(raw_users), tuple(raw_items)),
        (pd.Series(raw_users, index=[7, 7]), pd.Series(raw_items)),
        (np.array([3, 0]), np.array([1, 13], dtype=np.int32)),
        (torch.tensor([3, 0], dtype=torch.int32), torch.tensor([1, 13], dtype=torch.uint8)),
    ):
        assert torch.equal(model.score(test, users, items), expected)
        assert torch.equal(model.score_all(test, users), model.score_all(test, torch.tensor([3, 0])))
        assert torch.equal(model.recommend(test, users, k=3)[0], model.recommend(test, ["u3", "u0"], k=3)[0])


def test_bad_users_and_items_are_refused(case: Case, splits: Splits) -> None:
    model, test = case.build(splits[0]), splits[2]
    with pytest.raises(ValueError, match=r"user id is unknown \('nobody'\)"):
        model.recommend(test, ["u1", "nobody"])
    with pytest.raises(ValueError, match=r"item id is unknown \(5\)"):
        model.score(test, ["u1"], [5])
    with pytest.raises(ValueError, match=r"user index 10 is out of range, expected 0\.\.9"):
        model.recommend(test, torch.tensor([10]))
    with pytest.raises(ValueError, match=r"item index -1 is out of range"):
        model.score(test, torch.tensor([0]), torch.tensor([-1]))
    with pytest.raises(TypeError, match="expected integer indices"):
        model.recommend(test, torch.tensor([0.5]))
    with pytest.raises(ValueError, match="users has 2 entries and items 1"):
        model.score(test, torch.tensor([0, 1]), torch.tensor([0]))


def test_a_store_without_raw_ids(case: Case, make_splits: SplitBuilder) -> None:
    train, _, test = make_splits(ids=False)
    model = case.build(train)
    frame = model.recommend(test, torch.tensor([0, 1]), k=2, as_frame=True)
    assert list(frame.columns) == ["user", "rank", "item", "score"]
    assert frame["user"].tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="this store has none"):
        model.recommend(test, ["u1"])


# ---------------------------------------------------------------------- lists


@pytest.mark.parametrize("batch_size", [1, 3, 1024])
def test_what_was_seen_is_never_recommended(case: Case, splits: Splits, batch_size: int) -> None:
    train, val, test = splits
    model, users = case.build(train), users_of(test)
    k = test[ITEM].num_nodes
    items, scores = model.recommend(test, users, k=k, batch_size=batch_size)
    assert items.shape == scores.shape == (users.numel(), k)
    assert items.dtype == torch.int64
    everything = model.score_all(test, users)
    for user in users.tolist():
        seen = {
            i
            for pairs in (train[INTERACTS].edge_index, val[INTERACTS].edge_label_index)
            for u, i in pairs.t().tolist()
            if u == user
        }
        left = k - len(seen)
        assert set(items[user, :left].tolist()) == set(range(k)) - seen
        assert items[user, left:].tolist() == [-1] * len(seen)
        assert scores[user, left:].tolist() == [-torch.inf] * len(seen)
        found = scores[user, :left]
        torch.testing.assert_close(
            found, everything[user, items[user, :left]].to(found.dtype), rtol=1e-5, atol=1e-6
        )
        assert bool((found.diff() <= 0).all())


def test_recommendations_as_a_frame(case: Case, splits: Splits) -> None:
    model, test = case.build(splits[0]), splits[2]
    items, scores = model.recommend(test, ["u4", "u1"], k=12)
    frame = model.recommend(test, ["u4", "u1"], k=12, as_frame=True)
    assert list(frame.columns) == ["user", "rank", "item", "name", "score"]
    found = items >= 0
    assert len(frame) == int(found.sum()) < 24
    assert frame["item"].tolist() == [test[ITEM].id[i] for i in items[found].tolist()]
    assert frame["name"].tolist() == [test[ITEM].name[i] for i in items[found].tolist()]
    np.testing.assert_allclose(frame["score"], scores[found].numpy())
    for user, row in (("u4", 0), ("u1", 1)):
        mine = frame[frame["user"] == user]
        assert mine["rank"].tolist() == list(range(1, int(found[row].sum()) + 1))


def test_no_user_gets_an_empty_list(case: Case, splits: Splits) -> None:
    model, test = case.build(splits[0]), splits[2]
    items, scores = model.recommend(test, torch.empty(0, dtype=torch.long), k=3)
    assert items.shape == scores.shape == (0, 3)
    assert len(model.recommend(test, torch.empty(0, dtype=torch.long), k=3, as_frame=True)) == 0


@pytest.mark.parametrize("k", [0, -1, 15, 2.0, True, "3", None])
def test_a_bad_length_is_refused(case: Case, splits: Splits, k: Any) -> None:
    with pytest.raises(ValueError, match="expected a whole number from 1 to the 14 items"):
        case.build(splits[0]).recommend(splits[2], ["u1"], k=k)


def test_a_user_without_training_items_is_ranked_all_the_same(case: Case, splits: Splits) -> None:
    train, _, test = splits
    for data in (train, test):
        pairs, time = data[INTERACTS].edge_index, data[INTERACTS].time
        data[INTERACTS].edge_index, data[INTERACTS].time = pairs[:, pairs[0] != 6], time[pairs[0] != 6]
    train[INTERACTS].edge_label_index = train[INTERACTS].edge_index
    train[INTERACTS].edge_label_time = train[INTERACTS].time
    model = case.build(train)
    items, scores = model.recommend(test, ["u6"], k=5)
    assert bool((items >= 0).all())
    assert bool(torch.isfinite(scores).all())


def test_similar_items(case: Case, splits: Splits) -> None:
    model, test = case.build(splits[0]), splits[2]
    if not case.learns:
        with pytest.raises(TypeError, match="no vectors"):
            model.similar_items(test, [103])
        return
    similar, scores = model.similar_items(test, [103, 100, 103], k=14)
    assert similar.shape == scores.shape == (3, 14)
    assert torch.equal(similar[0], similar[2])
    for row, item in ((0, 3), (1, 0)):
        assert set(similar[row, :13].tolist()) == set(range(14)) - {item}
        assert similar[row, 13] == -1
        assert scores[row, 13] == -torch.inf
    assert bool((scores[:, :13].abs() <= 1 + 1e-5).all())
    assert bool((scores[:, :13].diff(dim=1) <= 0).all())
    frame = model.similar_items(test, [103], k=14, as_frame=True)
    assert list(frame.columns) == ["item", "rank", "similar", "name", "score"]
    assert frame["item"].tolist() == [103] * 13
    assert frame["similar"].tolist() == [100 + i for i in similar[0, :13].tolist()]
    with pytest.raises(ValueError, match="expected a whole number from 1"):
        model.similar_items(test, [103], k=15)


# ---------------------------------------------------------------------- parameters


@pytest.mark.parametrize("features", [False, True])
def test_parameters_are_finite_and_spread(case: Case, make_splits: SplitBuilder, features: bool) -> None:
    model = case.build(make_splits(features=features)[0])
    for name, parameter in model.named_parameters():
        assert bool(torch.isfinite(parameter).all()), name
        assert parameter.requires_grad, name
        if "bias" not in name:
            assert float(parameter.detach().std()) > 0, name
    assert case.learns == (next(model.parameters(), None) is not None)


@pytest.mark.parametrize("features", [False, True])
def test_reset_gives_new_finite_weights(learner: Case, make_splits: SplitBuilder, features: bool) -> None:
    model = learner.build(make_splits(features=features)[0])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    model.reset_parameters()
    first = {name: p.detach().clone() for name, p in model.named_parameters()}
    for name, parameter in first.items():
        assert bool(torch.isfinite(parameter).all()), name
    model.reset_parameters()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, first[name]) == name.endswith(learner.constant), name


def test_the_seed_decides_the_weights(learner: Case, make_splits: SplitBuilder) -> None:
    train = make_splits(features=True)[0]
    weights = [dict(learner.build(train, seed).named_parameters()) for seed in (3, 3, 4)]
    for name, parameter in weights[0].items():
        assert torch.equal(parameter, weights[1][name]), name
        assert torch.equal(parameter, weights[2][name]) == name.endswith(learner.constant), name


@pytest.mark.parametrize("features", [False, True])
def test_a_gradient_reaches_every_parameter(learner: Case, make_splits: SplitBuilder, features: bool) -> None:
    train = make_splits(features=features)[0]
    model = learner.build(train).train()
    user, item = train[INTERACTS].edge_label_index
    losses = model.training_losses(train, user, item, torch.Generator().manual_seed(0))
    for name, loss in losses.items():
        assert bool(torch.isfinite(loss)), name
    if model.knowledge_interval is not None:
        every = torch.arange(train[RELATES].num_edges)
        losses |= model.knowledge_losses(train, every, torch.Generator().manual_seed(0))
    torch.stack(list(losses.values())).sum().backward()
    unreached = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    # Without a knowledge graph nothing asks for relations and contrast.
    without = isinstance(model, KGRec) and not model.use_kg
    expected = ("encoder.conv.", "contrast.") if without else ()
    assert all(name.startswith(expected) if expected else False for name in unreached), unreached
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert bool(torch.isfinite(parameter.grad).all()), name


def test_steps_of_one_seed_are_equal_and_lower_the_loss(learner: Case, splits: Splits) -> None:
    histories = []
    for _ in range(2):
        model = learner.build(splits[0])
        histories.append([train_step(model, splits[0], 1.0, seed)["ranking"].item() for seed in range(40)])
    assert histories[0] == histories[1]
    assert np.mean(histories[0][-5:]) < np.mean(histories[0][:5])


def test_a_step_leaves_the_global_randomness_alone(learner: Case, splits: Splits) -> None:
    model = learner.build(splits[0])
    before = torch.get_rng_state()
    train_step(model, splits[0])
    model.recommend(splits[2], ["u1"], k=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_popularity_has_nothing_to_learn(splits: Splits) -> None:
    model, (user, item) = Popularity(splits[0]), splits[0][INTERACTS].edge_index
    with pytest.raises(TypeError, match="nothing to be trained by gradients"):
        model.training_losses(splits[0], user, item, torch.Generator())


# ---------------------------------------------------------------------- files


@pytest.mark.parametrize("features", [False, True])
def test_a_file_gives_the_same_scores_to_the_bit(
    case: Case, make_splits: SplitBuilder, tmp_path: Path, features: bool
) -> None:
    train, _, test = make_splits(features=features)
    model = case.build(train)
    if case.learns:
        train_step(model, train)
    path = tmp_path / "model.pt"
    model.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]
    content = torch.load(path, weights_only=True)
    assert content["model"] == case.model.__name__
    loaded = case.model.load(str(path), test)
    users = users_of(test)
    assert torch.equal(loaded.score_all(test, users), model.score_all(test, users))
    assert loaded.settings == model.settings
    assert {k: v for k, v in loaded.settings.items() if k in case.settings} == case.settings
    assert repr(loaded) == repr(model)
    assert torch.equal(case.model.load(path).score_all(test, users), model.score_all(test, users))


def test_a_file_of_before_names_and_links_were_kept(case: Case, splits: Splits, tmp_path: Path) -> None:
    path, test, users = tmp_path / "model.pt", splits[2], users_of(splits[2])
    model = case.build(splits[0])
    model.save(path)
    content = torch.load(path, weights_only=True)
    del content["schema"]["item_name"], content["schema"]["link"]
    torch.save(content, path)
    assert torch.equal(case.model.load(path, test).score_all(test, users), model.score_all(test, users))


def test_saving_again_replaces_the_file(learner: Case, splits: Splits, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    learner.build(splits[0], seed=1).save(path)
    model = learner.build(splits[0], seed=2)
    model.save(path)
    users = users_of(splits[2])
    loaded = learner.model.load(path)
    assert torch.equal(loaded.score_all(splits[2], users), model.score_all(splits[2], users))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failed_save_leaves_the_old_file(
    case: Case, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pt"
    model = case.build(splits[0])
    model.save(path)
    before = path.read_bytes()

    def fail(content: object, target: str) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        model.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_a_missing_file_or_folder_is_named(case: Case, splits: Splits, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*missing\.pt"):
        case.model.load(tmp_path / "missing.pt")
    with pytest.raises(FileNotFoundError, match=r"nowhere is not a folder"):
        case.build(splits[0]).save(tmp_path / "nowhere" / "model.pt")


def test_a_half_written_file_is_refused(case: Case, splits: Splits, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    case.build(splits[0]).save(path)
    whole = path.read_bytes()
    lengths = {0, 1, 2, 4, 10, 100, len(whole) // 4, len(whole) // 2, len(whole) - 100, len(whole) - 1}
    for length in sorted(lengths):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"model\.pt is damaged or no checkpoint of this package"):
            case.model.load(path)


def test_a_file_with_wrong_bytes_is_refused(learner: Case, splits: Splits, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    model = learner.build(splits[0])
    model.save(path)
    whole, weight = path.read_bytes(), next(model.parameters()).detach().numpy().tobytes()
    place = whole.index(weight)
    path.write_bytes(whole[: place + 3] + bytes([whole[place + 3] ^ 1]) + whole[place + 4 :])
    with pytest.raises(ValueError, match=r"model\.pt is damaged"):
        learner.model.load(path)


@pytest.mark.parametrize(
    "garbage",
    [
        b"not a checkpoint",
        b"\x80\x02}q\x00.",
        b"PK\x03\x04 but no archive",
        bytes(range(256)),
        "user,item\n1,2\n".encode("utf-16"),
    ],
)
def test_garbage_is_refused(garbage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "garbage.pt"
    path.write_bytes(garbage)
    with pytest.raises(ValueError, match=r"garbage\.pt is"):
        KGRec.load(path)


@pytest.mark.parametrize(
    "content",
    [{"weights": torch.zeros(2)}, [1, 2], torch.zeros(3), {"pyg_kgrec": 99}, {"pyg_kgrec": 1}],
)
def test_another_programs_checkpoint_is_refused(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"other\.pt is no checkpoint of this package"):
        BPRMF.load(path)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "evil",))

    path = tmp_path / "evil.pt"
    torch.save({"pyg_kgrec": 1, "model": Evil()}, path)
    with pytest.raises(ValueError, match=r"evil\.pt is damaged or no checkpoint"):
        KGRec.load(path)
    assert not (tmp_path / "evil").exists()


def test_another_models_file_is_refused(case: Case, splits: Splits, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    case.build(splits[0]).save(path)
    other = BPRMF if case.model is not BPRMF else LightGCN
    with pytest.raises(ValueError, match=f"holds a {case.model.__name__}, expected a {other.__name__}"):
        other.load(path)


def test_a_file_that_does_not_fit_the_store_is_refused(
    case: Case, make_splits: SplitBuilder, tmp_path: Path
) -> None:
    train = make_splits(features=True)[0]
    path = tmp_path / "model.pt"
    case.build(train).save(path)
    narrow = copy.copy(train)
    narrow[ITEM].x = train[ITEM].x[:, :-1]
    with pytest.raises(ValueError, match=r"data\['item'\].x has 3 features a node, expected 4"):
        case.model.load(path, narrow)
    related = copy.copy(train)
    related.relation_name = ["has genre", "made by", "something else"]
    with pytest.raises(ValueError, match="differs from the relations of training"):
        case.model.load(path, related)
    assert isinstance(case.model.load(path, train), case.model)


# ---------------------------------------------------------------------- other stores


def test_a_misfit_is_refused_wherever_a_store_goes_in(case: Case, make_splits: SplitBuilder) -> None:
    train, _, test = make_splits(features=True)
    model = case.build(train)
    wide, plain, unknown = (copy.copy(test) for _ in range(3))
    wide[USER].x = torch.zeros(10, 9)
    del plain[ENTITY].x
    unknown.relation_name = [*test.relation_name, "one more"]
    for data, message in (
        (wide, r"data\['user'\].x has 9 features a node, expected 3"),
        (plain, r"data\['entity'\].x has 0 features a node, expected 5"),
        (unknown, "1 .'one more'. unknown"),
    ):
        for call in (
            lambda d: model.score(d, ["u1"], [101]),
            lambda d: model.score_all(d, ["u1"]),
            lambda d: model.recommend(d, ["u1"]),
            lambda d: model.similar_items(d, [101]),
            lambda d: model.explain(d, "u1", 101),
        ):
            with pytest.raises(ValueError, match=message):
                call(data)


def permuted(data: HeteroData, seed: int = 0) -> HeteroData:
    """The same store with its nodes, relations and edges in another order; raw ids go along."""
    rng, out = torch.Generator().manual_seed(seed), copy.copy(data)
    new = {t: torch.randperm(data[t].num_nodes, generator=rng) for t in data.node_types}
    for node_type, place in new.items():
        old = place.argsort()
        for key in ("id", "name"):
            if key in data[node_type]:
                out[node_type][key] = [data[node_type][key][i] for i in old.tolist()]
        if "x" in data[node_type]:
            out[node_type].x = data[node_type].x[old]
    for edge_type in data.edge_types:
        source, _, target = edge_type
        for key, value in data[edge_type].items():
            if key.endswith("index"):
                out[edge_type][key] = torch.stack([new[source][value[0]], new[target][value[1]]])
    if ENTITY in data.node_types:
        relation = torch.randperm(len(data.relation_name), generator=rng)
        out[RELATES].edge_type = relation[data[RELATES].edge_type]
        out.relation_name = [data.relation_name[i] for i in relation.argsort().tolist()]
        order = torch.randperm(data[RELATES].edge_type.numel(), generator=rng)
        for key in ("edge_index", "edge_type"):
            out[RELATES][key] = out[RELATES][key][..., order]
    return out


@pytest.mark.parametrize("features", [False, True])
def test_a_store_in_another_order_gives_the_same_scores(
    case: Case, make_splits: SplitBuilder, features: bool
) -> None:
    train, _, test = make_splits(features=features)
    model = case.build(train)
    other = permuted(test)
    users, items = list(test[USER].id), list(test[ITEM].id)
    assert other[ITEM].id != items
    assert set(other[ITEM].id) == set(items)
    pairs = [users[i % 10] for i in range(14)]
    if case.learns:
        torch.testing.assert_close(model.score(other, pairs, items), model.score(test, pairs, items))
        first, second = (model.recommend(d, users, k=4, as_frame=True) for d in (test, other))
        assert first["item"].tolist() == second["item"].tolist()
    else:  # ties are broken by item order, so only whole counts are the same
        whole = [model.score(d, pairs, items).ceil() for d in (other, test)]
        assert torch.equal(*whole)


def grown(data: HeteroData, features: bool) -> HeteroData:
    """The store with a new first user, a new first item and a new first entity, which the item is."""
    out = copy.copy(data)
    rng = torch.Generator().manual_seed(1)
    for node_type, raw in ((USER, "new"), (ITEM, 7), (ENTITY, "new")):
        out[node_type].num_nodes = data[node_type].num_nodes + 1
        out[node_type].id = [raw, *data[node_type].id]
        if "name" in data[node_type]:
            out[node_type].name = ["new", *data[node_type].name]
        if features:
            x = data[node_type].x
            out[node_type].x = torch.cat([torch.randn(1, x.size(1), generator=rng), x])
    for edge_type in data.edge_types:
        for key, value in data[edge_type].items():
            if key.endswith("index"):
                out[edge_type][key] = value + 1
    pairs = out[INTERACTS]
    pairs.edge_index = torch.cat([pairs.edge_index, torch.tensor([[0, 0, 3], [5, 6, 0]])], dim=1)
    pairs.time = torch.cat([pairs.time, pairs.time[-1] + torch.tensor([1, 2, 3])])
    out[IS].edge_index = torch.cat([torch.tensor([[0], [0]]), out[IS].edge_index], dim=1)
    tail = out[RELATES].edge_index[1, 0]
    out[RELATES].edge_index = torch.cat(
        [out[RELATES].edge_index, torch.stack([torch.zeros(2, dtype=torch.long), tail.repeat(2)])], dim=1
    )
    out[RELATES].edge_type = torch.cat([out[RELATES].edge_type, torch.tensor([0, 1])])
    return out


@pytest.mark.parametrize("features", ["id", "x", "both"])
def test_new_nodes_are_scored_by_their_features_and_links(
    learner: Case, make_splits: SplitBuilder, features: str
) -> None:
    train, _, test = make_splits(features=True)
    model = learner.build(train, features=features)
    other = grown(test, features=True)
    users, items = list(other[USER].id), list(other[ITEM].id)
    score = model.score_all(other, users)
    assert bool(torch.isfinite(score).all())
    assert "new" in model.recommend(other, ["new", "u3"], k=5, as_frame=True)["user"].tolist()
    if features != "id":
        assert bool(score[0].any())
        assert bool(score[:, 0].any())
        for node_type, place in ((USER, (0, slice(None))), (ITEM, (slice(None), 0))):
            changed = copy.copy(other)
            changed[node_type].x = other[node_type].x.clone()
            changed[node_type].x[0] += 1
            different = model.score_all(changed, users)
            assert not torch.isclose(different[place], score[place]).any()
    assert items[0] == 7


def test_new_items_are_scored_by_their_triples(knower: Case, make_splits: SplitBuilder) -> None:
    train, _, test = make_splits()
    model = knower.build(train)
    other = grown(test, features=False)
    users = list(test[USER].id)
    score = model.score(other, users, [7] * len(users))
    assert bool(torch.isfinite(score).all())
    assert bool(score.any())
    fewer = copy.copy(other)
    fewer[RELATES].edge_index = other[RELATES].edge_index[:, :-2]
    fewer[RELATES].edge_type = other[RELATES].edge_type[:-2]
    assert not torch.isclose(model.score(fewer, users, [7] * len(users)), score).any()


def test_new_nodes_leave_the_old_ones_where_they_are(learner: Case, make_splits: SplitBuilder) -> None:
    train, _, test = make_splits(features=True)
    model = learner.build(train)
    other = grown(test, features=True)
    for edge_type, extra in ((INTERACTS, 3), (RELATES, 2)):
        other[edge_type].edge_index = other[edge_type].edge_index[:, :-extra]
    other[INTERACTS].time = other[INTERACTS].time[:-3]
    other[RELATES].edge_type = other[RELATES].edge_type[:-2]
    users, items = list(test[USER].id), [test[ITEM].id[i % 14] for i in range(10)]
    torch.testing.assert_close(model.score(other, users, items), model.score(test, users, items))


@pytest.mark.parametrize("features", ["x", "both"])
@pytest.mark.parametrize("node_type", [USER, ITEM, ENTITY])
def test_scores_depend_on_the_features(
    learner: Case, make_splits: SplitBuilder, features: str, node_type: str
) -> None:
    train, _, test = make_splits(features=True)
    model = learner.build(train, features=features)
    if node_type == ENTITY and "links" not in learner.hears:
        pytest.skip("hears nothing of entities")
    changed = copy.copy(test)
    changed[node_type].x = test[node_type].x + torch.linspace(-1, 1, test[node_type].x.size(1))
    users = users_of(test)
    assert not torch.allclose(model.score_all(changed, users), model.score_all(test, users))


def test_scores_do_not_depend_on_features_that_are_not_used(learner: Case, make_splits: SplitBuilder) -> None:
    train, _, test = make_splits(features=True)
    model = learner.build(train, features="id")
    changed = copy.copy(test)
    for node_type in (USER, ITEM, ENTITY):
        changed[node_type].x = test[node_type].x + 1
    users = users_of(test)
    assert torch.equal(model.score_all(changed, users), model.score_all(test, users))


@pytest.mark.parametrize("with_x", [{USER}, {ITEM}, {ENTITY}, {USER, ENTITY}, {ITEM, ENTITY}])
@pytest.mark.parametrize("features", ["x", "both"])
def test_features_of_some_node_types_only(
    learner: Case, make_splits: SplitBuilder, with_x: set[str], features: str
) -> None:
    train, _, test = make_splits(features=True)
    for data in (train, test):
        for node_type in {USER, ITEM, ENTITY} - with_x:
            del data[node_type].x
    model = learner.build(train, features=features)
    train_step(model, train)
    score = model.score_all(test, users_of(test))
    assert bool(torch.isfinite(score).all())
    assert score.unique().numel() > 50


def test_a_store_without_knowledge(case: Case, make_splits: SplitBuilder, tmp_path: Path) -> None:
    train, _, test = make_splits(knowledge=False, features=True)
    if case.model is KTUP and case.settings.get("use_kg", True):
        with pytest.raises(
            ValueError, match="the store has no relations, expected a knowledge graph for KTUP"
        ):
            case.build(train)
        return
    model = case.build(train)
    if case.learns:
        train_step(model, train)
    score = model.score_all(test, users_of(test))
    assert bool(torch.isfinite(score).all())
    model.save(tmp_path / "model.pt")
    assert torch.equal(case.model.load(tmp_path / "model.pt", test).score_all(test, users_of(test)), score)


# ---------------------------------------------------------------------- caches and references


def test_nothing_cached_outlives_the_weights(learner: Case, splits: Splits, tmp_path: Path) -> None:
    train, _, test = splits
    users = users_of(test)

    def agrees(model: Recommender) -> Tensor:
        """The scores, which a fresh model with the same weights gives too, to the bit."""
        score = model.score_all(test, users)
        model.save(tmp_path / "model.pt")
        assert torch.equal(learner.model.load(tmp_path / "model.pt").score_all(test, users), score)
        return score

    model = learner.build(train, seed=1)
    scores = [agrees(model)]
    train_step(model, train)
    scores.append(agrees(model))
    model.load_state_dict(learner.build(train, seed=2).state_dict())
    scores.append(agrees(model))
    model.reset_parameters()
    scores.append(agrees(model))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    scores.append(agrees(model))
    for i, score in enumerate(scores):
        assert not any(torch.allclose(score, other) for other in scores[:i])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_nothing_cached_outlives_the_device(case: Case, make_splits: SplitBuilder, tmp_path: Path) -> None:
    train, _, test = make_splits(features=True)
    model, users = case.build(train), users_of(test)
    score = model.score_all(test, users)
    model.to("cuda")
    assert model.score_all(test, users).device.type == "cuda"
    torch.testing.assert_close(model.score_all(test, users).cpu(), score, rtol=1e-4, atol=1e-5)
    items, _ = model.recommend(test, ["u1", "u2"], k=3)
    assert len(model.recommend(test, ["u1", "u2"], k=3, as_frame=True)) == items.numel()
    if case.learns:
        user, item = train[INTERACTS].edge_label_index.cuda()
        losses = model.train().training_losses(train, user, item, torch.Generator("cuda").manual_seed(0))
        torch.stack(list(losses.values())).sum().backward()
        assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    model.save(tmp_path / "model.pt")
    assert torch.equal(model.cpu().score_all(test, users), score)
    assert torch.equal(case.model.load(tmp_path / "model.pt").score_all(test, users), score)


def test_nothing_cached_outlives_the_graph(case: Case, splits: Splits) -> None:
    train, _, test = splits
    model, users = case.build(train), users_of(test)
    before = model.score_all(test, users)
    test[INTERACTS].edge_index[1, :20] = (test[INTERACTS].edge_index[1, :20] + 1) % 14
    changed = model.score_all(test, users)
    assert torch.equal(changed, model.score_all(copy.deepcopy(test), users))
    assert torch.equal(changed, before) != ("interactions" in case.hears)


@pytest.mark.parametrize("linked", LINKING)
def test_nothing_cached_outlives_the_links(linked: str, splits: Splits) -> None:
    train, _, test = splits
    model, users = CASES[linked].build(train), users_of(test)
    before = model.score_all(test, users)
    test[IS].edge_index[0, 0] = 13
    changed = model.score_all(test, users)
    assert torch.equal(changed, model.score_all(copy.deepcopy(test), users))
    assert not torch.allclose(changed, before)


@pytest.mark.parametrize("part", ["triples", "types", "relations"])
def test_nothing_cached_outlives_the_knowledge(knower: Case, splits: Splits, part: str) -> None:
    train, _, test = splits
    model, users = knower.build(train), users_of(test)
    before = model.score_all(test, users)
    if part == "triples":
        test[RELATES].edge_index[1, 0] = test[RELATES].edge_index[1, 1]
    elif part == "types":
        test[RELATES].edge_type[:5] = 2
    else:
        test.relation_name = test.relation_name[::-1]
    changed = model.score_all(test, users)
    assert torch.equal(changed, model.score_all(copy.deepcopy(test), users))
    assert not torch.allclose(changed, before)


def test_the_graph_is_not_kept(case: Case, make_splits: SplitBuilder) -> None:
    train, test = make_splits(features=True)[::2]
    model = case.build(train)
    if case.learns:
        train_step(model, train)
    model.recommend(test, ["u1"], k=2)
    watched = [weakref.ref(o) for o in (train, test, test[INTERACTS].edge_index, test[RELATES].edge_index)]
    del train, test
    gc.collect()
    assert [ref() for ref in watched] == [None] * 4


def test_the_store_is_left_alone(case: Case, make_splits: SplitBuilder) -> None:
    train, _, test = make_splits(features=True)
    before = copy.deepcopy((train, test))
    model = case.build(train)
    if case.learns:
        train_step(model, train)
    model.recommend(test, ["u1"], k=2, as_frame=True)
    for data, old in zip((train, test), before):
        assert list(data.to_dict()) == list(old.to_dict())
        for kind in (*data.node_types, *data.edge_types):
            assert list(data[kind].keys()) == list(old[kind].keys())
            for key, value in data[kind].items():
                same = (
                    torch.equal(value, old[kind][key])
                    if isinstance(value, Tensor)
                    else value == old[kind][key]
                )
                assert same, (kind, key)


def test_settings_hold_what_was_given(case: Case, splits: Splits) -> None:
    settings = case.build(splits[0]).settings
    assert settings.items() >= case.settings.items()
    assert "data" not in settings
    assert "self" not in settings


def test_a_copy_on_double_precision(learner: Case, splits: Splits) -> None:
    model = learner.build(splits[0])
    single = model.score_all(splits[2], users_of(splits[2]))
    double = copy.deepcopy(model).double()
    train_step(double, splits[0])
    double.load_state_dict(model.state_dict())
    score = double.score_all(splits[2], users_of(splits[2]))
    assert score.dtype == torch.float64
    torch.testing.assert_close(score.float(), single, rtol=1e-4, atol=1e-5)


def test_repr_names_the_model(case: Case, splits: Splits) -> None:
    assert repr(case.build(splits[0])).startswith(case.model.__name__ + "(")
