"""The routes, as clients see them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import httpx
import pytest

from serve_app.batch.api.store import Store
from tests.unit.batch.conftest import MOST_BYTES, add_batch, add_file

NEW = {"input_file_id": "file-1", "endpoint": "/v1/completions", "completion_window": "24h"}


async def create(http: httpx.AsyncClient, content: bytes = b"line", **fields: str) -> httpx.Response:
    return await http.post("/v1/files", data={"purpose": "batch"} | fields, files={"file": ("in.jsonl", content)})


async def test_a_file_from_upload_to_deletion(http: httpx.AsyncClient) -> None:
    file = (await create(http)).json()
    assert (file["object"], file["bytes"], file["filename"], file["purpose"]) == ("file", 4, "in.jsonl", "batch")
    assert (await http.get(f"/v1/files/{file['id']}")).json() == file
    assert (await http.get("/v1/files")).json()["data"] == [file]
    content = await http.get(f"/v1/files/{file['id']}/content")
    assert content.content == b"line" and "in.jsonl" in content.headers["content-disposition"]
    deleted = (await http.delete(f"/v1/files/{file['id']}")).json()
    assert deleted == {"id": file["id"], "object": "file", "deleted": True}
    for path in (file["id"], f"{file['id']}/content"):
        gone = await http.get(f"/v1/files/{path}")
        assert gone.status_code == 404 and gone.json()["error"]["code"] == "file_not_found"


@pytest.mark.parametrize(
    ("content", "fields", "status", "param"),
    [
        (b"", {}, 400, "file"),
        (b"x", {"purpose": "fine-tune"}, 400, "purpose"),
        (b"x", {"colour": "red"}, 400, "colour"),
        (b"x", {"expires_after[anchor]": "now", "expires_after[seconds]": "3600"}, 400, "expires_after[anchor]"),
        (b"x", {"expires_after[anchor]": "created_at", "expires_after[seconds]": "1"}, 400, "expires_after"),
        (b"x", {"expires_after[anchor]": "created_at", "expires_after[seconds]": "²"}, 400, "expires_after[seconds]"),
        (
            b"x",
            {"expires_after[anchor]": "created_at", "expires_after[seconds]": "9" * 4000},
            400,
            "expires_after[seconds]",
        ),
        (b"x", {"expires_after[anchor]": "created_at", "expires_after[seconds]": "-1"}, 400, "expires_after[seconds]"),
        (b"x" * (MOST_BYTES + 1), {}, 413, "file"),
    ],
)
async def test_uploads_that_are_refused(
    http: httpx.AsyncClient, content: bytes, fields: dict[str, str], status: int, param: str
) -> None:
    answer = await create(http, content, **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert (await http.get("/v1/files")).json()["data"] == []


async def test_lists_in_pages(http: httpx.AsyncClient) -> None:
    ids = [(await create(http)).json()["id"] for _ in range(3)]
    page = (await http.get("/v1/files", params={"limit": 2, "order": "asc"})).json()
    assert (page["first_id"], page["last_id"], page["has_more"]) == (ids[0], ids[1], True)
    page = (await http.get("/v1/files", params={"after": ids[1], "order": "asc"})).json()
    assert [file["id"] for file in page["data"]] == [ids[2]] and not page["has_more"]
    queries = [{"limit": limit} for limit in ("0", "x", "²", "٣", "1.5", "-1", "+1", " 1", "", "9" * 5000)]
    for query in (*queries, {"after": "nothing"}, {"after": "\0"}, {"after": "x" * 10_000}):
        for route in ("/v1/files", "/v1/batches"):
            answer = await http.get(route, params=query)
            assert answer.status_code == 400 and len(answer.text) < 1000, query


async def test_a_batch_from_creation_to_cancellation(http: httpx.AsyncClient, store: Store) -> None:
    await add_file(store, b"{}")
    answer = await http.post("/v1/batches", json={**NEW, "metadata": {"for": "test"}})
    batch = answer.json()
    assert (batch["object"], batch["status"], batch["metadata"]) == ("batch", "validating", {"for": "test"})
    assert batch["expires_at"] - batch["created_at"] == 86400
    assert (await http.get(f"/v1/batches/{batch['id']}")).json() == batch
    assert (await http.get("/v1/batches")).json()["data"] == [batch]
    assert (await http.delete("/v1/files/file-1")).status_code == 409
    for _ in range(2):
        assert (await http.post(f"/v1/batches/{batch['id']}/cancel")).json()["status"] == "cancelling"


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"input_file_id": "file-0"}, 404, "file_id"),
        ({"endpoint": "/v1/moderations"}, 400, "endpoint"),
        ({"completion_window": "soon"}, 400, "completion_window"),
        ({"metadata": {"k" * 65: ""}}, 400, "metadata"),
        ({"metadata": {str(number): "" for number in range(17)}}, 400, "metadata"),
        ({"colour": "red"}, 400, "colour"),
        ({"endpoint": 5}, 400, "endpoint"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, 400, "expires_after"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 10**30}}, 400, "expires_after"),
        ({"completion_window": "٣h"}, 400, "completion_window"),
        ({"completion_window": "0h"}, 400, "completion_window"),
        ({"completion_window": 24}, 400, "completion_window"),
        ({"metadata": {"k": "x" * 513}}, 400, "metadata"),
        ({"metadata": {"k": 5}}, 400, "metadata"),
        ({"input_file_id": "x" * 10_000}, 404, "file_id"),
    ],
)
async def test_batches_that_are_refused(
    http: httpx.AsyncClient, store: Store, change: dict[str, object], status: int, param: str
) -> None:
    await add_file(store, b"{}")
    answer = await http.post("/v1/batches", json=NEW | change)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text
    assert len(answer.text) < 1000


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 400),
        (b'{"input_file_id": "file-1", "metadata": ' + b"[" * 2000, 400),
        (b'{"x":' * 2000, 400),
        (b'{"input_file_id": "\xff"}', 400),
        (b'{"input_file_id": "\\ud800"}', 400),
        (b'{"input_file_id": ' + b"9" * 5000 + b"}", 400),
        (b" " * (2**20 + 1), 413),
    ],
    ids=["torn", "empty", "deep", "deep objects", "binary", "surrogate", "number", "large"],
)
async def test_a_body_that_cannot_be_read_is_refused(http: httpx.AsyncClient, body: bytes, status: int) -> None:
    answer = await http.post("/v1/batches", content=body)
    assert answer.status_code == status and answer.json()["error"]["message"]


@pytest.mark.parametrize("id", ["..%2fmetrics", "..%2f..%2fmetrics", "%2e%2e%2fbatches", "a%00b", "%ff", "x" * 10_000])
async def test_an_id_of_any_kind_is_404(http: httpx.AsyncClient, id: str) -> None:
    for path in (f"/v1/files/{id}", f"/v1/files/{id}/content", f"/v1/batches/{id}"):
        answer = await http.get(path)
        assert answer.status_code == 404 and answer.json()["error"]["code"], path
        assert len(answer.text) < 1000 or id.startswith("x"), path


async def test_contents_that_are_gone_are_404_and_can_be_deleted(http: httpx.AsyncClient, store: Store) -> None:
    await add_file(store, b"text")
    store.path("file-1").unlink()
    answer = await http.get("/v1/files/file-1/content")
    assert answer.status_code == 404 and answer.json()["error"]["code"] == "file_contents_missing"
    assert (await http.delete("/v1/files/file-1")).json()["deleted"]


async def test_a_store_that_fails_is_503_and_a_full_disk_507(
    http: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_file(store, b"text")
    for code, status, named in ((13, 507, "disk_full"), (10, 503, "batch_storage_failed")):

        def fail(*_: object, code: int = code) -> None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = code
            raise error

        monkeypatch.setattr(store._files, "get", fail)
        for request in (http.get("/v1/files/file-1"), http.delete("/v1/files/file-1")):
            answer = await request
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, named)


async def test_what_has_ended_is_not_cancelled(http: httpx.AsyncClient, store: Store) -> None:
    await add_batch(store, status="completed")
    assert (await http.post("/v1/batches/batch_1/cancel")).status_code == 409
    assert (await http.post("/v1/batches/batch_2/cancel")).status_code == 404


async def test_what_a_key_has_made_another_does_not_find(keyed: Callable[[str], httpx.AsyncClient]) -> None:
    file = (await create(keyed("a"))).json()
    batch = (await keyed("a").post("/v1/batches", json=NEW | {"input_file_id": file["id"]})).json()
    assert file["key"] == batch["key"] == "a"
    paths = [f"/v1/files/{file['id']}", f"/v1/files/{file['id']}/content", f"/v1/batches/{batch['id']}"]
    for key, status, count in (("a", 200, 1), ("b", 404, 0), ("boss", 200, 1)):
        assert [(await keyed(key).get(path)).status_code for path in paths] == [status] * 3
        for kind in ("files", "batches"):
            assert len((await keyed(key).get(f"/v1/{kind}")).json()["data"]) == count
    other = keyed("b")
    unknown = (await other.get("/v1/files/file-none")).json()["error"]
    told = (await other.get(paths[0])).json()["error"]
    assert told["message"].replace(file["id"], "file-none") == unknown["message"]
    refused = [
        await other.delete(paths[0]),
        await other.post(f"{paths[2]}/cancel"),
        await other.post("/v1/batches", json=NEW | {"input_file_id": file["id"]}),
    ]
    assert [answer.status_code for answer in refused] == [404] * 3
    for kind, id in (("files", file["id"]), ("batches", batch["id"])):
        assert (await other.get(f"/v1/{kind}", params={"after": id})).status_code == 400
    assert (await keyed("a").get(paths[2])).json()["status"] == "validating"


async def test_what_was_made_without_a_key_is_an_admins(
    http: httpx.AsyncClient, keyed: Callable[[str], httpx.AsyncClient]
) -> None:
    path = f"/v1/files/{(await create(http)).json()['id']}"
    assert [(await keyed(key).get(path)).status_code for key in ("a", "boss")] == [404, 200]
    assert (await http.get(path)).status_code == 200
