// The worker: runs the network on windows of audio. sound.js stands before this text.
"use strict";

const AUDIBLE = 0.5 / 32_767; // below it a 16-bit recording is all zeros
const COLUMNS = 1000, LIVE_SECONDS = 30;
const FIRST_ANSWER = 1; // seconds of a live window that give a first, provisional answer

let config = null, session = null, ort = null;
let microphone = null; // the live run
let turn = Promise.resolve(); // the session runs one window at a time
const jobs = [];
const cancelled = new Set();
let working = false;

/** Let waiting messages arrive. */
const pause = () => new Promise((resolve) => setTimeout(resolve));

/** Audio that arrives in blocks, and the windows of it that the network classifies. */
class Run {
  constructor(id, rate, frames = null) {
    this.id = id;
    this.live = frames === null;
    this.rate = config.sample_rate;
    this.resampler = new Resampler(rate, this.rate);
    this.window = Math.max(1, Math.round(config.window * this.rate));
    this.hop = Math.min(Math.max(1, Math.round(config.hop * this.rate)), this.window);
    this.held = new Float32Array(0);
    this.first = 0; // index of held[0], in samples of the network's rate
    this.next = 0; // start of the next window
    this.answered = 0; // live: samples at the last provisional answer
    this.spectrogram = new Spectrogram(this.rate, config.features);
    const perSecond = this.rate / config.features.hop;
    const seconds = this.live ? LIVE_SECONDS : frames / rate;
    this.perColumn = Math.max(1, Math.ceil((seconds * perSecond) / COLUMNS));
    this.column = null;
    this.inColumn = 0;
    postMessage({ type: "run", id, columns: Math.ceil((seconds * perSecond) / this.perColumn), columnSeconds: this.perColumn / perSecond });
  }

  /** Take a block at the recording's rate, and classify all windows that it completes. */
  async push(block) {
    this.take(this.resampler.push(block));
    await this.windows();
  }

  take(samples) {
    for (let i = 0; i < samples.length; i++) samples[i] = Math.max(-1, Math.min(1, samples[i])); // the filter overshoots
    const held = new Float32Array(this.held.length + samples.length);
    held.set(this.held);
    held.set(samples, this.held.length);
    this.held = held;
    this.draw(this.spectrogram.push(samples));
  }

  async windows() {
    const end = () => this.first + this.held.length;
    if (this.live) { // a slow device leaves windows out, so that its answers stay current
      const late = Math.floor((end() - this.next - this.window) / this.hop) - 1;
      if (late > 0) {
        this.next += late * this.hop;
        postMessage({ type: "late", id: this.id, windows: late });
      }
    }
    for (; this.next + this.window <= end(); this.next += this.hop) {
      await this.classify(this.next, this.held.slice(this.next - this.first, this.next - this.first + this.window));
      await pause();
      if (cancelled.has(this.id)) return;
    }
    if (this.live && this.next === 0 && end() >= Math.max(FIRST_ANSWER * this.rate, this.answered + this.hop)) {
      this.answered = end();
      await this.classify(0, this.held, end(), true);
    }
    // Samples from the previous window on are kept, for the window that ends with the recording.
    const drop = Math.max(0, Math.min(this.next - this.hop - this.first, this.held.length));
    this.held = this.held.slice(drop);
    this.first += drop;
  }

  /** Classify the last window, which ends with the recording; a recording shorter than that is padded. */
  async end() {
    this.take(this.resampler.flush());
    await this.windows();
    const total = this.first + this.held.length;
    if (cancelled.has(this.id)) {
      // what was classified stays
    } else if (total < this.window) {
      const padded = new Float32Array(this.window);
      padded.set(this.held);
      await this.classify(0, padded, total);
    } else if (this.next - this.hop + this.window < total) {
      await this.classify(total - this.window, this.held.slice(-this.window));
    }
    this.draw([], true);
    postMessage({ type: "end", id: this.id, seconds: total / this.rate, cancelled: cancelled.has(this.id) });
  }

  /** Classify samples from `start` on; few samples are repeated, as in Python. */
  async classify(start, samples, end = start + samples.length, provisional = false) {
    let peak = 0;
    for (const sample of samples) peak = Math.max(peak, Math.abs(sample));
    const silent = peak < AUDIBLE;
    let probabilities = new Float32Array(config.classes.length); // of silence: 0
    if (!silent) {
      const clip = new Float32Array(Math.max(config.fed, samples.length));
      for (let at = 0; at < clip.length; at += samples.length) clip.set(samples.subarray(0, clip.length - at), at);
      probabilities = await network(clip);
    }
    const seconds = { start: start / this.rate, end: end / this.rate };
    postMessage({ type: "window", id: this.id, ...seconds, silent, provisional, probabilities });
  }

  draw(frames, last = false) {
    const columns = [];
    for (const frame of frames) {
      this.column = this.column ? this.column.map((value, i) => Math.max(value, frame[i])) : frame;
      if (++this.inColumn === this.perColumn) {
        columns.push(this.column);
        this.column = null;
        this.inColumn = 0;
      }
    }
    if (last && this.column) columns.push(this.column);
    if (columns.length) postMessage({ type: "columns", id: this.id, columns });
  }
}

/** Return the probabilities of samples. */
function network(clip) {
  const run = turn.then(() => session.run({ waveform: new ort.Tensor("float32", clip, [1, clip.length]) }));
  turn = run.catch(() => null);
  return run.then((outputs) => Float32Array.from(outputs.probabilities.data));
}

function requireLength(seconds) {
  if (!(seconds > 0)) throw new SoundError("the file holds no samples");
  if (seconds < config.min_seconds) throw new SoundError(`too short: ${seconds.toFixed(2)} s, of at least ${config.min_seconds} s`);
}

/** Classify a WAV file from its disk, block by block, in constant memory. */
async function classifyWav(id, file, wav) {
  requireLength(wav.frames / wav.rate);
  const run = new Run(id, wav.rate, wav.frames), block = 4 * wav.rate, size = wav.channels * wav.bytes;
  for (let frame = 0; frame < wav.frames && !cancelled.has(id); frame += block) {
    const [from, to] = [frame, Math.min(frame + block, wav.frames)].map((at) => wav.start + at * size);
    await run.push(monoOf(await file.slice(from, to).arrayBuffer(), wav));
    postMessage({ type: "progress", id, share: Math.min(1, (frame + block) / wav.frames) });
  }
  await run.end();
}

/** Classify samples that the browser decoded, at their own rate. */
async function classifySamples(id, mono, rate) {
  requireLength(mono.length / rate);
  const run = new Run(id, rate, mono.length), block = 4 * rate;
  for (let at = 0; at < mono.length && !cancelled.has(id); at += block) {
    await run.push(mono.subarray(at, at + block).slice());
    postMessage({ type: "progress", id, share: Math.min(1, (at + block) / mono.length) });
  }
  await run.end();
}

async function work() {
  if (working) return;
  working = true;
  while (jobs.length) {
    const { id, file, mono, rate } = jobs.shift();
    try {
      if (cancelled.has(id)) postMessage({ type: "end", id, seconds: 0, cancelled: true });
      else if (mono) await classifySamples(id, mono, rate);
      else {
        const wav = await readWav(file);
        if (wav) await classifyWav(id, file, wav);
        else postMessage({ type: "decode", id, rate: encodedRate(new Uint8Array(await file.arrayBuffer())) });
      }
    } catch (error) {
      postMessage({ type: "error", id, text: error instanceof SoundError ? error.message : String(error) });
    }
  }
  working = false;
}

async function hear() {
  const live = microphone;
  if (live.running) return;
  live.running = true;
  try {
    while (live.blocks.length) {
      const blocks = live.blocks.splice(0);
      const all = new Float32Array(blocks.reduce((sum, block) => sum + block.length, 0));
      blocks.reduce((at, block) => (all.set(block, at), at + block.length), 0);
      await live.run.push(all);
      await pause();
    }
    if (live.stopped) {
      live.run.draw([], true);
      postMessage({ type: "end", id: live.run.id, seconds: (live.run.first + live.run.held.length) / live.run.rate });
    }
  } catch (error) {
    postMessage({ type: "error", id: live.run.id, text: String(error) });
  }
  live.running = false;
}

async function load({ settings, library, wasm, model }) {
  config = settings;
  // From disk, Chromium imports only a blob that the worker itself made, and starts no module worker.
  ort = await import(URL.createObjectURL(new Blob([library], { type: "text/javascript" })));
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = 1; // threads need headers that no file on disk has
  ort.env.wasm.wasmBinary = wasm;
  session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  postMessage({ type: "ready" });
}

onmessage = ({ data }) => {
  if (data.type === "load") load(data).catch((error) => postMessage({ type: "broken", text: String(error) }));
  if (data.type === "classify") {
    jobs.push(data);
    work();
  }
  if (data.type === "cancel") cancelled.add(data.id);
  if (data.type === "listen") microphone = { run: new Run(data.id, data.rate), blocks: [], running: false, stopped: false };
  if (data.type === "block" && microphone && !microphone.stopped) {
    microphone.blocks.push(data.samples);
    hear();
  }
  if (data.type === "stop" && microphone) {
    microphone.stopped = true;
    hear();
  }
};
