"""The last requests, each as it was decided and as it went; the oldest make room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice

from serve_apps.seeing.record import RequestRecord

MOST_TEXT = 120
"""Characters of what a client may make as long as it likes."""
MOST_CANDIDATES = 32
MOST_ATTEMPTS = 8


class Journal:
    """A bounded memory of finished requests, found by id."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._records: OrderedDict[str, RequestRecord] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: RequestRecord) -> None:
        """Keep a record; what is unbounded in it is cut."""
        if not self._most:
            return
        if len(record.model_asked) > MOST_TEXT:
            record.model_asked = record.model_asked[:MOST_TEXT]
        if len(record.candidates) > MOST_CANDIDATES:
            record.candidates = record.candidates[:MOST_CANDIDATES]
        if len(record.tried) > MOST_ATTEMPTS:
            del record.tried[:-MOST_ATTEMPTS]
        self._records[record.request_id] = record
        if len(self._records) > self._most:
            self._records.popitem(last=False)

    def find(self, request_id: str) -> RequestRecord | None:
        """The request of that id; None when it is not (or no longer) known."""
        return self._records.get(request_id)

    def latest(self, most: int) -> Iterator[RequestRecord]:
        """The last requests, newest first."""
        return islice(reversed(self._records.values()), most)
