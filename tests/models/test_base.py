"""What the base class does for every model, tried on two that use the most and the least of it."""

from __future__ import annotations

import copy
import errno
import inspect
import os
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.utils import parametrize
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_kgrec import (
    ALS,
    BPRMF,
    EASE,
    KSR,
    KTUP,
    MKR,
    Blend,
    ItemKNN,
    KGRec,
    LightGCN,
    Popularity,
    Recommender,
    RP3beta,
    choose_threshold,
    evaluate,
    evaluate_explanations,
    export,
    fit,
    refit,
)
from pyg_kgrec.data import ENTITY, ITEM, USER
from pyg_kgrec.models import encoding
from pyg_kgrec.models.encoding import Translations
from pyg_kgrec.testing import Splits, build_splits, build_store, users_of, warns_once
from pyg_kgrec.transforms import RandomSplit

pytestmark = pytest.mark.usefixtures("one_thread")


class Case:
    """A model with small settings."""

    def __init__(self, model: type[Recommender], **settings: Any) -> None:
        self.model, self.settings = model, settings

    def build(self, data: HeteroData, seed: int = 0) -> Recommender:
        seed_everything(seed)
        return self.model(data, **self.settings)


@pytest.fixture(params=[BPRMF, KGRec], ids=["BPRMF", "KGRec"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param, hidden_channels=8)


@pytest.fixture
def splits() -> Splits:
    return build_splits()


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


def test_a_store_without_raw_ids(case: Case) -> None:
    train, _, test = build_splits(ids=False)
    model = case.build(train)
    frame = model.recommend(test, torch.tensor([0, 1]), k=2, as_frame=True)
    assert list(frame.columns) == ["user", "rank", "item", "score"]
    assert frame["user"].tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="this store has none"):
        model.recommend(test, ["u1"])


def test_pairs_to_leave_out_are_positions_where_a_store_has_no_ids(case: Case) -> None:
    train, _, test = build_splits(ids=False)
    model, users = case.build(train), torch.tensor([4, 1])
    whole, _ = model.recommend(test, users, k=14)
    first = model.recommend(test, users, k=2, as_frame=True)
    pairs = list(first[["user", "item"]].itertuples(index=False, name=None))
    for given in (first, pairs, first.astype(object), torch.tensor(pairs).t()):
        without, _ = model.recommend(test, users, k=14, exclude=given)
        assert without[:, :-2].tolist() == whole[:, 2:].tolist()
    for nothing in ([], (), first[:0], pd.DataFrame({"user": [], "item": []})):
        assert torch.equal(model.recommend(test, users, k=14, exclude=nothing)[0], whole)
    for wrong, said in (
        ([(1, 14)], "item index 14 is out of range, expected 0..13"),
        ([(-1, 3)], "user index -1 is out of range"),
        ([("u1", 3)], "expected integers"),
        (pd.DataFrame({"user": [1.5], "item": [3]}), "user ids hold float"),
    ):
        with pytest.raises((TypeError, ValueError), match=said):
            model.recommend(test, users, k=3, exclude=wrong)


def test_no_pairs_leave_nothing_out(case: Case, splits: Splits) -> None:
    model, test = case.build(splits[0]), splits[2]
    whole, _ = model.recommend(test, ["u1"], k=14)
    for nothing in ([], pd.DataFrame({"user": [], "item": []})):
        assert torch.equal(model.recommend(test, ["u1"], k=14, exclude=nothing)[0], whole)


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


@pytest.mark.parametrize("k", [0, -1, 15, 2.0, True, "3", None])
def test_a_bad_length_is_refused(case: Case, splits: Splits, k: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="expected a whole number from 1 to the 14 items"):
        case.build(splits[0]).recommend(splits[2], ["u1"], k=k)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"items": [103, 104]}, "k is 3, expected a whole number from 1 to the 2 candidates"),
        ({"items": [103, 103, 104, 104]}, "k is 3, expected a whole number from 1 to the 2 candidates"),
        ({"items": [103, 104, 7]}, "item.*7"),
        ({"items": torch.tensor([0, 1, 14])}, "item index 14 is out of range"),
        ({"items": []}, "items is empty, expected at least one candidate"),
        ({"exclude": [("u1", 7)]}, "item.*7"),
        ({"exclude": [("nobody", 103)]}, "user.*nobody"),
        ({"exclude": ("u1", 103)}, "exclude holds 'u1', expected pairs of a user and an item"),
        ({"exclude": "u1"}, "exclude is a str, expected a tensor"),
        ({"exclude": 3}, "exclude is an int, expected a tensor"),
        ({"exclude": [("u1", 103, 4)]}, "exclude holds .* expected pairs"),
        ({"exclude": (["u1", "u2"], [103, 104])}, "exclude is a tuple of lists, expected"),
        ({"exclude": torch.zeros(3, 2, dtype=torch.long)}, r"exclude has the shape \[3, 2\]"),
        ({"exclude": torch.tensor([[0], [14]])}, "item index 14 is out of range"),
        ({"exclude": pd.DataFrame({"a": ["u1"]})}, "exclude has the columns a, expected"),
        ({"exclude_seen": "no"}, "exclude_seen is 'no', expected True or False"),
        ({"batch_size": 0}, "batch_size is 0, expected at least 1"),
    ],
)
def test_bad_candidates_and_pairs_are_refused(
    arguments: dict[str, Any], message: str, splits: Splits
) -> None:
    model = BPRMF(splits[0], hidden_channels=8)
    with pytest.raises((TypeError, ValueError), match=message) as refused:
        model.recommend(splits[2], ["u1"], k=3, **arguments)
    assert len(str(refused.value)) <= 400


def test_blocks_of_users_are_as_large_as_memory_allows(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = KTUP(splits[0], hidden_channels=8), []
    own = Translations.score_all
    monkeypatch.setattr(
        Translations, "score_all", lambda self, user: rows.append(user.numel()) or own(self, user)
    )
    monkeypatch.setattr(encoding, "_RANKED", 3 * 14)
    expected = model.recommend(splits[2], users_of(splits[2]), k=4, batch_size=1024)
    assert rows == [10]
    items, scores = model.recommend(splits[2], k=4)
    assert rows[1:] == [3, 3, 3, 1]
    assert torch.equal(items, expected[0])
    torch.testing.assert_close(scores, expected[1])


def test_similar_nodes_are_found_in_blocks(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    model, test = BPRMF(splits[0], hidden_channels=8), splits[2]
    whole = model.similar_items(test, torch.arange(14), k=5), model.similar_users(test, users_of(test), k=5)
    monkeypatch.setattr(encoding, "_RANKED", 30)
    blocks = model.similar_items(test, torch.arange(14), k=5), model.similar_users(test, users_of(test), k=5)
    for (found, score), (again, cosine) in zip(whole, blocks):
        assert torch.equal(found, again)
        torch.testing.assert_close(score, cosine)
    with pytest.raises(
        ValueError, match="k is 11, expected a whole number from 1 to the 10 users of the store"
    ):
        model.similar_users(test, ["u1"], k=11)
    with pytest.raises(ValueError, match="nobody"):
        model.similar_users(test, ["nobody"], k=3)


def test_popularity_has_nothing_to_learn(splits: Splits) -> None:
    model = Popularity(splits[0])
    inputs = model.prepare(splits[0])
    with pytest.raises(TypeError, match="nothing to be trained by gradients"):
        model.training_losses(inputs, model.training_examples(inputs), torch.Generator())


def test_saving_again_replaces_the_file(case: Case, splits: Splits, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    case.build(splits[0], seed=1).save(path)
    model = case.build(splits[0], seed=2)
    model.save(path)
    users = users_of(splits[2])
    loaded = case.model.load(path)
    assert torch.equal(loaded.score_all(splits[2], users), model.score_all(splits[2], users))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failed_save_leaves_the_old_file(
    case: Case, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pt"
    model = case.build(splits[0])
    model.save(path)
    before = path.read_bytes()

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="the disk is full"):
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
        with pytest.raises(ValueError, match=r"model\.pt is damaged"):
            case.model.load(path)


def test_a_file_with_wrong_bytes_is_refused(case: Case, splits: Splits, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    model = case.build(splits[0])
    model.save(path)
    whole, weight = path.read_bytes(), next(model.parameters()).detach().numpy().tobytes()
    place = whole.index(weight)
    path.write_bytes(whole[: place + 3] + bytes([whole[place + 3] ^ 1]) + whole[place + 4 :])
    with pytest.raises(ValueError, match=r"model\.pt is damaged"):
        case.model.load(path)


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
    with pytest.raises(ValueError, match=r"other\.pt is damaged or no file of a model of this version"):
        BPRMF.load(path)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "evil",))

    path = tmp_path / "evil.pt"
    torch.save({"pyg_kgrec": 1, "model": Evil()}, path)
    with pytest.raises(ValueError, match=r"evil\.pt is damaged or no file of a model of this version"):
        KGRec.load(path)
    assert not (tmp_path / "evil").exists()


def test_another_models_file_is_refused(case: Case, splits: Splits, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    case.build(splits[0]).save(path)
    other = BPRMF if case.model is not BPRMF else LightGCN
    with pytest.raises(ValueError, match=f"holds a {case.model.__name__}, expected a {other.__name__}"):
        other.load(path)


def test_a_file_that_does_not_fit_the_store_is_refused(case: Case, tmp_path: Path) -> None:
    train = build_splits(features=True)[0]
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


def test_a_misfit_is_refused_wherever_a_store_goes_in(case: Case) -> None:
    train, _, test = build_splits(features=True)
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


def test_a_notebook_shows_sizes_and_settings_escaped(case: Case, splits: Splits) -> None:
    model = case.build(splits[0])
    model.settings["note"] = "<script>" + "x" * 100_000
    page = model._repr_html_()
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert f"{type(model).__name__}</caption>" in page
    left = '<td style="text-align:left">'
    for name, said in {
        "users": "10",
        "items": "14",
        "weights": f"{weights:,}",
        "hidden_channels": "8",
    }.items():
        assert f"{left}{name}</td>{left}{said}</td>" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert len(page) < 10_000


def test_a_notebook_shows_what_a_blend_and_a_solved_model_are(splits: Splits) -> None:
    blend = Blend({"<i>one": EASE(splits[0]), "two": Popularity(splits[0])})
    page = blend._repr_html_()
    assert "&lt;i&gt;one" in page
    assert "<i>" not in page
    assert "EASE(10, 14" in page


@pytest.mark.parametrize("kind", [BPRMF, EASE])
def test_what_is_made_in_inference_mode_learns(kind: Any) -> None:
    train, val, test = build_splits(features=True)
    few: dict[str, Any] = {"max_epochs": 1, "progress": False, "monitor": "ndcg@3"}

    def made() -> Any:
        torch.manual_seed(0)
        return kind(train)

    plain, users = made(), torch.arange(10)
    fit(plain, train, val, **few)
    expected = plain.score_all(test, users)
    with torch.inference_mode():
        model, inside = made(), made()
        fit(inside, train, val, **few)
        folded = plain.fold_in(test, ["u1"])
        copied = copy.deepcopy(plain)
        stores = RandomSplit(val=0.1, test=0.1, seed=0)(build_store())
    fit(model, train, val, **few)
    for one in (model, inside, copied):
        assert torch.equal(one.score_all(test, users), expected)
    for one in (folded, copied):
        fit(one, train, val, **few)
    fit(kind(stores[0]), *stores[:2], **few)


@pytest.mark.parametrize("kind", [KTUP, MKR])
def test_a_parameter_that_is_made_of_others_changes_nothing(kind: type[Recommender]) -> None:
    """`parametrize` of torch copies modules in a way of its own, past what they say of their state."""
    train, _, test = build_splits()
    torch.manual_seed(0)
    model, users = kind(train).eval(), torch.arange(5)
    expected = model.score_all(test, users)
    name = next(name for name, _ in model.named_parameters(recurse=False))
    parametrize.register_parametrization(model, name, torch.nn.Identity())
    for one in (model.train(), copy.deepcopy(model)):
        assert torch.equal(one.score_all(test, users), expected)


_BAD = {
    bool: ("yes", None, 1),
    int: ("x", 2.5, -1, float("nan"), [1]),
    float: ("x", float("nan"), -1.0, [1.0, "x"]),
}
KINDS = (KGRec, MKR, KTUP, KSR, LightGCN, BPRMF, EASE, ItemKNN, RP3beta, ALS)


@pytest.mark.parametrize("kind", KINDS)
def test_each_argument_of_a_constructor_is_checked(kind: Any) -> None:
    """Whatever is no number, no switch or out of range is named before anything is made of it."""
    data, checked = build_store(), 0
    for name, hint in list(typing.get_type_hints(kind.__init__).items()):
        for wanted in {hint} & {bool} or {int, float} & {hint, *typing.get_args(hint)}:
            for value in _BAD[wanted]:
                if wanted is int and float in typing.get_args(hint):  # a grid takes both
                    continue
                with pytest.raises((TypeError, ValueError), match=rf"{name} is .*, expected"):
                    kind(data, **{name: value})
                checked += 1
    assert checked >= 5


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_numpy_are_numbers(kind: Any, tmp_path: Path) -> None:
    """As ``np.arange`` and a row of a table hold them: what was trained with them is saved, and read again."""
    train, val, _ = build_splits()
    hints = typing.get_type_hints(kind.__init__)
    given: dict[str, Any] = {}
    for name, setting in list(inspect.signature(kind.__init__).parameters.items())[2:]:
        if isinstance(setting.default, bool):
            given[name] = np.bool_(setting.default)
        elif isinstance(setting.default, int):
            given[name] = np.int64(min(setting.default, 4))
        elif isinstance(setting.default, float) or float in typing.get_args(hints[name]):
            given[name] = np.float32(setting.default or 1)
    assert given
    if kind in (EASE, ItemKNN, RP3beta):
        given = {name: np.float32(1) for name in given}
    model = kind(train, **given)
    numbers = {"max_epochs": 1, "batch_size": 8, "seed": 1, "patience": 2}
    fit(
        model, train, val, progress=False, lr=np.float64(0.01), **{n: np.int64(x) for n, x in numbers.items()}
    )
    model.save(tmp_path / "model.pt")
    again = kind.load(tmp_path / "model.pt")
    assert again.settings == model.settings
    assert not any(isinstance(value, np.generic) for value in again.settings.values())
    evaluate(again, val, k=np.int64(5), batch_size=np.int64(3))


def test_a_wrong_argument_of_a_constructor_or_of_fit_is_named() -> None:
    train = build_splits()[0]
    with pytest.raises(
        TypeError, match=r"^KGRec has no argument 'hidden' \(did you mean hidden_channels\?\)$"
    ):
        KGRec(train, hidden=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^ALS has no argument 'zzz', expected one of hidden_channels, l2, "):
        ALS(train, zzz=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"epochs is no argument of fit.* \(did you mean max_epochs\?\)"):
        fit(BPRMF(train), train, epochs=3)


@pytest.mark.parametrize("model", [BPRMF, 3, "model.pt", None])
def test_what_is_no_model_is_named(model: Any) -> None:
    train, val, _ = build_splits(knowledge=False)
    for door in (
        lambda: fit(model, train, val),
        lambda: evaluate(model, val),
        lambda: refit(model, train),
        lambda: export(model, val, "nowhere"),
        lambda: evaluate_explanations(model, val),
        lambda: choose_threshold(model, val),
    ):
        with pytest.raises(TypeError, match=r"model is (the class BPRMF|an? \w+), expected a recommender"):
            door()


def test_popularity_leaves_nobody_out() -> None:
    """Nothing is ranked below what a user has had, so that one who had everything is no case of its own."""
    data = build_store(num_users=3, num_items=6, per_user=6, knowledge=False)
    with warns_once(None):
        fit(Popularity(data), data, progress=False)


@pytest.mark.parametrize(
    ("kind", "fixed", "form"),
    [
        (EASE, {"l2": np.array([3.0, 10.0])}, "fewer"),
        (EASE, {"l2": np.array([3.0, 10.0])}, "others"),
        (EASE, {"l2": np.array([3.0, 10.0])}, "any"),
        (EASE, {}, "fewer"),
        (ALS, {"hidden_channels": 4, "l2": 0.1}, "fewer"),
        (ItemKNN, {"num_neighbors": 5}, "fewer"),
        (RP3beta, {"beta": 0.5}, "fewer"),
        (KGRec, {"hidden_channels": 8, "features": "x"}, "fewer"),
        (KGRec, {"hidden_channels": 8, "features": "x"}, "others"),
        (KGRec, {"hidden_channels": 8, "features": "x"}, "any"),
        (MKR, {"hidden_channels": 8, "loss": "bce"}, "fewer"),
        (MKR, {"hidden_channels": 8, "loss": "bce"}, "others"),
        (MKR, {"hidden_channels": 8, "loss": "bce"}, "any"),
        (KTUP, {"hidden_channels": 8}, "fewer"),
        (LightGCN, {"hidden_channels": 8, "loss": "softmax"}, "fewer"),
        (BPRMF, {"hidden_channels": 8}, "fewer"),
    ],
)
def test_a_derived_class_may_have_arguments_of_its_own(
    kind: type[Recommender], fixed: dict[str, Any], form: str, tmp_path: Path
) -> None:
    """What its base class was built with is the base class's to know; files keep the class's own arguments."""

    class Fewer(kind):  # type: ignore[valid-type, misc]
        def __init__(self, data: Any) -> None:
            super().__init__(data, **fixed)

    class Others(kind):  # type: ignore[valid-type, misc]
        def __init__(self, data: Any, half: float = 2.0) -> None:
            super().__init__(data, **fixed)
            self.half = half

    class AnyOf(kind):  # type: ignore[valid-type, misc]
        def __init__(self, data: Any, **settings: Any) -> None:
            super().__init__(data, **settings)

    train, val, test = build_splits(features=True)
    seed_everything(0)
    plain = kind(train, **fixed)
    seed_everything(0)
    if form == "any":
        model = AnyOf(train, **fixed)
        assert set(model.settings) == set(fixed)
    elif form == "others":
        model = Others(train, half=np.float32(0.5))
        assert model.settings == {"half": 0.5}
    else:
        model = Fewer(train)
        assert model.settings == {}
    for one in (plain, model):
        fit(one, train, val, max_epochs=1, monitor="ndcg@3", progress=False)
        assert one.has_features(ITEM) == plain.has_features(ITEM)
        assert one.has_rows(ITEM) == plain.has_rows(ITEM)
        assert one.scores_are_logits == plain.scores_are_logits
    assert torch.equal(model.score_all(test, users_of(test)), plain.score_all(test, users_of(test)))
    assert type(model).__name__ in model._repr_html_()
    model.save(tmp_path / "model.pt")
    again = type(model).load(tmp_path / "model.pt", test)
    assert again.settings == model.settings
    assert torch.equal(again.score_all(test, users_of(test)), plain.score_all(test, users_of(test)))
    assert torch.equal(
        copy.deepcopy(model).score_all(test, users_of(test)), plain.score_all(test, users_of(test))
    )
