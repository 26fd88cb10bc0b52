"""Passwords in URLs that nobody chose: refused where others can reach what they protect."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

from gateway.server_settings import is_loopback

_PLACEHOLDERS = frozenset(
    {"admin", "change-me", "change_me", "changeit", "changeme", "default", "example", "letmein",
     "marketcal", "minioadmin", "passw0rd", "password", "placeholder", "postgres", "qwerty",
     "redis", "root", "secret", "test", "todo", "user", "xxx", "xxxx"}
)  # fmt: skip


def has_placeholder_password(url: str) -> bool:
    """Whether the password in a URL beyond loopback is a well-known word or the user's own name.

    A digit or two behind the word, or one letter over and over, makes no other password of it.

    >>> has_placeholder_password("postgresql://marketcal:changeme1@db.internal/control")
    True
    >>> has_placeholder_password("redis://:n8Wq-31pZ@cache.internal:6379/0")
    False
    >>> has_placeholder_password("postgresql://me:changeme@127.0.0.1/control")
    False
    """
    try:
        parts = urlsplit(url)
        host, user, password = parts.hostname, parts.username, parts.password
    except ValueError:
        return False  # whoever opens it says what is wrong with it
    query = parse_qs(parts.query)
    password = unquote(password or "") or query.get("password", [""])[0]
    host = host or query.get("host", [""])[0]
    if not password or not host or host.startswith("/") or is_loopback(host):
        return False
    word = password.lower()
    if word.rstrip("0123456789!") in _PLACEHOLDERS | {""} or word in _PLACEHOLDERS:
        return True
    return len(set(word)) == 1 or (bool(user) and word == unquote(user or "").lower())
