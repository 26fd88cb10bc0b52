"""Errors of market_data.

The tree::

    MarketDataError
    ├── ArchiveError              a replay archive lacks a file or a field, or holds a bad one
    ├── LakeError
    │   ├── UnknownTable          no table of that name in ``market_data.schemas``
    │   ├── SchemaMismatch        a frame does not fit the table's schema (names table and column)
    │   ├── DuplicateKeys         one frame holds two rows of one key
    │   └── TableDamaged          a file of a table cannot be read (names table and file)
    ├── RawStoreError             a raw file is missing, damaged or not what its name says
    ├── RecordRejected            one record cannot be read; carries the reason for the dead letter
    │   └── RecordLeftOut         a record that is not ingested by rule: counted, and no letter
    ├── BusError                  a bus cannot be used as asked
    │   ├── BusTakenOver          a later consumer of the same name works in this one's place
    │   └── BusUnavailable        it does not answer; asking again may help
    ├── StreamError
    │   ├── CaptureError          a recorded stream cannot be read (names file, line and field)
    │   ├── StreamLimit           more instruments than one connection may carry
    │   └── StreamRefused         the venue refused a subscription, or never sent an event of it
    └── VenueError
        ├── VenueUnreachable      connection refused, dropped or timed out, retries spent
        ├── VenueRateLimited      429 to the last attempt
        ├── VenueServerError      5xx to the last attempt
        ├── VenueRefused          any other 4xx: asking again would not help
        │   └── VenueNotFound     404: the venue has nothing at this address
        ├── VenueBadPayload       the body is not the JSON it should be, retries spent
        └── PagingLoop            the venue serves the same page or cursor again and again
"""

from __future__ import annotations


class MarketDataError(Exception):
    """Root of the errors of this package."""


class ArchiveError(MarketDataError):
    """A replay archive that cannot be read; the message names the file and the field."""


class LakeError(MarketDataError):
    """A table cannot be read or written as asked."""


class UnknownTable(LakeError):
    """No such table in ``market_data.schemas.TABLES``."""


class SchemaMismatch(LakeError):
    """A frame does not fit the schema of its table."""


class DuplicateKeys(LakeError):
    """A frame holds more than one row for a key of its table."""


class TableDamaged(LakeError):
    """A data file of a table is damaged or gone."""


class RawStoreError(MarketDataError):
    """A raw file is missing or damaged."""


class RecordRejected(MarketDataError):
    """One record cannot be turned into a row.

    Attributes:
        reason: stable code, the one that the dead letter carries.
        detail: what exactly was wrong.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class RecordLeftOut(RecordRejected):
    """One record is sound and of a kind that is not ingested: its raw answer is all that stays."""


class BusError(MarketDataError):
    """A bus cannot be used as asked; the message names the setting or the bus."""


class BusTakenOver(BusError):
    """A later consumer of the same name has taken what this one held; it must end."""


class BusUnavailable(BusError):
    """A bus does not answer now."""


class StreamError(MarketDataError):
    """A venue's stream cannot be used as asked."""


class CaptureError(StreamError):
    """A recorded stream that cannot be read; the message names the file, the line and the field."""


class StreamLimit(StreamError):
    """More instruments than one connection may carry."""


class StreamRefused(StreamError):
    """The venue will not serve an instrument: it refused it, or never sent anything of it."""


class VenueError(MarketDataError):
    """A venue did not answer a request as it should.

    Attributes:
        url: the request's address without credentials.
        attempts: how many times it was asked.
    """

    def __init__(self, message: str, *, url: str = "", attempts: int = 1) -> None:
        super().__init__(message)
        self.url = url
        self.attempts = attempts


class VenueUnreachable(VenueError):
    """No answer: refused, dropped or timed out."""


class VenueRateLimited(VenueError):
    """Still 429 after the last attempt."""


class VenueServerError(VenueError):
    """Still 5xx after the last attempt."""


class VenueRefused(VenueError):
    """A 4xx that no retry will cure."""


class VenueNotFound(VenueRefused):
    """404: the venue has nothing at this address."""


class VenueBadPayload(VenueError):
    """The body was not the JSON that the endpoint promises."""


class PagingLoop(VenueError):
    """Paging makes no progress: the same page or cursor came back."""
