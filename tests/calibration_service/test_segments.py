"""Segments and their pooled margins."""

import numpy as np
import polars as pl

from calibration_service.segments import (
    MARGINS,
    map_segments,
    segment_key,
    segment_key_expr,
    with_segments,
)


def rows():
    return with_segments(
        pl.DataFrame(
            {
                "category": ["sports", "crypto", None, "sports"],
                "liquidity_bucket": ["LOW", "LOW", "HIGH", None],
                "tte_seconds": [3600.0, 1e6, None, float("nan")],
            }
        )
    )


def test_what_is_unknown_is_unspecified_and_not_low():
    filled = rows()
    assert filled["category"].to_list()[2] == "UNSPECIFIED"
    assert filled["liquidity_bucket"].to_list()[3] == "UNSPECIFIED"
    assert filled["tte_bucket"].to_list() == ["LE_6H", "GT_72H", "UNSPECIFIED", "UNSPECIFIED"]


def test_margins_go_from_the_finest_to_the_pool_of_everything():
    assert MARGINS[0] == (1, 1, 1)
    assert MARGINS[-1] == (0, 0, 0)
    assert [sum(margin) for margin in MARGINS] == [3, 2, 2, 2, 1, 1, 1, 0]


def test_every_row_belongs_to_eight_segments_that_its_key_names():
    frame = rows()
    placed = map_segments(frame)
    for m, margin in enumerate(MARGINS):
        expected = frame.with_columns(segment_key_expr(margin))["segment_key"].to_list()
        got = [segment_key(*placed.labels[s]) for s in placed.of_fine[m][placed.fine]]
        assert got == expected


def test_each_segment_has_one_number_and_margins_stand_together():
    placed = map_segments(rows())
    assert len(set(placed.labels)) == len(placed.labels)
    highest = [of_fine.max() for of_fine in placed.of_fine]
    lowest = [of_fine.min() for of_fine in placed.of_fine]
    assert (np.array(lowest[1:]) == np.array(highest[:-1]) + 1).all()
