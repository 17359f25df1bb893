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
from audionas.settings.audio import Features

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


@pytest.mark.parametrize("samples", [16_000, 16_079, 16_080, 5_001])
def test_ced_equals_the_filter_banks_of_kaldi(samples):
    waveform = torch.randn(1, samples, generator=torch.Generator().manual_seed(0)) * 0.1
    options = {"window_type": "hanning", "snip_edges": False, "use_log_fbank": False, "dither": 0.0}
    reference = torchaudio.compliance.kaldi.fbank(
        waveform,
        sample_frequency=16_000.0,
        frame_length=32.0,
        frame_shift=10.0,
        num_mel_bins=64,
        low_freq=0.0,
        high_freq=8_000.0,
        preemphasis_coefficient=0.0,
        remove_dc_offset=False,
        **options,
    )
    front_end = LogMel(16_000, 512, 160, 64, 0.0, 8_000.0, front_end="ced")
    front_end.window = torch.hann_window(512, periodic=False)  # torchaudio's; sherpa-onnx has a periodic one
    found = front_end(waveform)[0]
    torch.testing.assert_close(found, 10 * reference.clamp_min(1e-10).log10(), atol=1e-3, rtol=0)


def test_ced_keeps_120_db_below_the_loudest_value_of_each_clip():
    front_end = LogMel(16_000, 512, 160, 64, 0.0, 8_000.0, front_end="ced")
    loud = torch.zeros(2, 16_000)
    loud[0, 4_000:5_000] = 0.9 * torch.sin(torch.arange(1_000) * 0.7)
    first, second = front_end(loud)
    assert first.min() == first.max() - 120 and first.max() > 20
    assert (second == -100).all()


@pytest.mark.parametrize("front_end", ["panns", "ced"])
@pytest.mark.parametrize(("n_fft", "hop"), [(512, 160), (512, 512), (256, 255), (1024, 1)])
def test_frames_are_those_of_the_settings(front_end, n_fft, hop):
    options = {"n_fft": n_fft, "hop": hop, "mels": 8, "fmin": 0.0, "fmax": 8_000.0, "front_end": front_end}
    of, features = LogMel(16_000, **options), Features(**options)
    for samples in (n_fft // 2 + 1, 1_000, 1_001, 1_279, 1_280):
        assert of(torch.zeros(1, samples)).shape == (1, features.frames(samples), 8)
