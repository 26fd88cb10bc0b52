"""Where parts of a stage are computed: one after another here, or spread over a Ray cluster.

A stage hands over a function of (lake, part) that yields frames, and the parts; what comes back is
the same frames, here in order, from a cluster in any order. The caller alone writes tables, so a
stage commits the same rows wherever they were computed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import polars as pl
import pyarrow as pa

from forecast_service.serving import prepare_environment
from market_data.lake import Lake

Part = TypeVar("Part")
Work = Callable[[Lake, Part], Iterator[pl.DataFrame]]
"""Reads a part's rows from the lake and yields what it makes of them; must be picklable."""


class Spread(Protocol):
    """How parts are worked on."""

    @property
    def width(self) -> int:
        """How many parts are worked on at once."""

    def frames(self, work: Work[Part], lake: Lake, parts: Sequence[Part]) -> Iterator[pl.DataFrame]:
        """All frames of all parts; no more of them in memory than are being worked on."""


@dataclass(frozen=True, slots=True)
class InTurn:
    """One part after the other in this process, in order."""

    width: int = 1

    def frames(self, work: Work[Part], lake: Lake, parts: Sequence[Part]) -> Iterator[pl.DataFrame]:
        """All frames, part by part."""
        for part in parts:
            yield from work(lake, part)


@dataclass(frozen=True, slots=True)
class OnRay:
    """One task of the connected Ray cluster for each part, streamed by Ray Data.

    Attributes:
        width: tasks at once.
        cpus: processors that a task counts for.
    """

    width: int
    cpus: float = 1.0

    def frames(self, work: Work[Part], lake: Lake, parts: Sequence[Part]) -> Iterator[pl.DataFrame]:
        """All frames, in the order in which they are finished.

        Raises:
            ray.exceptions.RayTaskError: the work failed for a part; it carries the error's text.
        """
        import ray.data
        from ray.data import TaskPoolStrategy

        if not parts:
            return
        numbers = ray.data.from_items(
            [{"number": number} for number in range(len(parts))],
            override_num_blocks=len(parts),
        )
        task = _Task(work, lake, tuple(parts))
        made = numbers.map_batches(
            task, batch_size=1, batch_format="pyarrow", zero_copy_batch=True,
            num_cpus=self.cpus, compute=TaskPoolStrategy(size=self.width),
        )  # fmt: skip
        for block in made.iter_batches(batch_size=None, batch_format="pyarrow"):
            frame = pl.from_arrow(block)
            assert isinstance(frame, pl.DataFrame)
            if not frame.is_empty():
                yield frame


@dataclass(frozen=True, slots=True)
class _Task:
    """What a worker does with the number of a part."""

    work: Callable[[Lake, Any], Iterator[pl.DataFrame]]
    lake: Lake
    parts: tuple[Any, ...]

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for number in batch["number"].to_pylist():
            for frame in self.work(self.lake, self.parts[number]):
                if not frame.is_empty():
                    yield frame.to_arrow()


@contextmanager
def spread_over(address: str, *, store_bytes: int = 1 << 30) -> Iterator[Spread]:
    """Connects to a Ray cluster for as long as the block lasts; a block inside shares it.

    Args:
        address: of the cluster; "local" starts one of one node that ends with the block, "" none.
        store_bytes: shared memory of a node that is started here.
    """
    if not address:
        yield InTurn()
        return
    prepare_environment("127.0.0.1" if address == "local" else address)
    import ray
    from ray.data import DataContext

    resources: Any = ray.cluster_resources
    if ray.is_initialized():  # by a run around this one, which also ends it
        yield OnRay(width=max(1, int(resources().get("CPU", 1))))
        return

    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": store_bytes}
    connect: Any = ray.init
    connect(
        address=address,
        log_to_driver=False,
        logging_level=logging.ERROR,
        **(own if address == "local" else {}),
    )
    DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    try:
        yield OnRay(width=max(1, int(resources().get("CPU", 1))))
    finally:
        end: Any = ray.shutdown
        end()
