from __future__ import annotations

import io
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import Callback
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData
from torch_geometric.nn.kge import TransE

from pyg_kgrec import BPRMF, EASE, KTUP, _progress, fit, fit_kge
from pyg_kgrec._progress import is_live
from pyg_kgrec.datasets import SyntheticKG
from pyg_kgrec.transforms import RandomSplit

NUMBER = r"\d\.\d{4}"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Stop(Callback):
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        trainer.should_stop = trainer.current_epoch == 1


class Press(Callback):
    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.current_epoch == 1 and args[-1] == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[HeteroData, HeteroData]:
    data = SyntheticKG(num_users=30, num_items=20, seed=0)[0]
    return RandomSplit(val=0.2, test=0.2, seed=0)(data)[:2]


def trained(parts: tuple[HeteroData, HeteroData | None], **arguments: Any) -> Any:
    seed_everything(0)
    defaults: dict[str, Any] = {"batch_size": 64, "lr": 0.02, "accelerator": "cpu"}
    return fit(BPRMF(parts[0], hidden_channels=4), *parts, **(defaults | arguments))


def test_a_log_has_one_line_an_epoch_and_one_at_the_end(
    parts: tuple[HeteroData, HeteroData], capsys: pytest.CaptureFixture[str]
) -> None:
    history = trained(parts, max_epochs=4, eval_every=2)
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert len(lines) == 5
    assert not printed.err
    figure = history["ndcg@10"]
    best = int(figure.idxmax())
    assert re.fullmatch(rf"BPRMF, epoch 1/4: loss {history.loss[0]:.4g}, \d+\.\d s", lines[0])
    second = f"ndcg@10 {figure[1]:.4f}"
    assert f"epoch 2/4: loss {history.loss[1]:.4g}, {second}, best {figure[1]:.4f} (epoch 2), " in lines[1]
    assert (
        f"epoch 3/4: loss {history.loss[2]:.4g}, {second} (epoch 2), best {figure[1]:.4f} (epoch 2)"
        in lines[2]
    )
    assert (
        f"epoch 4/4: loss {history.loss[3]:.4g}, ndcg@10 {figure[3]:.4f}, best {figure[best]:.4f}" in lines[3]
    )
    assert re.fullmatch(
        rf"BPRMF: 4 epochs in \d+\.\d s, stopped by max_epochs; best ndcg@10 {figure[best]:.4f} at epoch "
        rf"{best + 1}, whose weights are kept\.",
        lines[4],
    )


def test_a_terminal_has_a_bar_with_the_figures_of_its_epoch(
    parts: tuple[HeteroData, HeteroData], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(_progress, "_INTERVAL", 0.0)
    monkeypatch.setattr(sys, "stdout", out)
    history = trained(parts, max_epochs=3)
    *shown, last = (text for text in re.split(r"[\r\n]+", out.getvalue()) if text.strip())
    assert last.startswith("BPRMF: 3 epochs in")
    seen = [re.match(r"BPRMF, epoch (\d)/3(, evaluating)?: +(\d+)%", text) for text in shown]
    assert all(seen)
    assert {int(found[1]) for found in seen if found} == {1, 2, 3}
    for found, text in zip(seen, shown):
        assert found
        epoch, whole = int(found[1]) - 1, found[3] == "100"
        loss, metric = (
            re.search(r"loss ([\d.]+)", text),
            re.search(rf" ndcg@10 ({NUMBER})( \(epoch (\d)\))?", text),
        )
        assert not whole or (loss and loss[1] == f"{history.loss[epoch]:.4g}")
        assert whole or epoch == 0 or (metric and metric[3] == str(epoch))  # of the epoch before, and said so
        if metric:
            of = int(metric[3]) - 1 if metric[3] else epoch
            assert metric[1] == f"{history['ndcg@10'][of]:.4f}"
            best = history["ndcg@10"][: of + 1]
            assert f"best {best.max():.4f} (epoch {best.idxmax() + 1})" in text
    assert any(found and found[2] for found in seen)


def test_short_epochs_do_not_keep_a_terminal_busy(
    parts: tuple[HeteroData, HeteroData], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(_progress, "_INTERVAL", 3600.0)
    trained(parts, max_epochs=5)
    looks = [text for text in re.split(r"[\r\n]+", out.getvalue()) if "epoch" in text and "|" in text]
    assert 1 <= len(looks) <= 3
    assert all("epoch 1/5" in look for look in looks)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"max_epochs": 2}, "2 epochs in .* stopped by max_epochs"),
        (
            {"patience": 1, "min_epochs": 1, "lr": 1e-12},
            r"2 epochs .* patience \(1 evaluation without improvement\)",
        ),
        ({"callbacks": [Press()]}, "2 epochs .* stopped by Ctrl-C"),
        ({"callbacks": [Stop()]}, "2 epochs .* stopped by a callback or a limit of Lightning's trainer"),
    ],
)
def test_the_last_line_says_why_it_ended(
    parts: tuple[HeteroData, HeteroData], capsys: pytest.CaptureFixture[str], arguments: Any, why: str
) -> None:
    trained(parts, **arguments)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert re.match(f"BPRMF: {why}; best ndcg@10 {NUMBER} at epoch [12], whose weights are kept", lines[-1])


def test_nothing_is_said_without_progress(
    parts: tuple[HeteroData, HeteroData], capsys: pytest.CaptureFixture[str]
) -> None:
    trained(parts, max_epochs=1, progress=False)
    trained(parts, max_epochs=1, enable_progress_bar=False)
    fit(EASE(parts[0]), *parts, progress=False)
    assert capsys.readouterr() == ("", "")
    trained((parts[0], None), max_epochs=3, progress=False, callbacks=[Press()])
    assert capsys.readouterr().out == "Interrupted after 2 epochs; the weights stay as they are.\n"


def test_what_went_on_counts_from_where_it_was(
    parts: tuple[HeteroData, HeteroData], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    trained(parts, max_epochs=2, checkpoint_dir=tmp_path, progress=False)
    trained(parts, max_epochs=3, resume=tmp_path / "last.ckpt")
    epoch, last = capsys.readouterr().out.splitlines()
    assert epoch.startswith("BPRMF, epoch 3/3: ")
    assert last.startswith("BPRMF: 3 epochs (1 of them now) in ")
    trained(parts, max_epochs=2, resume=tmp_path / "last.ckpt")
    assert re.match(r"BPRMF: 2 epochs in 0.0 s, all of them in the checkpoint; best", capsys.readouterr().out)


def test_every_stage_and_every_kind_of_model_says_what_it_is(
    parts: tuple[HeteroData, HeteroData], capsys: pytest.CaptureFixture[str]
) -> None:
    fit(KTUP(parts[0], hidden_channels=4, knowledge_epochs=1), parts[0], max_epochs=1, accelerator="cpu")
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0].partition(",")[0] for line in lines[1:]] == ["triples of KTUP"] * 2 + [
        "KTUP"
    ] * 2
    assert lines[-1].endswith("stopped by max_epochs; the weights of the last epoch are kept.")
    history = fit(EASE(parts[0]), *parts)
    said = capsys.readouterr().out
    assert re.fullmatch(
        rf"EASE: solved in \d+\.\d s; best ndcg@10 {history['ndcg@10'].max():.4f} of {len(history)} choices\.\n",
        said,
    )
    entities = parts[0]["entity"].num_nodes
    fit_kge(TransE(entities, len(parts[0].relation_name), 4), parts[0], max_epochs=1, accelerator="cpu")
    assert capsys.readouterr().out.startswith("TransE, epoch 1/1: loss ")


def test_a_file_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    found = []
    for stream in (io.StringIO(), Terminal(), None):
        monkeypatch.setattr(sys, "stdout", stream)
        found.append(is_live())
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert [*found, is_live()] == [False, True, False, False]
