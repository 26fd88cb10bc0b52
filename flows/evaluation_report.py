"""The report of an evaluation: JSON, pictures, one page with all in it, and Prefect artifacts."""

from __future__ import annotations

import base64
import html
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.artifacts import create_markdown_artifact

from flows import evaluation_pictures
from flows.runs import Run
from forecast_service.evaluation.promotion import Decision, LiveFigures
from forecast_service.evaluation.scoring import ALL, CONFORMAL, RAW, Figure
from forecast_service.interval_scores import Interval

if TYPE_CHECKING:
    from flows.evaluation_stages import Results

BLOCK = "event: all markets and windows of an event are drawn together"
_SHOWN = ("pinball", "wis", "coverage_80", "coverage_95", "width_80", "breach_rate")
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1c2733}table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .7rem;"
    "border-bottom:1px solid #dfe5ec;text-align:left}td{font-variant-numeric:tabular-nums}"
    "img{max-width:100%}.PROMOTE{color:#177245}.KEEP{color:#8a4b08}"
)


def folder_of(run: Run) -> Path:
    """Where a run's report lies."""
    return Path(run.settings.evaluation.reports) / run.run_id.replace(":", "_")


def write(run: Run, results: Results) -> tuple[int, int]:
    """Writes JSON, PNG and HTML beside each other; how many files, and how many of them changed."""
    pictures = evaluation_pictures.pictures(results)
    content = {
        "report.json": json.dumps(as_record(run, results), indent=1, allow_nan=False).encode(),
        "report.html": page(run, results, pictures).encode(),
        **pictures,
    }
    folder = folder_of(run)
    folder.mkdir(parents=True, exist_ok=True)
    changed = 0
    for name, data in content.items():
        target = folder / name
        if target.exists() and target.read_bytes() == data:
            continue
        part = target.with_suffix(f"{target.suffix}.part")
        part.write_bytes(data)
        part.replace(target)
        changed += 1
    return len(content), changed


def publish(run: Run, results: Results) -> None:
    """Shows verdicts, scores and pictures in Prefect."""
    pictures = {
        name: f"![{name}](data:image/png;base64,{base64.b64encode(data).decode()})"
        for name, data in evaluation_pictures.pictures(results).items()
    }
    create_markdown_artifact(
        key="evaluation",
        markdown=f"{markdown(results)}\nReport: `{folder_of(run) / 'report.html'}`\n",
        description=f"Verdicts and scores of {run.run_id}",
    )
    for name, picture in pictures.items():
        create_markdown_artifact(
            key=f"evaluation-{name.removesuffix('.png')}", markdown=picture, description=name
        )


def as_record(run: Run, results: Results) -> dict[str, Any]:
    """Everything that was found, as plain values."""
    windows = results.all_windows
    return {
        "run_id": run.run_id,
        "as_of": run.interval_end.isoformat(),
        "source": results.source,
        "champion": results.champion,
        "models": list(results.models),
        "resampled_block": BLOCK,
        "settings": run.settings.evaluation.model_dump(exclude={"reports"}),
        "windows": len(windows),
        "events": len(set(windows.event.tolist())),
        "splits": {
            split.name: {"fitted": int(split.calibration.sum()), "scored": int(split.test.sum())}
            for split in results.splits
        },
        "decisions": {
            name: {
                "verdict": one.verdict,
                "reasons": one.reasons,
                "differences": [
                    {"split": found.split, "family": found.family, **_values(found.interval)}
                    for found in one.differences
                ],
                "canary": live_record(results.live[name]),
            }
            for name, one in results.decisions.items()
        },
        "scores": [_score(split, figure) for split, figure in results.figures],
    }


def verdicts(results: Results) -> list[dict[str, str]]:
    """One row per candidate."""
    return [
        {
            "candidate": name,
            "champion": results.champion,
            "loss, time": _difference(one, "time"),
            "loss, events": _difference(one, "events"),
            "verdict": one.verdict.value,
            "why": "; ".join(one.reasons) or "better in both splits, covers, healthy",
        }
        for name, one in results.decisions.items()
    ]


def summary(results: Results) -> list[dict[str, str]]:
    """One row per model and split: scores over all families and steps, corrected bands."""
    families = {figure.family for _, figure in results.figures}
    overall = ALL if ALL in families else next(iter(families))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for split, figure in results.figures:
        if (figure.band, figure.family, figure.steps) != (CONFORMAL, overall, ALL):
            continue
        if figure.metric in _SHOWN:
            row = rows.setdefault((figure.model, split), {"model": figure.model, "split": split})
            row[figure.metric] = shown(figure.interval)
    return list(rows.values())


def by_family(results: Results) -> list[dict[str, str]]:
    """One row per model, band and family of the split by events."""
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for split, figure in results.figures:
        if split != "events" or figure.steps != ALL or figure.metric not in _SHOWN:
            continue
        key = (figure.family, figure.model, figure.band)
        row = rows.setdefault(key, dict(zip(("family", "model", "band"), key, strict=True)))
        row[figure.metric] = shown(figure.interval)
    return [rows[key] for key in sorted(rows)]


def shown(interval: Interval) -> str:
    """A figure with its interval.

    >>> shown(Interval(0.8, 0.78, 0.82, 40))
    '0.8 (0.78 to 0.82)'
    """
    if math.isnan(interval.value):
        return "–"
    return f"{interval.value:.3g} ({interval.low:.3g} to {interval.high:.3g})"


def markdown(results: Results) -> str:
    """Verdicts and summary as Markdown tables."""
    tables = (("Verdicts", verdicts(results)), ("Scores, corrected bands", summary(results)))
    return "\n".join(f"## {title}\n\n{_markdown_table(rows)}" for title, rows in tables if rows)


def page(run: Run, results: Results, pictures: dict[str, bytes]) -> str:
    """One page that needs nothing beside it."""
    windows = results.all_windows
    events = len(set(windows.event.tolist()))
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Evaluation</title>"
        f"<style>{_STYLE}</style><h1>Evaluation of {html.escape(', '.join(results.models))}</h1>",
        f"<p>{len(windows):,} windows of {events:,} events from the {results.source}, up to "
        f"{run.interval_end:%Y-%m-%d %H:%M} UTC. Intervals: 95 %, resampled block {BLOCK}. "
        f"Run <code>{html.escape(run.run_id)}</code>.</p>",
        "<h2>Verdicts</h2>", _html_table(verdicts(results)),
        "<h2>Scores, corrected bands, all families</h2>", _html_table(summary(results)),
    ]  # fmt: skip
    for name, data in pictures.items():
        encoded = base64.b64encode(data).decode()
        title = name.removesuffix(".png")
        parts.append(f'<h2>{title}</h2><img alt="{title}" src="data:image/png;base64,{encoded}">')
    parts += ["<h2>By family, split by events</h2>", _html_table(by_family(results)), "</html>\n"]
    return "\n".join(parts)


def _html_table(rows: list[dict[str, str]]) -> str:
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{html.escape(name)}" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f'<td class="{html.escape(v)}">{html.escape(v)}' for v in row.values())
        for row in rows
    )
    return f"<table><tr>{head}{body}</table>"


def _markdown_table(rows: list[dict[str, str]]) -> str:
    lines = [f"| {' | '.join(rows[0])} |", "|" + "---|" * len(rows[0])]
    lines += [f"| {' | '.join(row.values())} |" for row in rows]
    return "\n".join(lines) + "\n"


def _difference(decision: Decision, split: str) -> str:
    for one in decision.differences:
        if (one.split, one.family) == (split, ALL):
            found = one.interval
            return f"{100 * found.value:+.1f} % ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
    return "–"


def _score(split: str, figure: Figure) -> dict[str, Any]:
    assert figure.band in (RAW, CONFORMAL)
    return {
        "split": split, "model": figure.model, "band": figure.band, "family": figure.family,
        "steps": figure.steps, "metric": figure.metric, "windows": figure.windows,
        **_values(figure.interval),
    }  # fmt: skip


def _values(interval: Interval) -> dict[str, float | None]:
    return _finite(asdict(interval))


def live_record(live: LiveFigures | str) -> Any:
    """Live figures as plain values, null for what is no number; or why there are none."""
    return live if isinstance(live, str) else _finite(asdict(live))


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
