"""What the policy has decided since the process started: counts of fixed size.

Keys are names of models in the catalogue and members of enumerations, so there are as many entries
as the contract allows, whatever callers send.
"""

from __future__ import annotations

from collections import Counter

from forecast_service.policy.decision import Answer, Ask, CacheState, FallbackReason
from forecast_service.policy.statistics import Histogram
from forecast_service.postprocess import Adjustment

RECENT = 1_000
"""Forecasts that a share speaks of."""
WIDTH_BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, float("inf"))
"""Inclusive upper bounds of the width of a band, in probability."""
OUTERMOST = (0.1, 0.9)
"""The outermost of the levels that a request without levels gets; widths are of this pair alone."""
_REARRANGED = tuple(Adjustment).index(Adjustment.REARRANGED)


class Share:
    """How often something was so among the last `RECENT` observations."""

    def __init__(self) -> None:
        self._seen = bytearray(RECENT)
        self._place = self._count = self._hits = 0

    def note(self, hit: bool) -> None:
        """Takes one observation in, and the oldest out."""
        place = self._place
        self._hits += hit - self._seen[place]
        self._seen[place] = hit
        self._place = place + 1 if place + 1 < RECENT else 0
        if self._count < RECENT:
            self._count += 1

    @property
    def value(self) -> float | None:
        """The share in [0, 1]; None before the first observation."""
        return self._hits / self._count if self._count else None


class Decisions:
    """Counts of answers.

    Attributes:
        answers: by (name of the asked model, whether it was remembered).
        fallbacks: answers by a stand-in, by reason.
        crossings: answers whose quantiles crossed before they were put in order.
        widths: of the band between `OUTERMOST` at the last step, by answering model; forecasts with
            other outermost levels are left out, for their widths are not comparable.
        recent_fallbacks, recent_crossings: their shares among the last answers.
    """

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, CacheState]] = Counter()
        self.fallbacks: Counter[FallbackReason] = Counter()
        self.crossings = 0
        self.widths: dict[str, Histogram] = {}
        self.recent_fallbacks, self.recent_crossings = Share(), Share()

    def note(self, ask: Ask, answer: Answer) -> None:
        """Counts an answer that goes out."""
        made = answer.made
        self.answers[ask.card.name, answer.cache] += 1
        reason = made.reason
        fell_back = reason is not FallbackReason.NONE
        if fell_back:
            self.fallbacks[reason] += 1
        self.recent_fallbacks.note(fell_back)
        crossed = bool(made.bands.adjusted[_REARRANGED])
        self.crossings += crossed
        self.recent_crossings.note(crossed)
        levels = ask.query.levels
        if (levels[0], levels[-1]) != OUTERMOST:
            return
        bands = made.bands.quantiles if made.corrected is None else made.corrected.quantiles
        widths = self.widths.get(made.card.name)
        if widths is None:
            widths = self.widths[made.card.name] = Histogram(WIDTH_BOUNDS)
        widths.observe(bands.item(-1) - bands.item(-bands.shape[1]))
