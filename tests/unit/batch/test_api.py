"""The routes, as clients see them."""

from __future__ import annotations

import httpx
import pytest

from serve_app.batch.store import Store
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
    for query in ({"limit": "0"}, {"limit": "x"}, {"after": "nothing"}):
        assert (await http.get("/v1/files", params=query)).status_code == 400


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
    ],
)
async def test_batches_that_are_refused(
    http: httpx.AsyncClient, store: Store, change: dict[str, object], status: int, param: str
) -> None:
    await add_file(store, b"{}")
    answer = await http.post("/v1/batches", json=NEW | change)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text
    assert (await http.post("/v1/batches", content=b"{")).status_code == 400


async def test_what_has_ended_is_not_cancelled(http: httpx.AsyncClient, store: Store) -> None:
    await add_batch(store, status="completed")
    assert (await http.post("/v1/batches/batch_1/cancel")).status_code == 409
    assert (await http.post("/v1/batches/batch_2/cancel")).status_code == 404
