"""The page that listens: how it is written, and in Chromium what it answers, shows and saves."""

import base64
import csv
import io
import itertools
import json
import re
import shutil
import socket
import tarfile
import time
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import saturation
import set_up
import soundfile
import soxr
import torch

from audionas.audio.decode import resample
from audionas.cli import main
from audionas.deploy.page import runtime
from audionas.deploy.page.build import labels, write_page
from audionas.inference import Classifier
from audionas.models.cnn10 import Cnn10
from audionas.models.files import save_model
from audionas.runtime.errors import UserError
from audionas.settings.audio import Audio, Features

pytest.importorskip("onnxruntime", reason="needs the extra deploy")
playwright = pytest.importorskip("playwright.sync_api", reason="needs the development tools: make install")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
INSTALLED = all((runtime.folder() / name).is_file() for name in runtime.FILES)
needs_runtime = pytest.mark.skipif(not INSTALLED, reason="needs onnxruntime-web: make deploy-page")
RATE, WINDOW, HOP = 16_000, 0.6, 0.25
NAMES = [
    "Dog",
    "</script><script>document.title='run'</script>",
    '<img src=x onerror="alert(1)">',
    "Rain, =1+1",
]


def in_browser(test):
    """Marks of a test that drives Chromium."""
    test = needs_runtime(pytest.mark.browser(pytest.mark.slow(test)))
    return pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")(
        test
    )


def sound(seconds: float, rate: int = 48_000) -> np.ndarray:
    """Tones and noise bursts over silence, float64 [n]."""
    rng, t = np.random.default_rng(3), np.arange(round(seconds * rate)) / rate
    wave = 0.2 * np.sin(2 * np.pi * (300 + 200 * t) * t) * (np.sin(2 * np.pi * 0.4 * t) > 0)
    return wave + 0.2 * rng.standard_normal(len(t)) * (np.sin(2 * np.pi * 0.7 * t) > 0.5)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model file whose thresholds are reached in some windows and not in others."""
    path = tmp_path_factory.mktemp("model") / "tiny.pt"
    about = {
        "settings": {
            "audio": Audio(sample_rate=RATE, clip_seconds=1.0).model_dump() | {"min_seconds": 0.1},
            "features": Features(mels=32, fmax=7600.0).model_dump(),
        },
        "classes": ["dog", "script", "image", "rain"],
        "names": NAMES,
    }
    torch.manual_seed(1)
    network = Cnn10(4, 8, mels=32)
    save_model(path, network, about)
    classify, wave = Classifier(path), sound(6, RATE)
    heard = [
        classify(wave[at : at + RATE].astype(np.float32), rate=RATE) for at in range(0, 5 * RATE, RATE // 4)
    ]
    about |= {"thresholds": np.median(heard, axis=0).tolist(), "thresholds_by": "F1 on validation"}
    save_model(path, network, about)
    return path


@pytest.fixture(scope="module")
def page_file(model) -> Path:
    """The page of the model file, as the command writes it."""
    file = model.with_name("page.html")
    options = ["--title", "Tiny & <b>bold</b>", "--window", str(WINDOW), "--hop", str(HOP)]
    assert main(["page", str(model), "--output", str(file), *options]) == 0
    return file


def settings_of(page: Path) -> dict:
    return json.loads(re.search(r'id="settings">(.*?)</script>', page.read_text())[1])


@pytest.fixture(scope="module")
def onnx(model, page_file) -> Path:
    """The ONNX file in the page."""
    packed = re.search(r'id="network">(.*?)</script>', page_file.read_text())[1]
    file = model.with_suffix(".onnx")
    file.write_bytes(zlib.decompress(base64.b64decode(packed)))
    return file


@pytest.fixture(scope="module")
def microphone(tmp_path_factory) -> Path:
    """What Chromium's microphone plays in a loop, at 48 kHz."""
    path = tmp_path_factory.mktemp("microphone") / "loop.wav"
    soundfile.write(path, 0.5 * sound(6), 48_000, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def browser(microphone):
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
    ]
    arguments += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={microphone}"]
    with playwright.sync_playwright() as engine:
        yield engine.chromium.launch(executable_path=CHROMIUM, args=arguments)


@contextmanager
def opened(browser, file: Path, ready: bool = True, **more):
    """The page in the browser; fails where it asked for anything but itself, or complained."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **more)
    page = context.new_page()
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(file.as_uri())
    if ready:
        page.wait_for_selector("#listen:enabled")
    yield page
    assert [url for url in asked if not url.startswith((file.as_uri(), "data:", "blob:"))] == []
    assert complaints == []
    context.close()


@pytest.fixture(scope="module")
def shared(browser, page_file):
    """One page for the tests that only give it files."""
    with opened(browser, page_file) as page:
        yield page


def until(page, condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, (status(page), page.locator("#problem").inner_text())
        page.wait_for_timeout(30)


def status(page) -> str:
    return page.locator("#status").inner_text()


def give(page, *paths: Path) -> None:
    """Choose recordings, and wait until all are classified."""
    page.locator("#files").set_input_files(list(paths))
    until(page, lambda: not page.locator("#working").is_visible())


def saved(page, button: str) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    return Path(download.value.path()).read_bytes()


def probabilities(page, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Seconds [windows, 2] and probabilities [windows, classes] of the last recording of a name.

    Read from the page's variables: after ten files to save, Chromium may ask the user.
    """
    windows = page.evaluate(
        """name => [...recordings.values()].findLast(one => one.name.startsWith(name)).windows
            .map(window => [window.start, window.end, ...window.probabilities])""",
        name,
    )
    return np.array(windows)[:, :2], np.array(windows)[:, 2:]


def expected(model: Path, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The same by PyTorch and soxr."""
    windows = list(Classifier(model).windows(path, window=WINDOW, hop=HOP))
    return (
        np.array([[window.start, window.end] for window in windows]),
        np.array([window.probabilities for window in windows]),
    )


# At the model's rate the audio is the same to the bit. At other rates two resamplers differ.
@pytest.fixture(scope="module")
def wavs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wavs")
    files = {}
    for rate, channels, kind, most in [
        (16_000, 1, "PCM_16", 1e-5),
        (16_000, 3, "PCM_24", 1e-5),
        (16_000, 2, "FLOAT", 1e-5),
        (16_000, 1, "PCM_U8", 1e-5),
        (16_000, 1, "DOUBLE", 1e-5),
        (48_000, 1, "PCM_32", 1e-4),
        (44_100, 2, "PCM_16", 1e-4),
        (32_000, 1, "PCM_16", 1e-4),
        (22_050, 1, "PCM_16", 1e-4),
        (8_000, 1, "PCM_16", 1e-4),
        (96_000, 8, "PCM_16", 1e-4),
        (37_813, 1, "PCM_16", 1e-4),
    ]:
        wave = soxr.resample(sound(2.9), 48_000, rate, "VHQ").clip(-1, 1)
        samples = np.stack([wave * (1 - 0.1 * c) for c in range(channels)], axis=1)
        path = folder / f"{rate}-{channels}-{kind}.wav"
        soundfile.write(path, samples, rate, subtype=kind)
        files[path] = most
    return files


@in_browser
def test_probabilities_of_wav_files_are_those_of_python(shared, model, wavs):
    give(shared, *wavs)
    seen = []
    for path, most in wavs.items():
        seconds, found = probabilities(shared, path.name)
        times, wanted = expected(model, path)
        assert seconds == pytest.approx(times, abs=1e-3), path
        assert abs(found - wanted).max() <= most, (path, abs(found - wanted).max())
        seen.append(wanted)
    assert np.ptp(np.concatenate(seen), axis=0).min() > 0.01  # the network does tell windows apart


@in_browser
@pytest.mark.parametrize(("name", "kind"), [("a.flac", "PCM_16"), ("b.ogg", "VORBIS"), ("c.wav", "ULAW")])
def test_the_browser_decodes_other_formats_at_their_own_rate(shared, model, tmp_path, name, kind):
    soundfile.write(tmp_path / name, sound(2.9, 44_100), 44_100, subtype=kind)
    give(shared, tmp_path / name)
    wanted = expected(model, tmp_path / name)[1]
    assert probabilities(shared, name)[1] == pytest.approx(wanted, abs=1e-4)


@in_browser
@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.7])
def test_a_recording_of_any_length_is_covered_to_its_end(shared, model, tmp_path, seconds):
    path = tmp_path / f"{seconds}.wav"
    soundfile.write(path, sound(seconds, RATE) + 0.01, RATE)
    give(shared, path)
    times, found = probabilities(shared, path.name)
    assert times[0, 0] == 0 and times[-1, 1] == pytest.approx(seconds, abs=1e-3)
    assert found == pytest.approx(expected(model, path)[1], abs=1e-5)


def events(model: Path, path: Path, *thresholds: float) -> list:
    found = Classifier(model).events(path, window=WINDOW, hop=HOP, thresholds=thresholds)
    return sorted(found, key=lambda event: (event.start, -event.probability))


@in_browser
def test_events_are_shown_and_saved(shared, model, tmp_path):
    path = tmp_path / "events.wav"
    soundfile.write(path, sound(6, RATE), RATE)
    give(shared, path)
    wanted = events(model, path)
    assert len(wanted) > 4 and len({event.label for event in wanted}) > 1
    rows = list(csv.DictReader(io.StringIO(saved(shared, "Events (CSV)").decode())))
    times = [(float(row["start"]), float(row["end"])) for row in rows]
    assert times == [
        (pytest.approx(event.start, abs=1e-3), pytest.approx(event.end, abs=1e-3)) for event in wanted
    ]
    assert [(row["class"], row["name"]) for row in rows] == [(event.label, event.name) for event in wanted]
    assert {row["recording"] for row in rows} == {path.name}
    high = [event.probability for event in wanted]
    assert [float(row["probability"]) for row in rows] == pytest.approx(high, abs=1e-4)
    text = saved(shared, "All probabilities (CSV)").decode()
    header, *table = csv.reader(io.StringIO(text))
    assert header == ["start", "end", "dog", "script", "image", "rain"]
    windows = np.concatenate(probabilities(shared, path.name), axis=1)
    assert np.array(table, dtype=float) == pytest.approx(windows, abs=1e-3)
    assert np.array(table, dtype=float)[:, 2:] == pytest.approx(windows[:, 2:], abs=1e-6)
    lines = [line.split("\t") for line in saved(shared, "Audacity labels").decode().splitlines()]
    assert lines == [[f"{event.start:.6f}", f"{event.end:.6f}", event.name] for event in wanted]
    assert shared.locator("#events tr td:nth-child(2)").all_inner_texts() == [event.name for event in wanted]
    shared.get_by_label("One threshold for all classes").check()
    for threshold in (0.6, 0.99):
        shared.get_by_label("Threshold for all classes", exact=True).fill(str(threshold))
        assert shared.locator("#events tr").count() == len(events(model, path, threshold))
    shared.get_by_label("One threshold for all classes").uncheck()
    assert shared.locator("#events tr").count() == len(wanted)


@in_browser
def test_an_event_leads_to_its_time(shared, tmp_path):
    soundfile.write(tmp_path / "seek.wav", sound(6, RATE), RATE)
    give(shared, tmp_path / "seek.wav")
    until(shared, lambda: shared.locator("#when").inner_text() == "highest in the recording")
    row = shared.locator("#events button").nth(2)
    row.click()
    start = row.inner_text().split(" – ")[0]
    assert shared.locator("#when").inner_text().startswith(start) and shared.locator("#cursor").is_visible()
    minutes, seconds = start.split(":")
    assert shared.locator("#player").evaluate("p => p.currentTime") == pytest.approx(
        60 * int(minutes) + float(seconds), abs=0.06
    )


@in_browser
def test_text_of_a_model_is_never_markup(shared):
    assert shared.title() == "Tiny & <b>bold</b>" == shared.locator("h1").inner_text()
    shared.locator("summary").click()
    assert shared.locator("#classes td:first-child").all_inner_texts() == NAMES
    assert shared.locator("img, b").count() == 0
    assert "F1 on validation" in shared.locator("#about").inner_text()
    shared.locator("summary").click()


@in_browser
def test_a_bad_file_is_reported_and_the_others_are_classified(shared, tmp_path):
    noise = (sound(1.5, RATE) + 0.1).astype(np.float32)
    soundfile.write(tmp_path / "good.wav", noise, RATE)
    whole = (tmp_path / "good.wav").read_bytes()
    broken = np.where(np.arange(len(noise)) == 9, np.nan, noise)
    soundfile.write(tmp_path / "nan.wav", broken, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "short.wav", noise[:100], RATE)
    soundfile.write(tmp_path / "none.wav", noise[:0], RATE)
    (tmp_path / "half.wav").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "page.mp3").write_text("<html></html>" * 99)
    (tmp_path / "head.wav").write_bytes(whole[:30])
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, 0 * noise, RATE)
    bad = {
        "nan.wav": "non-finite",
        "short.wav": "too short: 0.01 s",
        "none.wav": "no samples",
        "half.wav": "truncated",
        "empty.wav": "empty",
        "page.mp3": "not audio",
        "head.wav": "damaged|no samples",
    }
    give(shared, *[tmp_path / name for name in bad], silent, tmp_path / "good.wav")
    told = shared.locator("#problem").inner_text().splitlines()
    assert len(told) == len(bad)
    for name, why in bad.items():
        assert any(re.match(rf"{name}: .*({why})", line) for line in told), (name, told)
    assert len(probabilities(shared, "good.wav")[1]) == 5
    assert probabilities(shared, "silent.wav")[1].max() == 0
    shared.locator("#shown").select_option(label="silent.wav")
    assert shared.locator("#events tr").count() == 0
    give(shared, tmp_path / "good.wav")
    assert not shared.locator("#problem").is_visible()


@in_browser
def test_a_long_recording_can_be_dropped_and_cancelled(browser, page_file, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.tile(sound(60, 8000), 30), 8000)  # half an hour, 7200 windows
    with opened(browser, page_file) as page:
        page.locator("#files").set_input_files(tmp_path / "long.wav")
        page.wait_for_selector("#working", state="visible")
        until(page, lambda: page.locator("#progress").evaluate("p => p.value") > 0)
        assert page.locator("#progress").evaluate("p => p.value") < 1
        page.get_by_role("button", name="Cancel").click()
        until(page, lambda: "cancelled after" in status(page))
        assert len(probabilities(page, "long.wav")[1]) < 7200
        (tmp_path / "a.wav").write_bytes(wav_of(sound(1, RATE)))
        page.evaluate(
            """bytes => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], "dropped.wav"));
                document.querySelector("main").dispatchEvent(
                    new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
            }""",
            list((tmp_path / "a.wav").read_bytes()),
        )
        until(page, lambda: "dropped.wav: " in status(page))


def wav_of(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV")
    return file.getvalue()


@in_browser
def test_the_microphone_is_heard_as_python_hears_it(browser, page_file, model, microphone, tmp_path):
    with opened(browser, page_file, permissions=["microphone"]) as page:
        listen = page.get_by_role("button", name="Listen")
        listen.click()
        until(page, lambda: page.locator("#downloads").is_visible() and "Listening at" in status(page))
        until(page, lambda: page.locator("#when").inner_text() >= "0:02.0")
        stop = page.get_by_role("button", name="Stop")
        assert stop.get_attribute("aria-pressed") == "true" and page.get_by_role("meter").is_visible()
        stop.click()
        assert "Stopped after" in status(page) and not page.get_by_role("meter").is_visible()
        until(page, lambda: page.locator("#listen").get_attribute("aria-pressed") == "false")
        page.wait_for_timeout(300)
        heard = tmp_path / "heard.wav"
        heard.write_bytes(saved(page, "What was heard (WAV)"))
        times, found = probabilities(page, "Microphone")
    samples, rate = soundfile.read(heard)
    seconds, wanted = expected(model, heard)
    count = min(len(found), len(wanted) - 1)  # the last window of a file ends with it, a live one does not
    assert count >= 5 and times[:count] == pytest.approx(seconds[:count], abs=1e-3)
    assert abs(found[:count] - wanted[:count]).max() <= 1e-4
    loop, loop_rate = soundfile.read(microphone)
    played = soxr.resample(np.tile(loop, 2), loop_rate, rate)
    part = samples[rate // 2 : rate // 2 + rate]
    spectrum = np.fft.rfft(played, 1 << 21) * np.conj(np.fft.rfft(part, 1 << 21))
    like = (
        np.fft.irfft(spectrum).max()
        / np.linalg.norm(part)
        / np.linalg.norm(played)
        * np.sqrt(len(played) / len(part))
    )
    assert abs(part).max() > 0.05 and like > 0.3, like


@in_browser
def test_why_the_microphone_is_not_heard_is_said(browser, page_file):
    with opened(browser, page_file, permissions=[]) as page:
        page.get_by_role("button", name="Listen").click()
        until(page, lambda: page.locator("#problem").is_visible())
        assert "blocked" in page.locator("#problem").inner_text() and status(page) == "Not listening."
        for error, said in (("NotFoundError", "No microphone was found"), ("NotReadableError", "in use")):
            page.evaluate(
                """name => {
                    navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("", name); };
                }""",
                error,
            )
            page.get_by_role("button", name="Listen").click()
            until(page, lambda said=said: said in page.locator("#problem").inner_text())
        page.evaluate("Object.defineProperty(navigator, 'mediaDevices', {value: undefined})")
        page.get_by_role("button", name="Listen").click()
        assert "gives no microphone" in page.locator("#problem").inner_text()


@in_browser
def test_the_page_cannot_reach_a_network(browser, page_file):
    """Even code that got into the page has no way out: a server beside it sees no connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        context = browser.new_context()
        page, refused = context.new_page(), []
        page.on("console", lambda message: refused.append(message.text))
        page.goto(page_file.as_uri())
        page.wait_for_selector("#listen:enabled")
        page.evaluate(
            """async port => {
                const address = `//127.0.0.1:${port}/`;
                new Image().src = `http:${address}`;
                try { new WebSocket(`ws:${address}`); } catch { /* refused */ }
                const script = document.createElement("script");
                script.src = `http:${address}`;
                document.head.append(script);
                return fetch(`http:${address}`).catch(() => null);
            }""",
            server.getsockname()[1],
        )
        with pytest.raises(TimeoutError):
            server.accept()
        assert len([text for text in refused if "Content Security Policy" in text]) >= 4
        context.close()


@in_browser
def test_it_fits_the_screen_in_light_and_dark(shared, tmp_path):
    soundfile.write(tmp_path / f"{'long-name-' * 20}.wav", sound(3, RATE), RATE)
    give(shared, *tmp_path.iterdir())
    shared.locator("summary").click()
    backs = set()
    for scheme, width in itertools.product(("light", "dark"), (390, 768, 1280)):
        shared.emulate_media(color_scheme=scheme)
        shared.set_viewport_size({"width": width, "height": 900})
        assert shared.evaluate("document.documentElement.scrollWidth") <= width
        backs.add((scheme, shared.evaluate("getComputedStyle(document.body).backgroundColor")))
        outside = shared.evaluate(
            """width => [...document.querySelectorAll("button, label, select, canvas, audio, .bar, p")]
                .filter(e => e.checkVisibility() && e.getBoundingClientRect().right > width + 1)
                .map(e => e.outerHTML)""",
            width,
        )
        assert outside == []
    assert len({back for _, back in backs}) == len(backs) == 2
    shared.locator("summary").click()


@in_browser
@pytest.mark.parametrize(("kind", "total"), [("Conv", 144), ("Gemm", 16)])
def test_products_of_int8_are_exact_in_the_browser(shared, kind, total):
    """ONNX Runtime's default on some processors adds two products in 16 bits, and saturates."""
    found = shared.workers[0].evaluate(
        """async bytes => {
            const options = { executionProviders: ["wasm"], graphOptimizationLevel: "all" };
            const session = await ort.InferenceSession.create(Uint8Array.from(bytes), options);
            const shape = session.inputMetadata[0].shape;
            const ones = new Float32Array(shape.reduce((a, b) => a * b)).fill(1);
            const { out } = await session.run({ x: new ort.Tensor("float32", ones, shape) });
            return [Math.min(...out.data), Math.max(...out.data)];
        }""",
        list(saturation.graph(kind)),
    )
    assert found == pytest.approx([total, total], rel=0.01)


@in_browser
def test_all_controls_have_names_and_work_by_keyboard(shared):
    names = shared.evaluate(
        """() => [...document.querySelectorAll("button, input, select, canvas, progress, [role=meter]")]
            .map(e => [e.id, e.textContent.trim() || e.ariaLabel || e.labels?.[0]?.textContent.trim()])"""
    )
    assert names and [name for name, text in names if not text] == []
    shared.evaluate("document.activeElement.blur(); window.getSelection().removeAllRanges()")
    shared.locator("#listen").focus()
    reached = []
    for _ in range(6):
        reached.append(shared.evaluate("document.activeElement.id"))
        shared.keyboard.press("Tab")
    assert reached[:2] == ["listen", "files"]
    assert shared.locator("#status").get_attribute("role") == "status"
    assert shared.locator("h1").count() == 1 and shared.locator("html").get_attribute("lang") == "en"


@in_browser
def test_the_resampler_is_soxr_s_whatever_the_blocks(browser):
    context = browser.new_context()
    page = context.new_page()
    page.add_script_tag(path=Path(runtime.__file__).with_name("sound.js"))
    rng = np.random.default_rng(0)
    # The whole band at once; near the ends of it the two filters differ most.
    for rate, new, decibels in [
        (48_000, 32_000, -90),
        (96_000, 32_000, -90),
        (8_000, 32_000, -90),
        (24_000, 16_000, -90),
        (44_100, 16_000, -60),
        (22_050, 32_000, -55),
        (44_100, 48_000, -55),
        (11_127, 16_000, -50),
    ]:
        wave = (rng.standard_normal(rate // 5) * np.hanning(rate // 5) * 0.2).astype(np.float32)
        cuts = sorted({0, len(wave), *rng.integers(0, len(wave), 6).tolist()})
        pieces = [wave[a:b].tolist() for a, b in itertools.pairwise(cuts)]
        run = """([pieces, rate, rate2]) => {
            const resampler = new Resampler(rate, rate2);
            const parts = pieces.map(piece => resampler.push(Float32Array.from(piece)));
            return [...parts, resampler.flush()].flatMap(part => [...part]);
        }"""
        ours = np.array(page.evaluate(run, [pieces, rate, new]))
        assert np.array_equal(ours, np.array(page.evaluate(run, [[wave.tolist()], rate, new])))
        wanted = resample(wave, rate, new)
        assert len(ours) == len(wanted)
        error = 20 * np.log10(np.linalg.norm(ours - wanted) / np.linalg.norm(wanted))
        assert error <= decibels, (rate, new, error)
    context.close()


@pytest.mark.slow
@needs_runtime
def test_equal_input_gives_equal_bytes_and_a_failure_keeps_the_old_page(
    onnx, page_file, tmp_path, monkeypatch
):
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    for page in pages:
        write_page(onnx, page, "Tiny & <b>bold</b>", WINDOW, HOP)
    old = pages[0].read_bytes()
    assert old == pages[1].read_bytes()
    assert old == page_file.read_bytes().replace(b'"model": "tiny.pt"', b'"model": "tiny.onnx"')
    monkeypatch.setenv("AUDIONAS_ONNXRUNTIME_WEB", str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"not installed; run `make deploy-page`"):
        write_page(onnx, pages[0], "Other")
    assert pages[0].read_bytes() == old and sorted(tmp_path.iterdir()) == pages
    text = re.sub(r'<script type="text/plain".*?</script>', "", old.decode(), flags=re.DOTALL)
    assert len(text) > 10_000 and "http:" not in text and "https:" not in text


@pytest.mark.slow
@needs_runtime
def test_the_command_says_what_is_wrong(onnx, tmp_path, capsys):
    output = tmp_path / "page.html"
    assert main(["page", str(onnx), "--output", str(output)]) == 0
    assert f"MB; open it in a browser: {output.as_uri()}" in capsys.readouterr().out
    settings = settings_of(output)
    assert (settings["window"], settings["hop"], settings["names"]) == (1.0, 0.5, NAMES)
    output.unlink()
    (tmp_path / "damaged.onnx").write_bytes(onnx.read_bytes()[:1000])
    for arguments, said in (
        ([onnx, output, "--window", "3"], "--window 3: not a number of seconds from 0.1 to 1"),
        ([onnx, output, "--window", "nan"], "--window nan: not a number"),
        ([onnx, output, "--window", "0.5", "--hop", "0.6"], "--hop 0.6: not a number"),
        ([onnx, output, "--hop", "0"], "--hop 0: not a number"),
        ([onnx, tmp_path / "page.txt"], "end it in .html"),
        ([tmp_path / "no.onnx", output], "no.onnx: no such file"),
        ([tmp_path / "no.pt", output], "no.pt: no such file"),
        ([tmp_path / "damaged.onnx", output], "damaged.onnx: damaged"),
    ):
        model, page, *more = map(str, arguments)
        assert main(["page", model, "--output", page, *more]) == 1
        assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.onnx"]


def test_names_come_from_the_model_or_from_classes_beside_it(tmp_path):
    model = tmp_path / "m.onnx"
    about = {"classes": ["a", "b"]}
    assert labels(about, model) == (["a", "b"], ["a", "b"], [0.5, 0.5])
    (tmp_path / "classes.csv").write_text("index,mid,display_name\n0,a,Dog\n")
    assert labels(about, model)[1] == ["Dog", "b"]
    assert labels(about | {"names": ["x", "y"], "thresholds": [0.1, 1]}, model)[1:] == (["x", "y"], [0.1, 1])
    for wrong in ({"names": ["x"]}, {"thresholds": [0.1, 2]}, {"thresholds": [0.1, "x"]}, {"names": "xy"}):
        with pytest.raises(UserError, match="does not fit its classes"):
            labels(about | wrong, model)
    with pytest.raises(UserError, match="its classes are missing"):
        labels({}, model)


def test_onnxruntime_web_is_checked_before_it_is_kept(tmp_path, monkeypatch):
    kept = tmp_path / "share" / "web"
    monkeypatch.setenv("AUDIONAS_ONNXRUNTIME_WEB", str(kept))
    with pytest.raises(UserError, match="no such program; install Node"):
        runtime.fetch([str(tmp_path / "npm")])
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'registry is down' >&2\nexit 1\n")
    npm.chmod(0o755)
    with pytest.raises(UserError, match="registry is down; check the network"):
        runtime.fetch([str(npm)])
    with tarfile.open(tmp_path / "other.tgz", "w:gz") as archive:
        for name in runtime.FILES:
            entry = tarfile.TarInfo(f"package/dist/{name}")
            archive.addfile(entry, io.BytesIO())
    npm.write_text(f"#!/bin/sh\ncp {tmp_path}/other.tgz .\n")
    with pytest.raises(UserError, match="npm gave sha512-"):
        runtime.fetch([str(npm)])
    assert not kept.exists()
    kept.mkdir(parents=True)
    (kept / next(iter(runtime.FILES))).write_text("damaged")
    with pytest.raises(UserError, match="damaged, or not of onnxruntime-web"):
        runtime.read()


def test_set_up_names_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIONAS_ONNXRUNTIME_WEB", str(tmp_path / "web"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(set_up, "ROOT", tmp_path)
    (tmp_path / "requirements.lock").write_text("numpy==2.0.0\n")
    with pytest.raises(SystemExit, match=r"npm is not installed, and .* install Node\.js"):
        set_up.page()
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'registry is down' >&2\nexit 1\n")
    npm.chmod(0o755)
    with pytest.raises(SystemExit, match="registry is down"):
        set_up.page()
