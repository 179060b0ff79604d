"""Everything that passes, kept as it passed: one line a request with its answer, in the order of the answers.

Switched on by the setting `record`. The file holds addresses and no key; only its owner can read it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from starlette.types import Message, Receive, Scope, Send


class Record:
    def __init__(self, file: Path) -> None:
        self.file = file

    def watching(self, scope: Scope, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """`receive` and `send` of one request, kept when the answer is whole."""
        asked, answered = bytearray(), bytearray()
        start: Message = {}

        async def receive_kept() -> Message:
            message = await receive()
            asked.extend(message.get("body", b""))
            return message

        async def send_kept(message: Message) -> None:
            start.update(message if message["type"] == "http.response.start" else {})
            answered.extend(message.get("body", b""))
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self.keep(scope, bytes(asked), start, bytes(answered))
            await send(message)

        return receive_kept, send_kept

    def keep(self, scope: Scope, asked: bytes, start: Message, answered: bytes) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}
        line: dict[str, Any] = {
            "method": scope["method"], "path": scope["path"], "query": scope["query_string"].decode(),
            "body": asked.decode(), "status": start["status"], "type": headers.get("content-type", ""),
            "answer": answered.decode(),
        }  # fmt: skip
        with open(os.open(self.file, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "a") as file:
            file.write(json.dumps(line) + "\n")
