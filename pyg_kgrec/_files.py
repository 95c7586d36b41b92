"""Files of this package: written whole or not at all, checked to the last byte, read without running anything."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import uuid
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

_FORMAT: Final = 1
_HEADER: Final = re.compile(rb"\x89pyg_kgrec (\d{1,9}) ([a-z ]{1,40}) (\d{1,18}) ([0-9a-f]{64})\r\n")
_MAGIC: Final = b"\x89pyg_kgrec "
_KIND: Final = "pyg_kgrec "  # before the kind of a folder
_NAME: Final = re.compile(r"[a-z]{1,20}\.[a-z0-9]{1,20}")  # of a file in one: it leads nowhere else
_LONGEST: Final = 160  # bytes of a header
_FULL: Final = {errno.ENOSPC: "the disk is full", errno.EFBIG: "the file may not grow so large"}
if hasattr(errno, "EDQUOT"):
    _FULL[errno.EDQUOT] = "the quota of the disk is used up"


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file whole: under a temporary name of its own in the same folder, then renamed.

    Whatever goes wrong, the file that was there stays as it was and no temporary file is left. Several threads or
    processes may write one path: each file is whole, and the last rename wins.

    Args:
        path: The file; one that is there is replaced.
        content: Its bytes.

    Raises:
        FileNotFoundError: If the folder is missing.
        ValueError: If ``path`` is a folder.
        OSError: If the file cannot be written; a full disk says so.
    """
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{shown(folder)} is not a folder to save {shown(path.name)} in")
    if path.is_dir():
        raise ValueError(f"{shown(path)} is a folder, expected the name of a file")
    # The name is short, because the file's own may be as long as the file system allows.
    temporary = folder / f".{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        why = _FULL.get(error.errno or 0, error.strerror or type(error).__name__)
        raise type(error)(
            error.errno, f"{shown(path)} cannot be written ({why}); nothing is changed"
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(folder)


def _sync(folder: Path) -> None:
    """The new name outlives a power cut, where the system lets folders be synchronised."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def pack(content: dict[str, Any], what: str) -> bytes:
    """The bytes of a file: one line with format, kind, length and SHA-256, then what ``torch.save`` makes.

    Args:
        content: Tensors, numbers, strings, lists and dictionaries.
        what: The kind of file, in small letters as in a sentence (``'model'``); :func:`unpack` asks for the same.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    body = buffer.getvalue()
    return b"%s%d %s %d %s\r\n" % (_MAGIC, _FORMAT, what.encode(), len(body), _sum(what, body)) + body


def unpack(data: bytes, what: str, path: Path) -> dict[str, Any]:
    """What :func:`pack` was given; nothing in the file is run.

    Args:
        data: The bytes of the file.
        what: The kind of file that is expected.
        path: Where the bytes come from, for messages.

    Raises:
        ValueError: If the bytes are not of this package, of another kind or a newer format, damaged, cut, or hold
            other things than :func:`pack` writes.
    """
    header = _HEADER.match(data)
    if header is None:
        raise ValueError(_no_file(data[: 2**16], what, path))
    form, kind, length, digest = header.groups()
    if int(form) != _FORMAT:
        raise ValueError(
            f"{shown(path)} has format {int(form)}, expected {_FORMAT}: another version of this package wrote it"
        )
    if kind.decode() != what:
        raise ValueError(f"{shown(path)} is a file of a {kind.decode()}, expected one of a {what}")
    body = memoryview(data)[header.end() :]
    if len(body) != int(length):
        raise ValueError(
            f"{shown(path)} is damaged: it has {len(body)} bytes after its first line, expected {int(length)}"
        )
    if _sum(what, body) != digest:
        raise ValueError(f"{shown(path)} is damaged: its bytes do not have the sum that it was written with")
    return _content(body, what, path)


def read_packed(path: Path, what: str) -> dict[str, Any]:
    """:func:`unpack` of a file, of which no more is read than its first line where that is not one of ours.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As :func:`unpack`.
    """
    if path.is_dir():
        raise ValueError(f"{shown(path)} is a folder, expected a file of a {what}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {shown(path)}")
    with path.open("rb") as file:
        start = file.read(2**16)
        if _HEADER.match(start) is None:
            raise ValueError(_no_file(start, what, path))
        return unpack(start + file.read(), what, path)


def shown(text: str | os.PathLike[str], most: int = 100) -> str:
    """A path or text as a message quotes it: on one line, and not longer than ``most`` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else f"{line[: most // 3]}…{line[-(most - most // 3 - 1) :]}"


_SPELLED: Final = re.compile(r"[FHLMNRSX](?=[A-Z0-9])")  # MKR, whose first letter is read as a vowel: em
_YOU: Final = ("uni", "use", "uint", "utc", "eu", "one")


def kind_of(value: Any) -> str:
    """What a value is, as a message says it: ``'an int'``, ``'a list'``; of a class ``'the class RandomSplit'``."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    is_vowel = name[:1].lower() in tuple("aeiou") and not name.lower().startswith(_YOU)
    return f"{'an' if is_vowel or _SPELLED.match(name) else 'a'} {name}"


def _sum(what: str, body: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(what.encode())
    digest.update(body)
    return digest.hexdigest().encode()


def _no_file(start: bytes, what: str, path: Path) -> str:
    """Why bytes without our first line are none of ours."""
    if start.startswith(_MAGIC):
        return f"{shown(path)} is damaged: its first line cannot be read"
    if _MAGIC in start:
        return f"{shown(path)} is damaged: other bytes stand before the beginning of the file of a {what}"
    if start.startswith(b"PK"):
        return (
            f"{shown(path)} is damaged or no file of a {what} of this version: torch.save or an older version "
            "wrote it, and it has no sum to check it by"
        )
    why = "it does not begin as one" if start else "it is empty"
    return f"{shown(path)} is damaged or no file of a {what} of this package: {why}"


def _content(body: memoryview, what: str, path: Path) -> dict[str, Any]:
    # The sum is no signature: whoever makes a file makes its sum. What torch.load may make of it is bounded first.
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            records = archive.infolist()
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise ValueError("it is compressed")
        if sum(record.file_size for record in records) > len(body):
            raise ValueError("its parts overlap")
        content = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
            raise ValueError("it holds no dictionary")
        _check_tensors(content, len(body))
    except Exception as error:  # whatever torch.load stumbles over, the file is at fault
        raise ValueError(
            f"{shown(path)} is damaged or no file of a {what} of this package: what it holds cannot be read"
        ) from error
    return content


def _check_tensors(content: Any, most: int) -> None:
    """Raises ValueError for a tensor that asks for more memory than the file has, or is no plain one."""
    todo, known = [content], set()
    while todo:
        part = todo.pop()
        if id(part) in known:  # parts may stand in each other, many times or in circles
            continue
        known.add(id(part))
        if isinstance(part, Tensor):
            if part.layout != torch.strided or part.device.type != "cpu" or part.is_quantized:
                raise ValueError("it holds a tensor that is not plain")
            if part.numel() * part.element_size() > most:
                raise ValueError("it holds a tensor larger than itself")
        elif isinstance(part, dict):
            todo += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple | set | frozenset):
            todo += part


def write_folder(
    folder: Path, manifest: str, kind: str, content: dict[str, Any], files: dict[str, bytes]
) -> None:
    """Writes the files of a folder, each of them whole, and last a JSON file that holds the sum of each.

    Where writing ends half-way, the sums tell that what lies there does not belong together.

    Args:
        folder: The folder, which :func:`check_folder` looked at before.
        manifest: Name of the JSON file.
        kind: What the folder is of, in small letters as in a sentence.
        content: What else the JSON file says.
        files: Bytes of each file by its name.

    Raises:
        OSError: If the folder cannot be made or a file cannot be written.
    """
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    text = json.dumps({"format": f"{_KIND}{kind}", "version": _FORMAT, **content, "files": sums}, indent=2)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        replace_file(folder / name, data)
    replace_file(folder / manifest, text.encode() + b"\n")


def check_folder(folder: Path, manifest: str, kind: str, names: Iterable[str]) -> None:
    """Raises ValueError unless a folder may be written to: what would be replaced has to be of the same kind."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{shown(folder)} is a file, expected a folder")
    there = [name for name in (manifest, *names) if os.path.lexists(folder / name)]
    if there and not _is_of(folder / manifest, kind):
        raise ValueError(
            f"{shown(folder)} holds {shown(there[0])} of something else than this package's {kind}, expected "
            "an empty or a new folder: nothing is changed"
        )


def read_folder(folder: Path, manifest: str, kind: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What :func:`write_folder` wrote: the JSON file without its sums, and the bytes of the other files.

    Raises:
        FileNotFoundError: If there is no such folder, or one of the files is missing.
        ValueError: If the JSON file is not of this kind and version, or a file has another sum.
    """
    if folder.is_file():
        raise ValueError(f"{shown(folder)} is a file, expected the folder of a {kind}")
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {shown(folder)}")
    path = folder / manifest
    if not path.is_file():
        raise FileNotFoundError(f"{shown(folder)} has no {manifest}, expected the folder of a {kind}")
    content = read_json(path.read_bytes(), path)
    if not isinstance(content, dict) or content.pop("format", None) != f"{_KIND}{kind}":
        raise ValueError(f"{shown(path)} does not say that it is of a {kind} of this package")
    if content.pop("version", None) != _FORMAT:
        raise ValueError(f"{shown(path)} is of another version of this package, expected format {_FORMAT}")
    sums = content.pop("files", None)
    if not isinstance(sums, dict) or not all(_NAME.fullmatch(name) for name in sums):
        raise ValueError(f"{shown(path)} is damaged: it does not say which files belong to it")
    files = {}
    for name, digest in sums.items():
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{shown(folder)} lacks {shown(name)}, which its {manifest} speaks of")
        files[name] = (folder / name).read_bytes()
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise ValueError(
                f"{shown(folder / name)} is damaged or of another writing than {manifest}: its bytes do not have "
                "the sum that stands there"
            )
    return content, files


def read_json(data: bytes, path: Path) -> Any:
    """What a JSON file holds; raises ValueError for one that is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{shown(path)} is damaged: it is no JSON") from error


def _is_of(path: Path, kind: str) -> bool:
    """Whether a JSON file is one that :func:`write_folder` wrote of a kind."""
    try:
        content = read_json(path.read_bytes(), path)
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == f"{_KIND}{kind}"
