// The page: input, pictures, tables. The network runs in the worker.
"use strict";

const byId = (id) => document.getElementById(id);
const settings = JSON.parse(byId("settings").textContent);
const { classes, names, thresholds } = settings;

const MOST_BARS = 8, ALL_BARS = 12; // classes shown; up to 12 are all shown, in their own order
const MOST_ROWS = 500, MOST_LANES = 6;
const HEARD_SECONDS = 60; // of the microphone, kept for saving
const LARGEST_DECODED = 2 ** 30; // bytes that the browser may decode at once
const LARGEST_ENCODED = 2 ** 30;
const RANGE = 80; // dB shown
const COLOURS = [ // of Matplotlib's magma
  [0, 0, 4], [28, 16, 68], [79, 18, 123], [129, 37, 129], [181, 54, 122], [229, 80, 100], [251, 135, 97],
  [254, 194, 135], [252, 253, 191],
];

/** Recordings by id, in the order they came; each holds its windows, columns and state. */
const recordings = new Map();
let shown = null; // the recording on the screen
let selected = null; // seconds: where the user points
let listening = null; // stream, audio context and recording of the microphone
let ready = false;
let worker = null;
let rowsOf = ""; // what the table of events shows

/** Create an element with text; text never becomes markup. */
function element(kind, text = "", className = "") {
  const made = document.createElement(kind);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

const clock = (seconds) => {
  const tenths = Math.round(seconds * 10), minutes = Math.floor(tenths / 600), hours = Math.floor(minutes / 60);
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  return hours ? `${hours}:${String(minutes % 60).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
};
const length = (seconds) => (seconds < 100 ? `${Number(seconds.toFixed(1))} s` : clock(seconds));
const threshold = (index) => Math.fround(byId("single").checked ? Number(byId("threshold").value) : thresholds[index]);

// ---- start -------------------------------------------------------------------------------------------

async function unpacked(id) {
  const text = byId(id).textContent;
  byId(id).remove();
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

const script = (parts) => URL.createObjectURL(new Blob(parts, { type: "text/javascript" }));

async function start() {
  describe();
  const [network, library, wasm] = await Promise.all(["network", "library", "wasm"].map(unpacked));
  worker = new Worker(script([byId("worker-text").textContent]));
  worker.onmessage = ({ data }) => answer(data);
  worker.onerror = (event) => broken(event.message || "the worker did not start");
  worker.postMessage({ type: "load", settings, library, wasm, model: network }, [library, wasm, network]);
}

function broken(text) {
  say("The network does not run in this browser.");
  complain(`${text}\nUse a recent Chrome, Edge, Firefox or Safari.`);
}

function say(text) {
  if (byId("status").textContent !== text) byId("status").textContent = text;
}

function complain(text) {
  const problem = byId("problem");
  problem.textContent = problem.hidden ? text : `${problem.textContent}\n${text}`;
  problem.hidden = false;
}

function describe() {
  const rate = `${settings.sample_rate / 1000} kHz`;
  const count = classes.length === 1 ? "1 class" : `${classes.length} classes`;
  byId("model").textContent =
    `${settings.model}: ${count}, ${rate}, ${settings.quantized ? "int8" : "float32"}, windows of ${settings.window} s every ${settings.hop} s`;
  const facts = [
    ["File", settings.model],
    ["SHA-256", settings.sha256],
    ["Size", `${(settings.bytes / 1000).toFixed(0)} kB`],
    ["Sample rate", rate],
    ["Windows", `${settings.window} s, every ${settings.hop} s`],
    ["Thresholds", settings.thresholds_by],
    ["Made by", settings.made_by],
    ["Runtime", settings.runtime],
  ];
  for (const [name, text] of facts) byId("about").append(element("dt", name), element("dd", text));
  classes.forEach((id, i) => {
    const row = element("tr");
    row.append(element("td", names[i]), element("td", id), element("td", thresholds[i].toFixed(2), "number"));
    byId("classes").append(row);
  });
  noteThreshold();
}

function noteThreshold() {
  const one = byId("single").checked;
  byId("threshold").disabled = !one;
  byId("threshold-value").textContent = Number(byId("threshold").value).toFixed(2);
  byId("threshold-note").textContent = one
    ? "An event is a class at or above this threshold, in one window or several in a row."
    : `An event is a class at or above its own threshold (${settings.thresholds_by}), in one window or several in a row.`;
}

// ---- answers of the worker ---------------------------------------------------------------------------

function answer(data) {
  if (data.type === "ready") {
    ready = true;
    byId("listen").disabled = byId("files").disabled = false;
    say("Ready. Press Listen, or choose recordings.");
    return;
  }
  if (data.type === "broken") return broken(data.text);
  const recording = recordings.get(data.id);
  if (data.type === "run") {
    recording.capacity = data.columns;
    recording.columnSeconds = data.columnSeconds;
    if (!recording.live) show(recording);
  }
  if (data.type === "columns") addColumns(recording, data.columns);
  if (data.type === "window") addWindow(recording, data);
  if (data.type === "late") recording.left += data.windows;
  if (data.type === "progress") byId("progress").value = data.share;
  if (data.type === "decode") decode(recording, data.rate);
  if (data.type === "error") failed(recording, data.text);
  if (data.type === "end") {
    recording.seconds = data.seconds;
    recording.done = true;
    finished(recording, data.cancelled);
  }
  if (recording === shown) later();
}

function addColumns(recording, columns) {
  for (const column of columns) {
    for (const value of column) recording.loudest = Math.max(recording.loudest, value);
    recording.columns.push(column);
    recording.columnCount++;
  }
  if (recording.live) recording.columns.splice(0, recording.columns.length - recording.capacity);
}

function addWindow(recording, { start, end, silent, provisional, probabilities }) {
  const window = { start, end, silent, probabilities };
  recording.latest = window;
  recording.seconds = Math.max(recording.seconds, end);
  if (!provisional) recording.windows.push(window);
  if (recording.live) sayLive(recording, window);
}

function sayLive(recording, window) {
  if (!listening || listening.recording !== recording) return;
  const found = classes.map((_, i) => i).filter((i) => window.probabilities[i] >= threshold(i));
  const heard = found.sort((a, b) => window.probabilities[b] - window.probabilities[a]).slice(0, 3).map((i) => names[i]);
  const left = recording.left ? ` This device is slow: ${recording.left} windows left out.` : "";
  const what = window.silent ? "Silence: is the microphone muted?" : heard.length ? `Now: ${heard.join("; ")}.` : "Nothing above its threshold.";
  say(`Listening at ${recording.rate / 1000} kHz. ${what}${left}`);
}

function finished(recording, cancelled) {
  if (!recording.live) {
    const count = events(recording).length;
    const silent = recording.windows.every((window) => window.silent);
    const found = silent ? `silence of ${length(recording.seconds)}`
      : `${count} ${count === 1 ? "event" : "events"} in ${length(recording.seconds)}`;
    say(cancelled ? `${recording.name}: cancelled after ${length(recording.seconds)}.` : `${recording.name}: ${found}.`);
  }
  progress();
}

function failed(recording, text) {
  recording.done = true;
  recordings.delete(recording.id);
  complain(`${recording.name}: ${text}`);
  if (listening && listening.recording === recording) stopListening();
  if (shown === recording) show([...recordings.values()].at(-1) ?? null);
  if (byId("status").textContent.startsWith("Classifying")) say("Ready.");
  progress();
}

function progress() {
  const open = [...recordings.values()].filter((recording) => !recording.live && !recording.done);
  byId("working").hidden = open.length === 0;
  if (open.length) say(`Classifying ${open[0].name}${open.length > 1 ? `, then ${open.length - 1} more` : ""} …`);
  else byId("progress").value = 0;
}

// ---- files -------------------------------------------------------------------------------------------

let count = 0;

function add(name, more) {
  const recording = {
    id: ++count, name, live: false, file: null, url: null, windows: [], latest: null, columns: [], columnCount: 0,
    capacity: 1, columnSeconds: 1, loudest: -100, seconds: 0, done: false, left: 0, heard: [], rate: 0, ...more,
  };
  recordings.set(recording.id, recording);
  return recording;
}

function open(files) {
  if (!ready || !files.length) return;
  byId("problem").hidden = true;
  if (listening) stopListening();
  for (const file of files) {
    const recording = add(file.name, { file });
    worker.postMessage({ type: "classify", id: recording.id, file });
  }
  progress();
}

/** Decode with the browser, at the file's own rate, so that only our resampler changes it. */
async function decode(recording, rate) {
  try {
    if (!recording.file.size) return failed(recording, "the file is empty; choose another");
    const seconds = await duration(recording.file);
    if (recording.file.size > LARGEST_ENCODED || seconds * rate * 8 > LARGEST_DECODED) {
      return failed(recording, "too long to decode at once; cut it, or convert it to WAV, which is read piece by piece");
    }
    const data = await recording.file.arrayBuffer();
    let context;
    try {
      context = new OfflineAudioContext(1, 1, rate);
    } catch {
      context = new OfflineAudioContext(1, 1, 48_000);
    }
    let audio;
    try {
      audio = await context.decodeAudioData(data);
    } catch {
      return failed(recording, "not audio, damaged, or of a format that this browser does not decode; convert it to WAV");
    }
    const mono = new Float32Array(audio.length);
    for (let channel = 0; channel < audio.numberOfChannels; channel++) {
      const samples = symmetric(audio.getChannelData(channel));
      for (let i = 0; i < mono.length; i++) mono[i] += Math.max(-1, Math.min(1, samples[i])) / audio.numberOfChannels;
    }
    worker.postMessage({ type: "classify", id: recording.id, mono, rate: audio.sampleRate }, [mono.buffer]);
  } catch (error) {
    failed(recording, String(error));
  }
}

/**
 * Undo a distortion of 16-bit audio, in place: Chromium divides samples above 0 by 32767, those below by 32768.
 * Returns the samples.
 */
function symmetric(samples) {
  const whole = (value) => Math.abs(value - Math.round(value)) < 0.01;
  let uneven = false;
  for (const sample of samples) {
    if (sample <= 0) continue;
    if (!whole(sample * 32_767)) return samples; // not of 16 bits
    uneven ||= !whole(sample * 32_768);
  }
  if (uneven) for (let i = 0; i < samples.length; i++) if (samples[i] > 0) samples[i] *= 32_767 / 32_768;
  return samples;
}

/** Return the length in seconds that the browser reads from the file's header; 0 if it can't. */
function duration(file) {
  return new Promise((resolve) => {
    const probe = document.createElement("audio"), url = URL.createObjectURL(file);
    const end = (seconds) => {
      clearTimeout(timer);
      probe.removeAttribute("src");
      URL.revokeObjectURL(url);
      resolve(Number.isFinite(seconds) ? seconds : 0);
    };
    const timer = setTimeout(() => end(0), 5000);
    probe.onloadedmetadata = () => end(probe.duration);
    probe.onerror = () => end(0);
    probe.preload = "metadata";
    probe.src = url;
  });
}

// ---- microphone --------------------------------------------------------------------------------------

const MICROPHONE_PROBLEMS = {
  NotAllowedError: "The microphone is blocked. Allow it for this page in the browser's address bar, then press Listen again.",
  NotFoundError: "No microphone was found. Connect one, then press Listen again.",
  NotReadableError: "The microphone is in use by another program, or the system blocks it. Free it, then press Listen again.",
};

async function listen() {
  byId("problem").hidden = true;
  if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode) {
    return complain("This browser gives no microphone to a page from disk. Open the page in Chrome, Edge or Firefox, or serve its folder with python -m http.server and open it at localhost.");
  }
  byId("listen").disabled = true;
  say("Waiting for the microphone: allow it in the browser's question.");
  let stream = null, context = null;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
    const [track] = stream.getAudioTracks(), rate = track.getSettings().sampleRate;
    context = new AudioContext(rate ? { sampleRate: rate } : {}); // at the device's rate: no resampling by the browser
    // From disk, Chromium takes a worklet from a data URL, and from no other.
    await context.audioWorklet.addModule(`data:text/javascript,${encodeURIComponent(byId("microphone-text").textContent)}`);
    const node = new AudioWorkletNode(context, "microphone"), mute = new GainNode(context, { gain: 0 });
    const recording = add(`Microphone, ${new Date().toLocaleTimeString()}`, { live: true, rate: context.sampleRate });
    worker.postMessage({ type: "listen", id: recording.id, rate: context.sampleRate });
    node.port.onmessage = ({ data }) => hear(recording, data);
    context.createMediaStreamSource(stream).connect(node).connect(mute).connect(context.destination);
    await context.resume();
    listening = { stream, context, recording };
    track.onended = () => {
      if (listening?.stream !== stream) return;
      stopListening();
      complain("The microphone was disconnected.");
    };
    byId("listen").setAttribute("aria-pressed", "true");
    byId("listen").querySelector("span").textContent = "Stop";
    byId("level").hidden = false;
    say(`Listening at ${context.sampleRate / 1000} kHz. The first full window takes ${settings.window} s.`);
    show(recording);
  } catch (error) {
    stream?.getTracks().forEach((track) => track.stop());
    context?.close();
    say("Not listening.");
    complain(MICROPHONE_PROBLEMS[error.name] ?? `The microphone does not work: ${error}`);
  }
  byId("listen").disabled = false;
}

function hear(recording, samples) {
  if (listening?.recording !== recording) return;
  recording.heard.push(samples);
  if (recording.heard.length > (HEARD_SECONDS * recording.rate) / samples.length) recording.heard.shift();
  const peak = samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const level = Math.max(-60, Math.min(0, 20 * Math.log10(peak + 1e-9)));
  const meter = byId("level").querySelector(".track");
  meter.setAttribute("aria-valuenow", level.toFixed(0));
  meter.firstElementChild.style.width = `${((level + 60) / 60) * 100}%`;
  worker.postMessage({ type: "block", samples });
}

function stopListening() {
  const { stream, context, recording } = listening;
  listening = null;
  stream.getTracks().forEach((track) => track.stop());
  context.close();
  worker.postMessage({ type: "stop" });
  byId("listen").setAttribute("aria-pressed", "false");
  byId("listen").querySelector("span").textContent = "Listen";
  byId("level").hidden = true;
  say(`Stopped after ${length(recording.seconds)}.`);
  later();
}

// ---- events ------------------------------------------------------------------------------------------

/**
 * Return events in order of time: windows at or above the threshold of a class become one event if they follow
 * each other or overlap.
 */
function events(recording) {
  const found = [];
  for (let i = 0; i < classes.length; i++) {
    const least = threshold(i);
    let last = null, before = -1; // the last event, and its last window
    recording.windows.forEach(({ start, end, probabilities }, at) => {
      const probability = probabilities[i];
      if (probability < least || probability === 0) return; // 0 is silence
      if (last && (start < last.end || (before === at - 1 && start === last.end))) {
        last.end = end;
        last.probability = Math.max(last.probability, probability);
      } else found.push((last = { start, end, index: i, probability }));
      before = at;
    });
  }
  return found.sort((a, b) => a.start - b.start || b.probability - a.probability);
}

// ---- the screen --------------------------------------------------------------------------------------

let due = false;

/** Draw soon; many changes become one drawing. */
function later() {
  if (due) return;
  due = true;
  setTimeout(() => {
    due = false;
    draw();
  }, 100);
}

function show(recording) {
  shown = recording;
  selected = null;
  const list = byId("shown");
  list.replaceChildren(...[...recordings.values()].map((one) => {
    const option = element("option", one.name);
    option.value = one.id;
    return option;
  }));
  list.hidden = recordings.size < 2;
  if (recording) list.value = recording.id;
  const player = byId("player");
  player.pause();
  player.hidden = true;
  player.removeAttribute("src");
  if (recording?.file) {
    recording.url ??= URL.createObjectURL(recording.file);
    player.src = recording.url;
    player.hidden = false;
  }
  draw();
}

function draw() {
  byId("empty").hidden = Boolean(shown?.columns.length);
  const found = shown ? events(shown) : [];
  drawSpectrogram();
  drawLanes(found);
  drawBars();
  drawEvents(found);
}

/** Return the seconds at the left and right end of the picture. */
function span() {
  if (!shown) return [0, 1];
  const wide = shown.capacity * shown.columnSeconds;
  if (!shown.live) return [0, wide];
  const now = shown.columnCount * shown.columnSeconds;
  return [now - wide, now];
}

const SHADES = Uint8ClampedArray.from({ length: 256 * 3 }, (_, i) => {
  const place = (Math.floor(i / 3) / 255) * (COLOURS.length - 1), low = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[low][i % 3] + (place - low) * (COLOURS[low + 1][i % 3] - COLOURS[low][i % 3]);
});

function drawSpectrogram() {
  const canvas = byId("spectrogram"), context = canvas.getContext("2d");
  const wide = shown?.capacity ?? 1, high = settings.features.mels;
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
  const image = context.createImageData(wide, high);
  const columns = shown?.columns ?? [], shift = shown?.live ? wide - columns.length : 0;
  for (let i = 3; i < image.data.length; i += 4) image.data[i] = 255;
  columns.forEach((column, x) => {
    for (let m = 0; m < high; m++) {
      const shade = Math.max(0, Math.min(255, Math.round((1 + (column[m] - shown.loudest) / RANGE) * 255)));
      const at = ((high - 1 - m) * wide + x + shift) * 4;
      for (let c = 0; c < 3; c++) image.data[at + c] = SHADES[shade * 3 + c];
    }
  });
  context.putImageData(image, 0, 0);
  const label = shown ? `Log-mel spectrogram of ${shown.name}, ${length(shown.seconds)}` : "Log-mel spectrogram, empty";
  canvas.setAttribute("aria-label", label);
  const [from, to] = span();
  const marks = shown?.live ? [`${(to - from).toFixed(0)} s ago`, "now"]
    : shown ? Array.from({ length: 5 }, (_, i) => clock(from + ((to - from) * i) / 4)) : [];
  byId("axis").replaceChildren(...marks.map((text) => element("span", text)));
  const cursor = byId("cursor");
  cursor.hidden = selected === null || !shown || shown.live;
  if (!cursor.hidden) cursor.style.left = `${((selected - from) / (to - from)) * 100}%`;
}

function drawLanes(found) {
  const [from, to] = span(), lanes = new Map();
  for (const event of found.filter((event) => event.end > from && event.start < to)) {
    if (!lanes.has(event.index)) lanes.set(event.index, []);
    lanes.get(event.index).push(event);
  }
  const most = (list) => Math.max(...list.map((event) => event.probability));
  const rows = [...lanes].sort((a, b) => most(b[1]) - most(a[1])).slice(0, MOST_LANES).map(([index, list]) => {
    const row = element("div", "", "lane"), strip = element("span", "", "strip");
    for (const event of list) {
      const part = element("span"), left = Math.max(0, (event.start - from) / (to - from));
      part.style.left = `${left * 100}%`;
      part.style.width = `${(Math.min(1, (event.end - from) / (to - from)) - left) * 100}%`;
      strip.append(part);
    }
    row.append(element("span", names[index], "name"), strip);
    return row;
  });
  byId("lanes").replaceChildren(...rows);
}

/** Return the probabilities to show, and when they are of. */
function current() {
  if (!shown?.latest) return [null, ""];
  if (selected !== null && shown.windows.length) {
    const away = ({ start, end }) => Math.abs((start + end) / 2 - selected);
    const at = shown.windows.reduce((best, one) => (away(one) < away(best) ? one : best));
    return [at.probabilities, `${clock(at.start)} to ${clock(at.end)}`];
  }
  if (shown.live || !shown.done || shown.windows.length < 2) {
    return [shown.latest.probabilities, `${clock(shown.latest.start)} to ${clock(shown.latest.end)}`];
  }
  const most = new Float32Array(classes.length);
  for (const { probabilities } of shown.windows) for (let i = 0; i < most.length; i++) most[i] = Math.max(most[i], probabilities[i]);
  return [most, "highest in the recording"];
}

function drawBars() {
  const [values, when] = current();
  const list = byId("bars"), all = classes.length <= ALL_BARS, number = all ? classes.length : MOST_BARS;
  let order = classes.map((_, i) => i);
  if (!all && values) order = order.sort((a, b) => values[b] - values[a]);
  while (list.children.length < number) {
    const row = element("li", "", "bar"), track = element("span", "", "track");
    track.append(element("span", "", "fill"), element("span", "", "mark"));
    row.append(element("span", "", "name"), element("span", "", "value"), track);
    list.append(row);
  }
  order.slice(0, number).forEach((index, place) => {
    const [name, value, track] = list.children[place].children, p = values ? values[index] : 0;
    list.children[place].classList.toggle("hit", Boolean(values) && p >= threshold(index));
    name.textContent = names[index];
    name.title = names[index];
    value.textContent = values ? p.toFixed(3) : "–";
    track.firstElementChild.style.width = `${p * 100}%`;
    track.lastElementChild.style.left = `${threshold(index) * 100}%`;
  });
  byId("when").textContent = when;
  byId("bars-note").textContent = `The line on each bar is the threshold of the class.${all ? "" : ` The highest ${number} of ${classes.length} classes.`}`;
}

function drawEvents(found) {
  byId("count").textContent = shown ? `${found.length}${found.length > MOST_ROWS ? `, ${MOST_ROWS} shown; the files hold all` : ""}` : "";
  byId("no-events").hidden = found.length > 0;
  byId("no-events").textContent = !shown ? "No events yet." : shown.done ? "No class reaches its threshold." : "No events so far.";
  byId("downloads").hidden = !shown?.windows.length;
  byId("save-wav").hidden = !shown?.live;
  const rows = shown?.live ? found.slice(-MOST_ROWS).reverse() : found.slice(0, MOST_ROWS);
  const now = `${shown?.id} ${JSON.stringify(rows)}`;
  if (now === rowsOf) return;
  rowsOf = now;
  byId("events").replaceChildren(...rows.map((event) => {
    const row = element("tr"), when = element("td"), text = `${clock(event.start)} – ${clock(event.end)}`;
    if (shown.live) when.textContent = text;
    else {
      const seek = element("button", text, "seek");
      seek.type = "button";
      seek.title = "Go to this time";
      seek.onclick = () => point(event.start, true);
      when.append(seek);
    }
    row.append(when, element("td", names[event.index]), element("td", event.probability.toFixed(3), "number"));
    return row;
  }));
}

/** Point at a time of the recording: cursor, probabilities and player. */
function point(seconds, centre = false) {
  if (!shown || shown.live) return;
  selected = Math.min(seconds + (centre ? settings.window / 2 : 0), shown.seconds);
  const player = byId("player");
  if (!player.hidden && player.readyState > 0) player.currentTime = seconds;
  draw();
}

// ---- files to keep -----------------------------------------------------------------------------------

const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
const number = (value) => Number(value.toPrecision(7)).toString();
const seconds = (value) => Number(value.toFixed(3)).toString();

function save(content, ending, type = "text/plain") {
  const link = element("a"), url = URL.createObjectURL(new Blob(content, { type }));
  link.href = url;
  link.download = `${shown.name.replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N}._ -]+/gu, "-")}${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

function saveCsv() {
  const lines = events(shown).map((event) =>
    [seconds(event.start), seconds(event.end), quoted(classes[event.index]), quoted(names[event.index]), number(event.probability), quoted(shown.name)].join(","));
  save([["start,end,class,name,probability,recording", ...lines, ""].join("\n")], ".events.csv");
}

function saveAudacity() {
  const lines = events(shown).map((event) =>
    `${event.start.toFixed(6)}\t${event.end.toFixed(6)}\t${names[event.index].replace(/\s+/g, " ")}\n`);
  save([lines.join("")], ".labels.txt");
}

function saveProbabilities() {
  const lines = shown.windows.map((window) =>
    [seconds(window.start), seconds(window.end), ...Array.from(window.probabilities, number)].join(","));
  save([[["start", "end", ...classes.map(quoted)].join(","), ...lines, ""].join("\n")], ".probabilities.csv");
}

function saveWav() {
  const samples = shown.heard.reduce((sum, block) => sum + block.length, 0), head = new DataView(new ArrayBuffer(44));
  const text = (at, value) => [...value].forEach((sign, i) => head.setUint8(at + i, sign.charCodeAt(0)));
  text(0, "RIFF");
  head.setUint32(4, 36 + samples * 4, true);
  text(8, "WAVEfmt ");
  head.setUint32(16, 16, true);
  head.setUint16(20, 3, true); // floats
  head.setUint16(22, 1, true);
  head.setUint32(24, shown.rate, true);
  head.setUint32(28, shown.rate * 4, true);
  head.setUint16(32, 4, true);
  head.setUint16(34, 32, true);
  text(36, "data");
  head.setUint32(40, samples * 4, true);
  save([head, ...shown.heard], ".wav", "audio/wav");
}

// ---- controls ----------------------------------------------------------------------------------------

byId("listen").onclick = () => (listening ? stopListening() : listen());
byId("files").onchange = (event) => {
  open([...event.target.files]);
  event.target.value = "";
};
byId("cancel").onclick = () => {
  for (const recording of recordings.values()) if (!recording.done) worker.postMessage({ type: "cancel", id: recording.id });
};
byId("shown").onchange = (event) => show(recordings.get(Number(event.target.value)));
byId("single").onchange = byId("threshold").oninput = () => {
  noteThreshold();
  draw();
};
byId("spectrogram").onclick = (event) => {
  const [from, to] = span(), box = event.target.getBoundingClientRect();
  point(from + ((event.clientX - box.left) / box.width) * (to - from));
};
const player = byId("player");
player.onerror = () => {
  player.hidden = true; // the browser does not play this format
};
player.ontimeupdate = () => {
  if (player.paused || !shown || shown.live) return;
  selected = player.currentTime;
  later();
};
byId("save-csv").onclick = saveCsv;
byId("save-audacity").onclick = saveAudacity;
byId("save-probabilities").onclick = saveProbabilities;
byId("save-wav").onclick = saveWav;

const drop = byId("drop");
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  open([...event.dataTransfer.files]);
});

draw();
start().catch((error) => broken(String(error)));
