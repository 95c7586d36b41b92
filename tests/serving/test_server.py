"""A real process: it starts, answers, reads its files anew by signal, ends its requests, and stops."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from pyg_kgrec.cli import main
from tests.serving.conftest import World, lists_of

serving = pytest.importorskip("pyg_kgrec.serving", reason="the extra serve is not installed")
httpx = pytest.importorskip("httpx2", reason="httpx2 is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")


@pytest.fixture
def folder(world: World, tmp_path: Path) -> Path:
    """A folder as `pyg-kgrec data` and `fit` make it."""
    shutil.copyfile(world.files[0], tmp_path / "model.pt")
    shutil.copyfile(world.store_file, tmp_path / "all.store")
    return tmp_path


def run(*words: Any) -> int:
    return main([str(word) for word in words])


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system has no SIGHUP")
def test_a_service_from_its_start_to_its_end(world: World, folder: Path) -> None:
    users = list(world.store["user"].id)
    expected = [lists_of(model, world.store, users, k=3) for model in world.models]
    words = [sys.executable, "-m", "pyg_kgrec", "serve", str(folder), "--port", "0", "--json"]
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert said["page"].startswith("http://127.0.0.1:")
        with httpx.Client(base_url=said["page"], timeout=30) as client:

            def ask() -> int:
                answer = client.post("/recommend", json={"users": users, "k": 3}).json()
                found = [[item["id"] for item in one["items"]] for one in answer["lists"]]
                assert found == expected[(answer["generation"] - 1) % 2]
                return int(answer["generation"])

            assert ask() == 1
            for generation, place in ((2, 1), (3, 0)):
                shutil.copyfile(world.files[place], folder / "next")
                (folder / "next").replace(folder / "model.pt")
                process.send_signal(signal.SIGHUP)
                for _ in range(600):
                    if client.get("/health").json()["generation"] == generation:
                        break
                    time.sleep(0.02)
                assert ask() == generation
            (folder / "model.pt").write_bytes(b"no model")
            process.send_signal(signal.SIGHUP)
            for _ in range(600):
                if 'result="failed"} 1.0' in client.get("/metrics").text:
                    break
                time.sleep(0.02)
            assert ask() == 3
            with ThreadPoolExecutor(1) as pool:  # what is in work when it stops is answered
                asking = pool.submit(
                    client.post, "/explain", json={"user": users[0], "item": expected[0][0][0]}
                )
                while "in_work 2.0" not in client.get("/metrics").text and not asking.done():
                    time.sleep(0.002)
                process.send_signal(signal.SIGTERM)
                assert asking.result(30).status_code == 200
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0
        assert out == ""
        lines = [line for line in err.splitlines() if line.startswith("reload: ")]
        assert lines[:2] == ["reload: generation 2 serves", "reload: generation 3 serves"]
        assert lines[2].startswith("reload: generation 3 goes on serving, the new files cannot: ")
        assert "Traceback" not in err
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_connection_that_rested_for_a_while_is_still_there(folder: Path) -> None:
    words = [sys.executable, "-m", "pyg_kgrec", "serve", str(folder), "--port", "0", "--json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(json.loads(process.stdout.readline())["page"].rstrip("/").rpartition(":")[2])
        with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            used = []
            for rest in (7, 0):
                connection.request("GET", "/health")
                response = connection.getresponse()
                assert response.status == 200
                response.read()
                used.append(connection.sock)
                time.sleep(rest)
            assert used[0] is used[1]
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that something listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_what_cannot_be_served_is_one_sentence_and_exit_code_2(
    folder: Path, taken: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*words: Any) -> str:
        assert run("serve", *words) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert len(said.err) < 430
        return said.err

    assert f"port {taken} of 127.0.0.1 is in use" in refused(folder, "--port", taken)
    assert "port is 70000, expected 0 to 65535" in refused(folder, "--port", 70000)
    assert "port is -1" in refused(folder, "--port", -1)
    assert "host is 'no such host'" in refused(folder, "--host", "no such host")
    assert "192.0.2.1 is no address of this machine" in refused(folder, "--host", "192.0.2.1", "--port", 0)
    assert "there is no folder" in refused(folder / "nothing")
    assert "expected a folder" in refused(folder / "model.pt")
    assert "part" in refused(folder, "--part", "tset")
    assert "there is no file" in refused(folder, "--part", "val")
    assert "there is no file" in refused(folder, "--model", folder / "none.pt")
    assert "beside --model or --part" in refused(folder / "model.pt", folder / "all.store", "--part", "all")
    assert "did you mean max_k?" in refused(folder, "--set", "maxk=3")
    assert "max_k is 0" in refused(folder, "--set", "max_k=0")
    assert "num_threads is 0" in refused(folder, "--set", "num_threads=0")
    assert "holds the API key" in refused(folder, "--api-key-file", folder / "none")
    (folder / "key").write_text("\n")
    assert "visible ASCII" in refused(folder, "--api-key-file", folder / "key")
    monkeypatch.setenv("PYG_KGREC_API_KEY", "")
    assert "visible ASCII" in refused(folder, "--port", 0)
    monkeypatch.delenv("PYG_KGREC_API_KEY")
    (folder / "model.pt").write_bytes(b"no model")
    assert "model.pt" in refused(folder, "--port", 0)


def test_an_outside_address_without_a_key_is_warned_of(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "model.pt").write_bytes(b"no model")
    assert run("serve", folder, "--host", "0.0.0.0", "--port", 0) == 2
    assert "warning: everyone who reaches http://0.0.0.0:" in capsys.readouterr().err
    (folder / "key").write_text("secret\n")
    assert run("serve", folder, "--host", "0.0.0.0", "--port", 0, "--api-key-file", folder / "key") == 2
    assert "warning" not in capsys.readouterr().err
