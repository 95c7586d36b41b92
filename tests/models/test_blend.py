from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_kgrec import (
    BPRMF,
    EASE,
    KSR,
    MKR,
    Blend,
    ItemKNN,
    KGRec,
    LightGCN,
    Popularity,
    Recommender,
    evaluate,
    fit,
)
from pyg_kgrec._files import pack, read_packed
from pyg_kgrec.data import ENTITY, INTERACTS, IS, ITEM, USER
from pyg_kgrec.models.blend import _simplex, _steps
from pyg_kgrec.testing import build_splits, permuted, warns_once, with_newcomers

pytestmark = pytest.mark.usefixtures("one_thread")

SplitBuilder = Callable[..., tuple[HeteroData, HeteroData, HeteroData]]
Splits = tuple[HeteroData, HeteroData, HeteroData]
QUICK = {"max_epochs": 1, "progress": False}
USERS = torch.arange(10)


def bprmf(train: HeteroData, seed: int = 0) -> BPRMF:
    torch.manual_seed(seed)
    return BPRMF(train, hidden_channels=4)


def fitted(train: HeteroData, weights: object = (0.3, 0.7)) -> Blend:
    """A blend of a matrix factorisation and an EASE, fitted."""
    blend = Blend({"mf": bprmf(train), "ease": EASE(train, 2.0)}, weights)  # type: ignore[arg-type]
    fit(blend, train, **QUICK)
    return blend


def z(score: Tensor) -> Tensor:
    """Scores less their mean over the deviation, row by row, in float64."""
    score = score.double().numpy()
    return torch.from_numpy((score - score.mean(1, keepdims=True)) / score.std(1, keepdims=True))


@pytest.fixture
def splits() -> Splits:
    return build_splits()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a blend."""
    path = tmp_path_factory.mktemp("blend") / "blend.pt"
    fitted(build_splits()[0]).save(path)
    return path


# ------------------------------------------------------------------ scores


def test_the_scores_are_weighted_deviations_from_each_users_mean(splits: Splits) -> None:
    train, _, test = splits
    blend = fitted(train)
    mf, ease = blend.parts.values()
    expected = 0.3 * z(mf.score_all(test, USERS)) + 0.7 * z(ease.score_all(test, USERS))
    torch.testing.assert_close(blend.score_all(test, USERS).double(), expected, rtol=1e-4, atol=1e-5)
    pairs = torch.cartesian_prod(USERS, torch.arange(14))[torch.randperm(140)]
    torch.testing.assert_close(
        blend.score(test, *pairs.t()).double(), expected[tuple(pairs.t())], rtol=1e-4, atol=1e-5
    )


def test_a_part_whose_scores_are_equal_says_nothing(splits: Splits) -> None:
    train, _, test = splits
    mf = bprmf(train)
    torch.nn.init.zeros_(mf.user_encoder.weight)
    ease = EASE(train, 2.0)
    for part in (mf, ease):
        part.signature = part.signature.trained_on(train)
    fit(ease, train)
    blend = Blend([mf, ease], [0.4, 0.6])
    torch.testing.assert_close(
        blend.score_all(test, USERS).double(), 0.6 * z(ease.score_all(test, USERS)), rtol=1e-4, atol=1e-5
    )


def test_one_part_alone_ranks_as_it_does(splits: Splits) -> None:
    train, _, test = splits
    blend = fitted(train, {"ease": 0, "mf": 1})
    assert blend.weights == {"mf": 1, "ease": 0}
    items, _ = blend.recommend(test, USERS, k=5)
    assert torch.equal(items, blend.parts["mf"].recommend(test, USERS, k=5)[0])
    cosines = blend.parts["mf"].similar_items(test, torch.tensor([3]), k=4)
    for mine, theirs in zip(blend.similar_items(test, torch.tensor([3]), k=4), cosines):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_items_in_another_order_are_matched_by_raw_id(splits: Splits) -> None:
    train, _, test = splits
    other = permuted(test)
    blend = fitted(train)
    users, items = list(test[USER].id), [test[ITEM].id[i % 14] for i in range(10)]
    torch.testing.assert_close(blend.score(other, users, items), blend.score(test, users, items))


# ------------------------------------------------------------------ weights


def test_the_best_weights_on_validation_are_kept(make_splits: SplitBuilder) -> None:
    train, val, _ = make_splits(num_users=30, num_items=40, per_user=8)
    monitor = "ndcg@3"
    blend = Blend([ItemKNN(train, 10, 1.0), EASE(train, 2.0), Popularity(train)])
    history = fit(blend, train, val, monitor=monitor, **QUICK)
    names = [f"weight {name}" for name in ("ItemKNN", "EASE", "Popularity")]
    assert list(history.columns[:4]) == ["epoch", *names]
    np.testing.assert_allclose(history[names].sum(axis=1), 1)
    assert len(history) >= 66
    assert not history.duplicated(names).any()
    best = history.loc[history[monitor].idxmax()]
    assert list(blend.weights.values()) == pytest.approx(best[names].tolist())
    assert evaluate(blend, val, k=int(monitor[-1]))[monitor] == pytest.approx(best[monitor])
    # What is kept while weights are chosen gives the figures that are measured without it.
    for _, row in history.iloc[[0, 31, len(history) - 1]].iterrows():
        fixed = Blend(list(blend.parts.values()), row[names].tolist())
        assert evaluate(fixed, val, k=int(monitor[-1]))[monitor] == pytest.approx(row[monitor])
    assert set(blend.histories) == {"ItemKNN", "EASE", "Popularity"}


def test_weights_that_were_not_chosen_to_the_end_are_not_kept(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val, _ = splits
    blend = Blend([EASE(train, l2=[1.0, 2.0]), Popularity(train)])
    for number in (1, 5):  # in the search of a part, and in that of the weights
        with monkeypatch.context() as patch:
            figures = iter([{"ndcg@3": 0.2}] * number)
            patch.setattr("pyg_kgrec.training.ranking", lambda *args, figures=figures: next(figures))
            with pytest.raises(StopIteration):
                fit(blend, train, val, monitor="ndcg@3", progress=False)
    assert blend.parts["EASE"].choice["l2"] == 1  # type: ignore[attr-defined]
    assert list(blend.weights.values()) == [0.5, 0.5]
    with pytest.raises(ValueError, match="this Blend has no weights yet"):
        blend.recommend(train, k=3)
    fit(blend, train, val, monitor="ndcg@3", progress=False)
    assert bool((blend.recommend(train, k=3)[0] >= 0).all())


def test_weights_by_click_through(splits: Splits) -> None:
    train, val, _ = splits
    val = copy.copy(val)
    pairs = torch.cartesian_prod(USERS, torch.arange(14)).t()
    del val[INTERACTS].edge_label_time
    val[INTERACTS].edge_label_index, val[INTERACTS].edge_label = pairs, (pairs.sum(0) % 3 == 0).long()
    blend = Blend([bprmf(train), EASE(train, 2.0)])
    history = fit(blend, train, val, monitor="auc", **QUICK)
    best = history.loc[history["auc"].idxmax()]
    assert history["auc"].nunique() > 5
    assert blend.weights["EASE"] == pytest.approx(best["weight EASE"])
    assert evaluate(blend, val, task="ctr")["auc"] == pytest.approx(best["auc"])


def test_parts_are_fitted_once_and_with_arguments_of_their_own(splits: Splits) -> None:
    train, val, _ = splits
    done = bprmf(train)
    fit(done, train, val, monitor="ndcg@3", **QUICK)
    before = done.user_encoder.weight.detach().clone()
    blend = Blend(
        {"done": done, "new": bprmf(train), "ease": EASE(train, [1, 2])},
        [0.2, 0.2, 0.6],
        fit={"new": {"max_epochs": 3}},
    )
    fit(blend, train, val, monitor="ndcg@3", patience=None, **QUICK)
    assert torch.equal(done.user_encoder.weight, before)
    assert set(blend.histories) == {"new", "ease"}
    assert len(blend.histories["new"]) == 3
    assert blend.histories["ease"]["l2"].tolist()[:2] == [1, 2]
    alone = bprmf(train)
    fit(alone, train, val, monitor="ndcg@3", patience=None, max_epochs=3, progress=False)
    assert torch.equal(blend.parts["new"].user_encoder.weight, alone.user_encoder.weight)


def test_a_blend_of_fitted_models_with_weights_is_ready(splits: Splits) -> None:
    train, _, test = splits
    blend = fitted(train)
    again = Blend(blend.parts, blend.weights)
    assert torch.equal(again.score_all(test, USERS), blend.score_all(test, USERS))
    with pytest.raises(ValueError, match="this Blend has no weights yet, expected a call of fit"):
        Blend(blend.parts).recommend(test, USERS, k=3)
    with pytest.raises(ValueError, match="EASE has not been solved"):
        Blend([EASE(train), ItemKNN(train)], [0.5, 0.5]).recommend(test, USERS, k=3)
    equal = Blend(blend.parts)
    assert list(fit(equal, train).columns) == ["epoch"]
    assert equal.weights == {"mf": 0.5, "ease": 0.5}


def test_checkpoints_of_parts_stand_in_folders_of_their_names(splits: Splits, tmp_path: Path) -> None:
    train, val, _ = splits
    blend = Blend([bprmf(train), EASE(train, 2.0)], [0.5, 0.5])
    fit(blend, train, val, monitor="ndcg@3", checkpoint_dir=tmp_path, **QUICK)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["BPRMF"]
    assert (tmp_path / "BPRMF" / "last.ckpt").is_file()


def test_early_stopping_begins_anew_with_each_part(splits: Splits) -> None:
    train, val, _ = splits
    stop = EarlyStopping("ndcg@3", mode="max", patience=1, min_delta=1.0, check_on_train_epoch_end=False)
    blend = Blend({"one": bprmf(train), "other": bprmf(train, 1)}, [0.5, 0.5])
    fit(blend, train, val, monitor="ndcg@3", max_epochs=4, progress=False, callbacks=[stop])
    assert [len(history) for history in blend.histories.values()] == [2, 2]
    assert stop.wait_count == 0


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 8, 32])
def test_the_coarse_grid_of_weights_is_small_and_whole(number: int) -> None:
    steps = _steps(number)
    points = _simplex(number, steps)
    assert len(set(points)) == len(points) <= 100
    assert all(sum(point) == steps and min(point) >= 0 and len(point) == number for point in points)
    assert all(tuple(steps * (i == j) for j in range(number)) in points for i in range(number))


# ------------------------------------------------------------------ strangers


def test_a_stranger_is_answered_by_the_parts_that_know_him(splits: Splits) -> None:
    train, _, test = splits
    blend = fitted(train)
    data = with_newcomers(test, [(10, 0), (10, 2), (10, 4)])
    with warns_once(None):
        score = blend.score_all(data, ["n0"])
    own = blend.parts["ease"].score_all(test, USERS)  # of items that are known
    assert blend.strangers()["user with history"] == "heard"
    alone = blend.parts["ease"].score_all(data, ["n0"])[:, :14]
    assert own.shape == (10, 14)
    torch.testing.assert_close(score[:, :14].double(), z(alone), rtol=1e-4, atol=1e-5)
    with warns_once("1 user is a stranger to this Blend"):
        blend.score_all(data, ["n1"])
    folded = blend.fold_in(data, ["n0"])
    with warns_once(None):
        assert not torch.allclose(folded.score_all(data, ["n0"])[:, :14], score[:, :14])
    assert torch.equal(blend.score_all(data, ["n0"]), score)


def test_a_new_item_is_answered_by_the_parts_that_know_it(splits: Splits) -> None:
    train, _, test = splits
    torch.manual_seed(0)
    blend = Blend({"mkr": MKR(train, hidden_channels=4, num_negatives=2), "ease": EASE(train, 2.0)}, [0, 1])
    fit(blend, train, **QUICK)
    linked = with_newcomers(test, links=[(14, int(test["item", "is", "entity"].edge_index[1, 0]))])
    score = blend.score_all(linked, USERS)
    mkr = blend.parts["mkr"].score_all(linked, USERS)
    known = mkr[:, :15].double()
    expected = (known[:, 14] - known.mean(1)) / known.std(1, correction=0)
    torch.testing.assert_close(score[:, 14].double(), expected, rtol=1e-3, atol=1e-4)
    assert bool((score[:, 15] < score[:, :15].amin(dim=1)).all())
    assert str(blend.explain(linked, "u3", 900)).count("mkr") >= 1


# ------------------------------------------------------------------ explanation


def test_the_shares_of_the_parts_are_the_score(splits: Splits) -> None:
    train, _, test = splits
    torch.manual_seed(0)
    blend = Blend({"kg <b>": KGRec(train, hidden_channels=8), "ease": EASE(train, 2.0)}, [0.6, 0.4])
    fit(blend, train, **QUICK)
    why = blend.explain(test, "u3", 104)
    assert why.score == pytest.approx(float(blend.score(test, ["u3"], [104])), abs=1e-5)
    assert why.parts["share"].sum() == pytest.approx(why.score, abs=1e-5)
    own = set(blend.parts["ease"].explain(test, "u3", 104).units["name"])
    assert own <= set(why.units["name"])
    scores = dict(zip(why.parts["name"], why.parts["score"]))
    assert scores["ease"] == pytest.approx(float(blend.parts["ease"].score(test, ["u3"], [104])), abs=1e-5)
    assert str(why.explanations["ease"]) == str(blend.parts["ease"].explain(test, "u3", 104))
    assert "kg <b>: " in str(why)
    assert "kg &lt;b&gt;" in why._repr_html_()
    assert "<b>:" not in why._repr_html_()
    assert set(why.to_frame()["part"]) == {"kg <b>"}
    graph = why.to_hetero()
    assert float(graph["entity", "relates", "entity"].edge_mask.max()) > 0
    assert why.plot().get_title()


def test_all_parts_leave_out_the_history_whether_they_know_the_item_or_not(splits: Splits) -> None:
    train, _, test = splits
    torch.manual_seed(0)
    blend = Blend({"kg": KGRec(train, hidden_channels=8), "ease": EASE(train, 2.0)}, [0.5, 0.5])
    fit(blend, train, **QUICK)
    # Item 14 is new: EASE knows nothing of it, and yet of the user and of the items around it in the list.
    data = with_newcomers(test, links=[(14, int(test["item", "is", "entity"].edge_index[1, 0]))])
    why = blend.explain(data, "u3", 900)
    for row in (why.units["kind"] == "history").to_numpy().nonzero()[0][:3]:
        gone = list(data[ITEM].id).index(why.units["id"][row])
        short = copy.copy(data)
        user, item = data[INTERACTS].edge_index
        stays = (user != 3) | (item != gone)
        for name in ("edge_index", "time", "weight"):
            if name in data[INTERACTS]:
                short[INTERACTS][name] = data[INTERACTS][name][..., stays]
        score = blend.score_all(short, ["u3"])[0]
        torch.testing.assert_close(why.scores_without([row]), score, rtol=1e-4, atol=1e-4)
        unseen = torch.ones(score.numel(), dtype=torch.bool)
        unseen[blend.prepare(data).seen.of(torch.tensor([3]))] = False
        rank = 1 + int((score > score[14])[unseen].sum())
        assert why.rank + why.units["rank_change"][row] == why.without([row], k=3).rank[1] == rank


def test_a_part_that_knows_nothing_of_an_item_any_more_has_no_share_in_its_score(splits: Splits) -> None:
    train, _, test = splits
    torch.manual_seed(0)
    parts = {"mkr": MKR(train, hidden_channels=4, num_negatives=2), "gcn": LightGCN(train, 4)}
    blend = Blend({"ease": EASE(train, 2.0), "two": Blend(parts, [0.4, 0.6])}, [0.5, 0.5])
    fit(blend, train, **QUICK)
    # Item 14 is new: MKR knows its entity, LightGCN who had it, EASE nothing of it.
    entity = int(test[IS].edge_index[1, 0])
    data = with_newcomers(test, [(5, 14), (6, 14)], [(14, entity)])
    bare = with_newcomers(test, [(5, 14), (6, 14)])
    why, expected = blend.explain(data, "u3", 900), blend.score_all(bare, ["u3"])[0]
    row = int((why.units["kind"] == "entity").to_numpy().nonzero()[0][0])
    torch.testing.assert_close(why.scores_without([row]), expected, rtol=1e-4, atol=1e-4)
    assert why.score - why.units["contribution"][row] == pytest.approx(float(expected[14]), abs=1e-4)
    # Where no other part knows the item, it comes after all that are known, with those that nobody ever knew.
    data, bare = with_newcomers(test, links=[(14, entity)]), with_newcomers(test)
    why = blend.explain(data, "u3", 900)
    expected = blend.score_all(bare, ["u3"])[0]
    torch.testing.assert_close(why.scores_without([0]), expected, rtol=1e-4, atol=1e-4)
    assert int(expected.argmin()) in (14, 15)


# ------------------------------------------------------------------ files


def test_a_file_holds_all_parts_whole(splits: Splits, tmp_path: Path) -> None:
    train, _, test = splits
    inner = fitted(train)
    torch.manual_seed(0)
    outer = Blend({"inner": inner, "kg": KGRec(train, hidden_channels=4)}, [0.25, 0.75])
    fit(outer, train, **QUICK)
    outer.save(tmp_path / "blend.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["blend.pt"]
    loaded = Blend.load(tmp_path / "blend.pt", test)
    assert torch.equal(loaded.score_all(test, USERS), outer.score_all(test, USERS))
    assert [type(part) for part in loaded.parts.values()] == [Blend, KGRec]
    assert loaded.weights == outer.weights
    assert loaded.settings == outer.settings
    assert not loaded.training
    assert str(loaded.explain(test, "u3", 104)) == str(outer.explain(test, "u3", 104))


@pytest.mark.parametrize(
    "forge",
    [
        lambda c: c["parts"].clear(),
        lambda c: c.update(parts=[1]),
        lambda c: c["parts"].update(ease=3),
        lambda c: c["parts"]["ease"].update(model="Nobody"),
        lambda c: c["parts"]["ease"].update(model="Recommender"),
        lambda c: c["parts"]["ease"].pop("state_dict"),
        lambda c: c["parts"]["ease"]["settings"].update(l2=-1),
        lambda c: c["parts"]["ease"]["settings"].update(wild=1),
        lambda c: c["parts"]["ease"]["state_dict"].update(weight=torch.zeros(3, 3)),
        lambda c: c["settings"].update(weights=[2.0, -1.0]),
        lambda c: c["settings"].update(weights="all"),
        lambda c: c["state_dict"].update(weight=torch.zeros(3)),
        lambda c: c["state_dict"].pop("chosen"),
        lambda c: c["parts"].update(ease=c),
    ],
)
def test_forged_files_are_refused(saved: Path, tmp_path: Path, forge: Callable[[dict], object]) -> None:
    path = tmp_path / "blend.pt"
    content = read_packed(saved, "model")
    forge(content)
    path.write_bytes(pack(content, "model"))
    with pytest.raises(ValueError, match=r"is no file of a Blend") as caught:
        Blend.load(path)
    assert len(str(caught.value)) <= 400


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([0.5, 0.6], ValueError, "the weights sum to 1.1, expected 1"),
        ([0.5, 0.4], ValueError, "the weights sum to 0.9, expected 1"),
        ([-0.5, 1.5], ValueError, "the weight of mf is -0.5, expected a number from 0 to 1"),
        ([float("nan"), 1], ValueError, "the weight of mf is nan"),
        ([1], ValueError, "weights has 1 entries, expected one for each of the 2 parts"),
        ([], ValueError, "weights has 0 entries"),
        (["1", 0], TypeError, "the weight of mf is '1', expected a number"),
        ([True, 0], TypeError, "the weight of mf is True"),
        ("equal", TypeError, "weights is 'equal', expected a list or a dictionary"),
        (0.5, TypeError, "weights is 0.5"),
        ({"mf": 1}, ValueError, "weights and models differ in the name 'ease'"),
        ({"mf": 0.5, "ease": 0.4, "x" * 10**5: 0.1}, ValueError, "weights and models differ in the name"),
    ],
)
def test_weights_that_are_none(splits: Splits, weights: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        Blend({"mf": bprmf(splits[0]), "ease": EASE(splits[0], 2.0)}, weights)  # type: ignore[arg-type]
    assert len(str(caught.value)) <= 400


def test_parts_that_are_none(splits: Splits, make_splits: SplitBuilder) -> None:
    train = splits[0]
    ease = EASE(train, 2.0)
    other = EASE(make_splits(num_items=15)[0])
    for models, error, message in (
        ([], ValueError, "models holds 0 recommenders, expected 1 to 32"),
        (ease, TypeError, "models is an EASE, expected a list of recommenders"),
        ("EASE", TypeError, "models is a str"),
        ([ease, ItemKNN], TypeError, "the part 'ItemKNN' is the class ItemKNN, expected a recommender"),
        ([ease, 3], TypeError, "the part 'int' is an int"),
        ([ease, ease], ValueError, "stands there twice"),
        ({"a": ease, 3: bprmf(train)}, ValueError, "names of a blend's parts are strings"),
        ({"a/b": ease}, ValueError, "names of a blend's parts are strings without slashes"),
        ([ease, other], ValueError, "have different items, expected models of one store"),
        ([ease, EASE(make_splits(knowledge=False)[0])], ValueError, "have different"),
        ([ease, EASE(make_splits(features=True)[0])], ValueError, "have different features"),
    ):
        with pytest.raises(error, match=message) as caught:
            Blend(models)  # type: ignore[arg-type]
        assert len(str(caught.value)) <= 400
    for arguments, error, message in (
        ({"KGRec": {}}, ValueError, "fit names 'KGRec', which is none of the parts"),
        ({"EASE": 3}, TypeError, "expected a dictionary of arguments"),
        (3, TypeError, "fit is 3"),
    ):
        with pytest.raises(error, match=message):
            Blend([ease], fit=arguments)  # type: ignore[arg-type]


def test_what_a_part_cannot_be_fitted_with_is_refused_before_another_is_fitted(splits: Splits) -> None:
    train, val, _ = splits
    blend = Blend({"one": bprmf(train), "two": bprmf(train)}, fit={"two": {"patience": 0}})
    with pytest.raises(ValueError, match=r"^the part two cannot be fitted: patience is 0, expected at"):
        fit(blend, train, val, max_epochs=1, monitor="ndcg@5", progress=False)
    assert all(part.signature.trained is None for part in blend.parts.values())


def test_two_of_a_kind_are_numbered(splits: Splits) -> None:
    train = splits[0]
    parts: list[Recommender] = [EASE(train), bprmf(train), EASE(train, 5.0)]
    assert list(Blend(parts).parts) == ["EASE 1", "BPRMF", "EASE 2"]
    assert repr(Blend(parts, [0.25, 0.5, 0.25])) == "Blend(EASE 1: 0.25, BPRMF: 0.5, EASE 2: 0.25)"


def test_a_blend_hears_what_its_parts_hear() -> None:
    """A session model hears validation interactions, which a test store holds as seen."""
    train, _, test = build_splits()
    torch.manual_seed(0)
    ksr = KSR(train, embedding_channels=4, hidden_channels=4, kg_channels=4, kg_embedding=_vectors(train))
    seen = test[INTERACTS].seen_edge_index
    for parts in ({"ksr": ksr}, {"mf": bprmf(train), "ksr": ksr}):
        blend = Blend(parts, [1 / len(parts)] * len(parts))
        heard = {tuple(pair) for pair in blend.history(blend.prepare(test)).t().tolist()}
        assert heard == {
            tuple(pair) for pair in torch.cat([test[INTERACTS].edge_index, seen], 1).t().tolist()
        }
    alone = Blend([bprmf(train)], [1.0])
    assert alone.history(alone.prepare(test)).size(1) == test[INTERACTS].edge_index.unique(dim=1).size(1)


def _vectors(data: HeteroData) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(data[ENTITY].num_nodes, 4, generator=generator),
        torch.randn(len(data.relation_name), 4, generator=generator),
    )
