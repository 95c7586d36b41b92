"""Files of models whose sums are right and whose content is not: nothing is allocated by what they claim."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

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
    fit,
    load,
)
from pyg_kgrec._files import pack, read_packed, unpack
from pyg_kgrec.data import ITEM, USER
from pyg_kgrec.testing import Splits, build_splits, build_store

pytestmark = pytest.mark.usefixtures("one_thread")
MODELS = [BPRMF, LightGCN, Popularity, KGRec, MKR, KTUP, KSR]
WEIGHTED = [model for model in MODELS if model is not Popularity]
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def splits() -> Splits:
    return build_splits()


def changed(model: Recommender, path: Path, change: Change) -> Path:
    """A file of a model with other content and a sum that fits."""
    model.save(path)
    content = unpack(path.read_bytes(), "model", path)
    change(content)
    path.write_bytes(pack(content, "model"))
    return path


def refused(cls: type[Recommender], path: Path) -> str:
    started = time.process_time()
    with pytest.raises(ValueError) as raised:
        cls.load(path)
    assert time.process_time() - started < 10, "it hangs"
    message = str(raised.value)
    assert len(message) <= 400
    assert path.name in message
    return message


def numbers_of(cls: type[Recommender], train: Any) -> list[str]:
    return [name for name, value in cls(train).settings.items() if type(value) is int]


@pytest.mark.parametrize("cls", WEIGHTED)
@pytest.mark.parametrize("value", [10**9, 10**30, -1])
def test_settings_out_of_all_proportion(
    cls: type[Recommender], value: int, splits: Splits, tmp_path: Path
) -> None:
    """Whatever number is set, the model is refused, or is as small as its file and does what it did."""
    model = cls(splits[0])
    harmless = {
        "mae_msize": (10**9,),
        "max_length": (10**9,),
        "knowledge_interval": (10**9, 10**30),
    }
    for name in [*numbers_of(cls, splits[0]), "num_negatives"]:
        path = changed(model, tmp_path / "model.pt", partial(set_to, name=name, value=value))
        if value in harmless.get(name, ()):
            cls.load(path)
        else:
            refused(cls, path)


def set_to(content: dict[str, Any], name: str, value: Any) -> None:
    content["settings"][name] = value


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize("node_type", [USER, ITEM, "entity"])
def test_sizes_out_of_all_proportion(
    cls: type[Recommender], node_type: str, splits: Splits, tmp_path: Path
) -> None:
    def larger(content: dict[str, Any]) -> None:
        content["signature"]["num_nodes"][node_type] = 10**10

    def nameless(content: dict[str, Any]) -> None:
        larger(content)
        content["signature"] |= {"ids": dict.fromkeys((USER, ITEM, "entity")), "item_name": None}

    for change in (larger, nameless):
        refused(cls, changed(cls(splits[0]), tmp_path / "model.pt", change))


@pytest.mark.parametrize("name", ["model", "settings", "signature", "state_dict"])
@pytest.mark.parametrize("value", [None, 3, "text" * 10**5, [], {}, {"x": 1}, {1: 2}, torch.zeros(2)])
def test_parts_of_another_kind(name: str, value: Any, splits: Splits, tmp_path: Path) -> None:
    for cls in (MKR, KSR):
        if not (name == "settings" and value == {}):  # the defaults
            path = changed(
                cls(splits[0]), tmp_path / "model.pt", lambda content: content.update({name: value})
            )
            refused(cls, path)


@pytest.mark.parametrize(
    "field",
    ["num_nodes", "in_channels", "ids", "relation_name", "item_name", "link", "trained", "popularity"],
)
@pytest.mark.parametrize(
    "value", [3, "text", [[]], {"user": -1}, {"user": "x"}, torch.zeros(2, 2), torch.full((2, 2), 99)]
)
def test_signatures_of_another_kind(field: str, value: Any, splits: Splits, tmp_path: Path) -> None:
    path = changed(
        KGRec(splits[0]), tmp_path / "model.pt", lambda content: content["signature"].update({field: value})
    )
    refused(KGRec, path)


@pytest.mark.parametrize("cls", WEIGHTED)
def test_weights_of_other_shapes(cls: type[Recommender], splits: Splits, tmp_path: Path) -> None:
    def narrower(content: dict[str, Any]) -> None:
        name, weight = next((n, w) for n, w in content["state_dict"].items() if w.dim())
        content["state_dict"][name] = weight[..., :-1].contiguous()

    def fewer(content: dict[str, Any]) -> None:
        content["state_dict"].popitem()

    model = cls(splits[0])
    assert "has the shape" in refused(cls, changed(model, tmp_path / "model.pt", narrower))
    assert "it lacks the tensor" in refused(cls, changed(model, tmp_path / "model.pt", fewer))


def test_a_setting_that_is_unknown_or_no_number(splits: Splits, tmp_path: Path) -> None:
    wrong = (("other", 1), ("hidden_channels", [64]), ("loss", "x" * 10**5), ("hidden_channels", "64"))
    for name, value in wrong:
        change = partial(set_to, name=name, value=value)
        refused(BPRMF, changed(BPRMF(splits[0]), tmp_path / "model.pt", change))


def test_a_file_names_no_file_that_fit_would_write(splits: Splits, tmp_path: Path) -> None:
    def named(content: dict[str, Any]) -> None:
        content["settings"]["kg_embedding"] = str(tmp_path / "written")

    assert KSR.load(changed(KSR(splits[0]), tmp_path / "model.pt", named)).kg_file is None


def test_a_model_whose_constructor_reads_its_own_weights(splits: Splits, tmp_path: Path) -> None:
    class Reading(BPRMF):
        def __init__(self, data: Any) -> None:
            super().__init__(data)
            self.start = float(self.user_encoder.weight.detach().sum())

    path = tmp_path / "model.pt"
    Reading(splits[0]).save(path)
    assert isinstance(Reading.load(path), Reading)


def test_loading_draws_what_it_drew(splits: Splits, tmp_path: Path) -> None:
    """A model is planned without memory and without a random number."""
    path = tmp_path / "model.pt"
    KGRec(splits[0]).save(path)
    torch.manual_seed(0)
    KGRec.load(path)
    after = torch.rand(1)
    torch.manual_seed(0)
    KGRec(splits[0])
    assert torch.equal(torch.rand(1), after)


@pytest.mark.parametrize("value", [None, 3, "0.5", float("nan"), float("inf"), [0.5], torch.zeros(1)])
def test_a_threshold_in_a_file_is_a_finite_number(value: Any, splits: Splits, tmp_path: Path) -> None:
    path = changed(BPRMF(splits[0]), tmp_path / "model.pt", lambda content: content.update(threshold=value))
    assert "its threshold is no finite number" in refused(BPRMF, path)


def test_a_file_of_before_has_no_threshold(splits: Splits, tmp_path: Path) -> None:
    path = changed(BPRMF(splits[0]), tmp_path / "model.pt", lambda content: content.pop("threshold"))
    assert BPRMF.load(path).threshold == 0


@pytest.mark.parametrize("cls", [*MODELS, EASE, Blend])
def test_any_model_is_read_without_its_class(cls: Any, splits: Splits, tmp_path: Path) -> None:
    train, _, test = splits
    path = tmp_path / "model.pt"
    if cls is Blend:
        inner = Blend([Popularity(train), BPRMF(train, hidden_channels=4)], weights=[0.5, 0.5])
        model: Recommender = Blend([inner, LightGCN(train, hidden_channels=4)], weights=[0.25, 0.75])
    else:
        model = cls(train)
        if cls in (KSR, EASE):
            fit(model, train, max_epochs=1, progress=False)
    model.save(path)
    for data in (None, test):
        found = load(path, data)
        assert type(found) is cls
        assert not found.training
        assert torch.equal(found.recommend(test, k=4)[0], model.recommend(test, k=4)[0])
        assert torch.equal(found.score_all(test, ["u1"]), cls.load(path).score_all(test, ["u1"]))


class Mine(BPRMF):
    """A model of somebody's own."""


def test_own_models_are_known_by_their_class(splits: Splits, tmp_path: Path) -> None:
    Mine(splits[0], hidden_channels=4).save(tmp_path / "mine.pt")
    assert type(load(tmp_path / "mine.pt")) is Mine
    path = changed(Mine(splits[0], hidden_channels=4), tmp_path / "x.pt", lambda c: c.update(model="Theirs"))
    with pytest.raises(
        ValueError, match="holds a Theirs, which is no model of this package and none that was"
    ):
        load(path)
    latest = type("Mine", (BPRMF,), {})
    assert type(load(tmp_path / "mine.pt")) is latest
    taken = type("KGRec", (BPRMF,), {})
    KGRec(splits[0], hidden_channels=4).save(tmp_path / "kgrec.pt")
    assert type(load(tmp_path / "kgrec.pt")) is KGRec
    assert taken is not KGRec


@pytest.mark.parametrize("name", [3, None, ["KGRec"], "Recommender", "x" * 1000])
def test_a_name_that_is_none(name: Any, splits: Splits, tmp_path: Path) -> None:
    path = changed(BPRMF(splits[0], hidden_channels=4), tmp_path / "m.pt", lambda c: c.update(model=name))
    with pytest.raises(ValueError, match="which is no model of this package") as refused:
        load(path)
    assert len(str(refused.value)) <= 400


def test_a_store_that_does_not_fit_is_known_at_once(splits: Splits, tmp_path: Path) -> None:
    BPRMF(splits[0], hidden_channels=4).save(tmp_path / "m.pt")
    with pytest.raises(ValueError, match="trained with raw ids"):
        load(tmp_path / "m.pt", build_store(ids=False))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load(tmp_path / "none.pt")


def _wild(state: dict[str, Tensor]) -> None:
    state["neighbour"].view(-1)[0] = 10**9


def _before_the_first(state: dict[str, Tensor]) -> None:
    state["neighbour"].view(-1)[-1] = -5


def _of_another_kind(state: dict[str, Tensor]) -> None:
    state["neighbour"] = state["neighbour"].float() + 0.5


def _negative(state: dict[str, Tensor]) -> None:
    state["chosen"].fill_(-1)


def _no_share(state: dict[str, Tensor]) -> None:
    state["weight"].fill_(-7)


@pytest.mark.parametrize(
    ("kind", "edit", "message"),
    [
        (ItemKNN, _wild, "neighbours that are none of its items"),
        (RP3beta, _before_the_first, "neighbours that are none of its items"),
        (RP3beta, _of_another_kind, "neighbour is float32, expected int64"),
        (EASE, _negative, "expected 0 or more"),
        (ALS, _negative, "expected above 0"),
        (Popularity, None, ""),
        (lambda data: Blend([Popularity(data), EASE(data)], [0.5, 0.5]), _no_share, "expected shares of 1"),
    ],
)
def test_weights_that_cannot_be_are_refused(kind: Any, edit: Any, message: str, tmp_path: Path) -> None:
    """Also under a sum that is right: no index leads out of a table."""
    train, _, test = build_splits(knowledge=False)
    model = kind(train)
    fit(model, train, progress=False)
    model.save(tmp_path / "m.pt")
    content = read_packed(tmp_path / "m.pt", "model")
    score = load(tmp_path / "m.pt").score_all(test, ["u1"])
    assert torch.equal(score, model.score_all(test, ["u1"]))
    if edit is not None:
        edit(content["state_dict"])
        (tmp_path / "m.pt").write_bytes(pack(content, "model"))
        with pytest.raises(ValueError, match=message):
            load(tmp_path / "m.pt")
