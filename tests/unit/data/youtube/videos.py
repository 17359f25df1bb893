"""A recording with a tone of its own every second, and pages and players that show it."""

import io

import numpy as np
import pytest
import soundfile
from loopback import Reply

from audionas.data.corpora.base import Clip
from audionas.data.sources.base import SourceError

RATE, SECONDS = 22_050, 8
TONES = [300 + 100 * second for second in range(SECONDS)]  # Hz, one a second
TYPES = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "webm": "audio/webm",
    "m4a": "audio/mp4",
}


def recording(channels=1, rate=RATE):
    """int16 [samples, channels]: another tone every second, seeded noise, channels of other loudness."""
    t = np.arange(SECONDS * rate) / rate
    wave = np.sin(2 * np.pi * np.array(TONES)[t.astype(int)] * t) * 0.5
    wave += np.random.default_rng(0).normal(0, 0.01, len(wave))
    return np.stack([(wave * 32_000 / (n + 1)).astype(np.int16) for n in range(channels)], axis=1)


def encoded(samples, rate, **options):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **options)
    return file.getvalue()


def clip(ytid="a", start=2.0, end=4.0):
    return Clip("c", source=ytid, origin=ytid, labels=(), start=start, end=end)


def put(server, how, *replies, ytid="a"):
    """Serve replies at the address itself, or the first of them on a page with an audio element."""
    if how == "page":
        page = b'<html><head><title>t</title></head><body><audio src="/media"></audio></body></html>'
        server.serve(f"/watch/{ytid}", Reply(page, "text/html"))
        server.serve("/media", *replies)
    else:
        server.serve(f"/watch/{ytid}", *replies)


def good(media, name="flac", **faults):
    return Reply(media[name], TYPES[name], **faults)


def reason(source, *args):
    with pytest.raises(SourceError) as caught:
        source.get(clip(*args))
    return caught.value.reason


def tones(data):
    """The loudest frequency of each second, in Hz, and the number of samples."""
    samples, rate = soundfile.read(io.BytesIO(data))
    whole = len(samples) // rate * rate
    spectra = np.abs(np.fft.rfft(samples[:whole].reshape(-1, rate), axis=1))
    return list(spectra.argmax(axis=1)), len(samples), rate


def player(status, said, more=""):
    """A player response of YouTube's with an error screen."""
    screen = {"reason": {"simpleText": said}, "subreason": {"simpleText": more}}
    return {
        "playabilityStatus": {
            "status": status,
            "reason": said,
            "errorScreen": {"playerErrorMessageRenderer": screen},
        }
    }


GONE = "Video unavailable"
