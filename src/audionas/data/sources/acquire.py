"""Download many clips from several sources, resumable at any time, with pauses at rate limits."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from audionas.audio.reading import DecodeError, inspect
from audionas.data.corpora.base import Clip
from audionas.data.sources.base import PERMANENT, Source, SourceError
from audionas.data.sources.journal import Journal
from audionas.runtime.errors import UserError
from audionas.settings.corpora import Download

log = logging.getLogger(__name__)


def acquire(
    clips: Sequence[Clip],
    sources: Sequence[Source],
    journal: Journal,
    options: Download,
    min_seconds: float = 0.0,
    progress: Callable[[str], None] = lambda outcome: None,
) -> None:
    """Request every missing clip from the sources, in their order; record results in the journal.

    Args:
        clips: clips to get. A clip that fails at one source is requested from the next.
        sources: where to get them.
        journal: stores audio and results. Recorded clips are not requested again, except after a temporary
            failure.
        options: limits for retries and pauses.
        min_seconds: a shorter file counts as failed.
        progress: called once for every clip: with `ok` when its audio is available, or at the end with the
            reason of its failure.

    Raises:
        UserError: a source limits the rate, or fails, more often than `options` allows. Received audio is
            kept.
    """
    for clip in clips:
        if journal.result(clip.clip_id).got:
            progress("ok")
    for source in sources:
        wanted = [clip for clip in clips if not journal.result(clip.clip_id).settled(source.name)]
        if wanted:
            _Requests(source, journal, options, min_seconds, progress).run(wanted)
    for clip in clips:
        if not journal.result(clip.clip_id).got:
            progress(journal.result(clip.clip_id).reason)


class _Requests:
    """Requests to one source from a few threads; only the calling thread decides and writes."""

    def __init__(self, source: Source, journal: Journal, options: Download, min_seconds: float, progress):
        self.source, self.journal, self.options = source, journal, options
        self.min_seconds, self.progress = min_seconds, progress
        self.tries: Counter[str] = Counter()
        self.rate_limits = self.failures = 0  # in a row
        self.resume_at = self.paused_at = 0.0

    def run(self, clips: Sequence[Clip]) -> None:
        waiting = deque(self._ordered(clips))
        running: dict[Future, tuple[Clip, float]] = {}
        pool = ThreadPoolExecutor(self.options.workers, thread_name_prefix=self.source.name)
        try:
            while waiting or running:
                free = self.options.workers - len(running)
                while waiting and free and time.monotonic() >= self.resume_at:
                    clip = waiting.popleft()
                    running[pool.submit(self._get, clip)] = clip, time.monotonic()
                    free -= 1
                if not running:
                    time.sleep(max(0.0, min(1.0, self.resume_at - time.monotonic())))
                    continue
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    clip, asked_at = running.pop(future)
                    if not self._take(clip, asked_at, future):
                        waiting.append(clip)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            for future, (clip, _) in running.items():  # keep requests that finish during the shutdown
                if not future.cancelled() and future.exception() is None:
                    self._got(clip, *future.result())

    def _ordered(self, clips: Sequence[Clip]) -> Sequence[Clip]:
        """Return the source's order of the clips; retry at limits and failures as for a clip."""
        while True:
            try:
                return self.source.order(clips)
            except SourceError as error:
                log.debug("%s: %s", self.source.name, error)
                if error.reason == "rate-limited":
                    self._pause(error, time.monotonic())
                else:
                    self._count_failure(error)
                time.sleep(max(0.0, self.resume_at - time.monotonic()))

    def _get(self, clip: Clip) -> tuple[bytes, int, float]:
        data = self.source.get(clip)
        try:
            rate, seconds = inspect(data, self.min_seconds)
        except DecodeError as error:
            reason = str(error) if str(error) in PERMANENT else "decode"
            raise SourceError(reason, str(error)) from None
        return data, rate, seconds

    def _take(self, clip: Clip, asked_at: float, future: Future) -> bool:
        """Record a result; return False if the clip must be requested again."""
        try:
            data, rate, seconds = future.result()
        except SourceError as error:
            log.debug("%s: %s: %s", clip.clip_id, self.source.name, error)
            if error.reason == "rate-limited":
                self._pause(error, asked_at, clip)
                return False
            if error.reason == "network":
                self._count_failure(error)
                self.tries[clip.clip_id] += 1
                if self.tries[clip.clip_id] < self.options.attempts:
                    return False
            else:
                self.rate_limits = self.failures = 0  # the source responds
            self._failed(clip, error)
            return True
        self.rate_limits = self.failures = 0
        self._got(clip, data, rate, seconds)
        return True

    def _got(self, clip: Clip, data: bytes, rate: int, seconds: float) -> None:
        self.journal.got(clip.clip_id, self.source.label, data, rate, seconds)
        self.progress("ok")
        log.debug("%s: %s: %d bytes, %.2f s", clip.clip_id, self.source.name, len(data), seconds)

    def _failed(self, clip: Clip, error: SourceError) -> None:
        self.journal.failed(clip.clip_id, self.source.name, error.reason, error.detail)

    def _pause(self, error: SourceError, asked_at: float, clip: Clip | None = None) -> None:
        """Pause all requests. After too many pauses, record the failure of `clip` and raise UserError."""
        if asked_at < self.paused_at:  # sent before the current pause began
            return
        self.rate_limits += 1
        if self.rate_limits > self.options.pauses:
            if clip is not None:
                self._failed(clip, error)
            raise UserError(
                f"{self.source.name} limits the rate ({error.detail or 'no details'}), even after "
                f"{self.options.pauses} pauses. Received audio is kept: wait some hours and start again, "
                "with lower corpus.download.workers, a longer pause or a cookies file (docs/audioset.md)"
            )
        seconds = self.options.pause_seconds * 2 ** (self.rate_limits - 1)
        seconds = max(min(seconds, self.options.longest_pause_seconds), error.retry_after or 0.0)
        self.paused_at = time.monotonic()
        self.resume_at = self.paused_at + seconds
        log.warning("%s limits the rate; all requests wait %.0f s", self.source.name, seconds)

    def _count_failure(self, error: SourceError) -> None:
        self.failures += 1
        if self.failures > self.options.failures:
            raise UserError(
                f"{self.source.name}: {self.failures} requests in a row failed, the last with: "
                f"{error.detail or 'no details'}. Received audio is kept: check the network and start again"
            )
        seconds = min(self.options.pause_seconds, 0.05 * 2**self.failures)
        self.resume_at = max(self.resume_at, time.monotonic() + seconds)
