"""What the GPUs draw while something runs, sampled from NVML; nothing where NVML does not tell."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from profiler.hardware import read_power_w

SAMPLE_EVERY_S = 0.1


@dataclass
class PowerMeter:
    """Mean watts of all GPUs over a stretch of time; ``read`` is a seam for tests."""

    read: Callable[[], float | None] = read_power_w
    every_s: float = SAMPLE_EVERY_S
    _samples: list[float] = field(default_factory=list)

    @property
    def mean_w(self) -> float | None:
        """The mean of the samples of the last stretch; None when there is none."""
        return sum(self._samples) / len(self._samples) if self._samples else None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Sample in a thread, so that the event loop which times tokens is left alone."""
        self._samples = []
        first = self.read()
        if first is None:
            yield
            return
        self._samples.append(first)
        done = threading.Event()
        thread = threading.Thread(target=self._sample, args=(done,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _sample(self, done: threading.Event) -> None:
        while not done.wait(self.every_s):
            watts = self.read()
            if watts is not None:
                self._samples.append(watts)
