"""Folders of models: what comes back, what is refused, and the card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from pyg_kgrec import BPRMF, EASE, KSR, Blend, ItemKNN, KGRec, LightGCN, Recommender, fit
from pyg_kgrec.testing import build_splits, build_store, users_of

pytest.importorskip("safetensors", reason="the extra hub is not installed")
pytestmark = pytest.mark.usefixtures("one_thread")


def saved(folder: Path, **arguments: Any) -> BPRMF:
    model = BPRMF(build_store(), hidden_channels=4).eval()
    model.save_pretrained(folder, **arguments)
    return model


@pytest.mark.parametrize("kind", [BPRMF, LightGCN, KGRec, KSR, EASE, ItemKNN])
def test_a_model_comes_back_as_it_was(kind: Any, tmp_path: Path) -> None:
    train, _, test = build_splits()
    model = kind(train) if kind in (EASE, ItemKNN) else kind(train, hidden_channels=4)
    if kind is not KSR:
        model.threshold = 0.25
        arguments: Any = {"max_epochs": 1} if model.learns() else {}
        fit(model, train, progress=False, **arguments)
    model.eval().save_pretrained(tmp_path / "made" / "here")
    for reader in (kind, Recommender):
        found = reader.from_pretrained(tmp_path / "made" / "here", data=test)
        assert type(found) is kind
        assert not found.training
        assert found.settings == model.settings
        assert found.threshold == model.threshold
        assert found.signature.ids == model.signature.ids
        state = model.state_dict()
        assert list(found.state_dict()) == list(state)
        assert all(torch.equal(x, state[name]) for name, x in found.state_dict().items())
        if kind is not KSR:  # which is to be trained first
            assert_close(found.score_all(test, users_of(test)), model.score_all(test, users_of(test)))


def test_a_blend_comes_back_with_parts_of_any_name(tmp_path: Path) -> None:
    train, val, _ = build_splits()
    blend = Blend({"a": BPRMF(train, hidden_channels=4), "a.b 1 é": EASE(train)})
    fit(blend, train, val, max_epochs=1, monitor="ndcg@3", progress=False)
    blend.save_pretrained(tmp_path)
    found = Blend.from_pretrained(tmp_path)
    assert found.weights == blend.weights
    assert_close(found.score_all(val, users_of(val)), blend.score_all(val, users_of(val)))


def test_files_are_plain(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = saved(tmp_path, metrics={"ndcg@10": 0.25})
    assert {path.name for path in tmp_path.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "store.json",
    }
    tensors = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(tensors[name], x) for name, x in model.state_dict().items())
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model"] == "BPRMF"
    assert config["settings"]["hidden_channels"] == 4
    assert config["metrics"] == {"ndcg@10": 0.25}


def test_the_card_says_what_was_learned_and_how_well(tmp_path: Path) -> None:
    folder = tmp_path / "films"
    model = saved(folder, model_name="Films | one", dataset_name="Set\n1", metrics={"ndcg@10": 0.12345})
    card = (folder / "README.md").read_text()
    sizes = model.signature
    assert sizes.popularity is not None
    for line in (
        "# Films \\| one",
        '- "Set 1"',
        f"| users | {sizes.num_nodes['user']} |",
        f"| interactions | {int(sizes.popularity.sum())} |",
        "| `hidden_channels` | `4` |",
        "| ndcg@10 | 0.1235 |",
        "model = BPRMF.from_pretrained('films')  # the folder of this page",
    ):
        assert line in card.splitlines()
    saved(folder)
    assert "ndcg@10" not in (folder / "README.md").read_text()  # replaced, as the weights are
    (folder / "README.md").write_text("# Mine\n")
    saved(folder)
    assert (folder / "README.md").read_text() == "# Mine\n"


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"format": "theirs"}')
    with pytest.raises(ValueError, match=r"holds config\.json of something else than this package's model"):
        saved(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    with pytest.raises(ValueError, match="is a file, expected a folder"):
        saved(tmp_path / "config.json")


@pytest.mark.parametrize("name", ["config.json", "store.json", "model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"\x80\x04", b"[" * 10**5, b"{}", b"[1]"])
def test_a_damaged_folder_is_one_sentence(name: str, content: bytes | None, tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        BPRMF.from_pretrained(tmp_path)
    assert len(str(caught.value)) <= 400
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "No"},
        {"model": ["BPRMF"]},
        {"settings": None},
        {"settings": {"hidden_channels": 5}},
        {"settings": {"hidden_channels": 10**9}},
        {"settings": {"other": 1}},
        {"threshold": "0"},
        {"files": {"../config.json": "0"}},
        {"files": {}},
        {"files": None},
        {"version": 2},
        {"parts": {"a": {}}},
        {"parts": 3},
    ],
    ids=str,
)
def test_what_the_config_claims_is_held_against_the_tensors(change: dict[str, Any], tmp_path: Path) -> None:
    saved(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    for kind in (BPRMF, Recommender):
        with pytest.raises(ValueError) as caught:
            kind.from_pretrained(tmp_path)  # type: ignore[attr-defined]
        assert len(str(caught.value)) <= 400


@pytest.mark.parametrize("ids", [["u0", 1], ["u0", "u0"]], ids=str)
def test_ids_that_no_store_has_are_refused(ids: list[Any], tmp_path: Path) -> None:
    model = saved(tmp_path)
    given = model.signature.ids["user"]
    assert given is not None
    model.signature.ids["user"] = [*ids, *given[2:]]
    model.save_pretrained(tmp_path)
    model.save(tmp_path / "model.pt")
    for read in (lambda: BPRMF.from_pretrained(tmp_path), lambda: BPRMF.load(tmp_path / "model.pt")):
        with pytest.raises(ValueError, match="ids of users are of two types, or one stands there twice"):
            read()


def test_an_interrupted_writing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path)
    from pyg_kgrec import _files

    whole = _files.replace_file

    def interrupted(path: Path, content: bytes) -> None:
        if path.name == "store.json":
            raise OSError("no more")
        whole(path, content)

    monkeypatch.setattr(_files, "replace_file", interrupted)
    with pytest.raises(OSError, match="no more"):
        BPRMF(build_store(), hidden_channels=8).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged or of another writing"):
        BPRMF.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"push_to_hub": True}, ValueError, "uploads nothing"),
        ({"repo_id": "a/b"}, ValueError, "uploads nothing"),
        ({"metrics": [0.1]}, TypeError, "metrics is a list, expected what evaluate returns"),
        ({"metrics": {"a": float("nan")}}, ValueError, "expected a finite number"),
        ({"metrics": {"a": "high"}}, TypeError, "expected a number"),
        ({"metrics": {1: 0.1}}, TypeError, "expected names of metrics"),
        ({"dataset_name": 3}, TypeError, "dataset_name is an int, expected a string"),
    ],
    ids=str,
)
def test_wrong_arguments_write_nothing(arguments: Any, error: Any, match: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=match):
        saved(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        BPRMF.from_pretrained(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        BPRMF.from_pretrained(tmp_path)
    saved(tmp_path)
    with pytest.raises(ValueError, match="holds a BPRMF, expected a LightGCN"):
        LightGCN.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="downloads nothing"):
        BPRMF.from_pretrained(tmp_path, force_download=True)
    model = BPRMF(build_store(), hidden_channels=4)
    torch.nn.init.constant_(next(model.parameters()), float("nan"))
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        model.save_pretrained(tmp_path)
