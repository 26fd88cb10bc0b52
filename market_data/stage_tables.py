"""The table in which stages remember what they were computed from."""

from __future__ import annotations

from market_data.table import TEXT, describe

STAGE_INPUT = describe(
    "stage_input",
    ("stage", "part"),
    {
        "stage": TEXT,
        "part": TEXT,  # the day of a partition
        "digest": TEXT,  # of the data files and the formula that the stored part came from
    },
)
