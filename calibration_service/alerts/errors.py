"""Errors of alerts.

The tree::

    AlertError
    ├── PolicyError          a policy file cannot be read (names file and field)
    ├── BadObservation       an observation cannot be (names the field)
    ├── BadState             a checkpoint is not one (names the field)
    ├── FeedNotReady         the alert table has not been read yet
    ├── UnknownPlace         a watcher resumes where this store has never been
    └── DeliveryError        a sink did not take an alert; asking again may help
        └── DeliveryRefused  asking again would not help
"""

from __future__ import annotations


class AlertError(Exception):
    """Root of the errors of this package."""


class PolicyError(AlertError):
    """A policy file is missing, unreadable or holds a bad field."""


class BadObservation(AlertError, ValueError):
    """An observation contradicts itself."""


class BadState(AlertError, ValueError):
    """A stored state cannot be read back."""


class FeedNotReady(AlertError):
    """The feed has not read the alert table yet."""


class UnknownPlace(AlertError):
    """A place in the order of alerts that this store has not reached."""


class DeliveryError(AlertError):
    """A sink did not take an alert this time; the message is safe to store and to show."""


class DeliveryRefused(DeliveryError):
    """A sink will not take this alert, however often it is sent."""
