"""A skops archive in one settled form: equal models become equal bytes, so that a checksum means something."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any, Final

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip entry can carry."""
_SCHEMA: Final = "schema.json"


def canonical_archive(data: bytes) -> bytes:
    """The same archive with object ids counted from 1, entries in order and without times."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    ids: dict[int, int] = {}
    files: dict[str, str] = {}
    schema = _renumbered(json.loads(entries.pop(_SCHEMA)), ids, files)
    renamed = {files.get(name, name): content for name, content in entries.items()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        _write(archive, _SCHEMA, json.dumps(schema).encode())
        for name in sorted(renamed):
            _write(archive, name, renamed[name])
    return out.getvalue()


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)


def _renumbered(node: Any, ids: dict[int, int], files: dict[str, str]) -> Any:
    """The schema with every memory address replaced by the order in which it first comes."""
    if isinstance(node, list):
        return [_renumbered(item, ids, files) for item in node]
    if not isinstance(node, dict):
        return node
    out = dict(node)
    if "__id__" in out:
        out["__id__"] = ids.setdefault(out["__id__"], len(ids) + 1)
    if isinstance(out.get("file"), str):
        suffix = out["file"].rpartition(".")[2]
        out["file"] = files.setdefault(out["file"], f"{len(files) + 1}.{suffix}")
    return {
        key: value if key in ("__id__", "file") else _renumbered(value, ids, files)
        for key, value in out.items()
    }
