"""The path of a price as a picture: the same path gives the same bytes.

The frame is drawn once and copied for each picture, which is ten times as quick as drawing it anew.
Nothing is written into the file but the pixels.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import numpy as np

from calibration_service.postmortem.case import Case
from calibration_service.postmortem.price_path import IntArray, Prices

WIDTH, HEIGHT, DPI = 480, 240, 100
_LINE, _MOVE, _FRAME, _TEXT = "#1f5fa8", "#c2571a", "#8895a7", "#334155"
_ENDED = {
    "RESOLVED_TRUE": "resolved YES",
    "RESOLVED_FALSE": "resolved NO",
    "VOID": "void",
    "MULTI_OUTCOME": "several outcomes",
}


class PathPicture:
    """Draws paths, one after the other; see `calibration_service.postmortem.build.Draw`."""

    def __init__(self) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI)
        canvas: Any = FigureCanvasAgg(figure)
        self._canvas = canvas
        axes: Any = figure.add_axes((0.09, 0.14, 0.88, 0.74))
        axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[0, 0.25, 0.5, 0.75, 1])
        axes.tick_params(labelsize=7, colors=_FRAME)
        axes.grid(axis="y", color="#e2e8f0", linewidth=0.6)
        for spine in axes.spines.values():
            spine.set_color(_FRAME)
        self._axes = axes
        self._line = axes.plot([], [], color=_LINE, linewidth=1.2, drawstyle="steps-post")[0]
        self._move = axes.plot([], [], "o-", color=_MOVE, linewidth=1.0, markersize=3)[0]
        self._left = figure.text(0.09, 0.03, "", fontsize=7, color=_TEXT)
        self._right = figure.text(0.97, 0.03, "", fontsize=7, color=_TEXT, ha="right")
        self._title = figure.text(0.09, 0.92, "", fontsize=8, color=_TEXT)
        self._moving = (self._line, self._move, self._left, self._right, self._title)
        for artist in self._moving:
            artist.set_animated(True)
        canvas.draw()
        self._frame = canvas.copy_from_bbox(figure.bbox)

    def __call__(self, prices: Prices, path: IntArray, case: Case) -> bytes:
        """PNG of 480 × 240 pixels; the right edge is the resolution."""
        from PIL import Image

        ts, p = prices.ts[path], prices.p_yes[path]
        end = int(case.resolved_at.timestamp() * 1e6)
        span = max(end - int(ts[0]), 1)
        x = (ts - ts[0]) / span
        self._line.set_data(np.append(x, 1.0), np.append(p, p[-1]))
        move = case.moves[0] if case.moves else None
        edges = [] if move is None else [(move.start, move.before), (move.end, move.after)]
        self._move.set_data([(at - int(ts[0])) / span for at, _ in edges], [y for _, y in edges])
        first = datetime.fromtimestamp(int(ts[0]) / 1e6, UTC)
        self._left.set_text(f"{first:%Y-%m-%d %H:%M}")
        self._right.set_text(f"{case.resolved_at:%Y-%m-%d %H:%M} UTC")
        self._title.set_text(f"Price of YES, {_ENDED[case.label]}")
        self._canvas.restore_region(self._frame)
        for artist in self._moving:
            self._axes.draw_artist(artist)
        target = io.BytesIO()
        pixels = np.asarray(self._canvas.buffer_rgba())[..., :3]
        Image.fromarray(np.ascontiguousarray(pixels)).save(target, format="png")
        return target.getvalue()
