"""The front end against torchlibrosa (PANNs' own) and librosa."""

import librosa
import numpy as np
import pytest
import soundfile
import torch
import torchaudio
import torchlibrosa

from audionas.audio import LogMel
from audionas.runtime.errors import UserError

SECONDS = 3


@pytest.fixture(params=["dog", "rain", "clock_tick", "crying_baby", "noise"])
def waveform(request):
    """float32 [samples] at 32 kHz: noise, and recordings of ESC-10 where they are at hand."""
    n = 32_000 * SECONDS
    if request.param == "noise":
        return np.random.default_rng(0).normal(0, 0.1, n).astype(np.float32)
    shared_data = request.getfixturevalue("shared_data")
    table = (shared_data / "esc10" / "clips.csv").read_text().splitlines()
    file = next(line.split(",")[0] for line in table if f",{request.param}," in line)
    samples, rate = soundfile.read(shared_data / "esc10" / "audio" / file, dtype="float32")
    return torchaudio.functional.resample(torch.from_numpy(samples), rate, 32_000)[:n].numpy()


def check(ours, reference):
    """< 0.01 dB where louder than -60 dB, < 0.1 dB everywhere above the floor."""
    assert ours.shape == reference.shape
    difference = np.abs(ours - reference)
    assert difference[reference > -60].max() < 0.01
    above = reference > -99.9
    assert above.any() and difference[above].max() < 0.1


def ours(waveform, **options):
    return LogMel(**options)(torch.from_numpy(waveform)[None])[0].numpy()


def test_equals_torchlibrosa(waveform):
    stft = torchlibrosa.Spectrogram(n_fft=1024, hop_length=320, freeze_parameters=True)
    mel = torchlibrosa.LogmelFilterBank(
        sr=32_000, n_fft=1024, n_mels=64, fmin=50, fmax=14_000, ref=1.0, amin=1e-10, top_db=None
    )
    with torch.no_grad():
        reference = mel(stft(torch.from_numpy(waveform)[None]))[0, 0].numpy()
    check(ours(waveform), reference)


@pytest.mark.parametrize("hop", [320, 640])
def test_equals_librosa(waveform, hop):
    # float64 inside, so that what is compared with is the better of the two
    power = librosa.feature.melspectrogram(
        y=waveform.astype(np.float64),
        sr=32_000,
        n_fft=1024,
        hop_length=hop,
        n_mels=64,
        fmin=50,
        fmax=14_000,
        pad_mode="reflect",
    )
    check(ours(waveform, hop=hop), librosa.power_to_db(power, amin=1e-10, top_db=None).T)


def test_shape_and_floor():
    features = LogMel()(torch.zeros(2, 320_000))
    assert features.shape == (2, 1001, 64) and (features == -100).all()


@pytest.mark.parametrize("shape", [(320_000,), (1, 512), (1, 1, 4000)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="samples"):
        LogMel()(torch.zeros(shape))


def test_empty_mel_filters_are_refused():
    with pytest.raises(UserError, match=r"raise features\.n_fft"):
        LogMel(n_fft=256)
