"""Answers that are no: their status, body and headers as Mixpanel words them."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """Raised anywhere while a request is handled; becomes its answer."""

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


def refused(status: int, path: str, error: str, headers: dict[str, str] | None = None) -> Refusal:
    """As the query and export APIs say no."""
    return Refusal(status, {"request": path, "error": error}, headers)


def refused_by_app(status: int, error: str) -> Refusal:
    """As the app API says no."""
    return Refusal(status, {"error": error, "status": "error"})


def refused_import(
    status: int, error: str, word: str, headers: dict[str, str] | None = None, **more: Any
) -> Refusal:
    """As the ingestion API says no."""
    return Refusal(status, {"code": status, "error": error, "status": word, **more}, headers)
