// Sound: WAV headers, resampling, log-mel for display. Plain functions; runs in the worker.
"use strict";

const HIGHEST_RATE = 10_000_000, LOWEST_RATE = 1000, MOST_CHANNELS = 64;

/** An error whose message is for the user. */
class SoundError extends Error {}

/** Return the text of `length` bytes of a DataView at `at`. */
function tag(view, at, length = 4) {
  let text = "";
  for (let i = 0; i < length && at + i < view.byteLength; i++) text += String.fromCharCode(view.getUint8(at + i));
  return text;
}

/**
 * Read the header of a WAV file of PCM (8, 16, 24, 32 bits) or floats (32, 64 bits).
 *
 * Returns {rate, channels, bytes, float, start, frames}; `bytes` per sample, `start` of the samples in the
 * file. Returns null for any other file. Throws SoundError for a damaged header.
 */
async function readWav(file) {
  const at = async (start, size) => new DataView(await file.slice(start, start + size).arrayBuffer());
  const head = await at(0, 12);
  const kind = tag(head, 0);
  if (head.byteLength < 12 || !["RIFF", "RF64", "BW64"].includes(kind) || tag(head, 8) !== "WAVE") return null;
  let format = null, large = null;
  for (let place = 12; place + 8 <= file.size; ) {
    const chunk = await at(place, 48);
    const name = tag(chunk, 0), size = chunk.getUint32(4, true), body = place + 8;
    if (name === "ds64" && chunk.byteLength >= 24) large = Number(chunk.getBigUint64(16, true));
    if (name === "fmt ") {
      if (size < 16 || chunk.byteLength < 24) throw new SoundError("the header of the WAV file is damaged");
      let code = chunk.getUint16(8, true);
      if (code === 0xfffe && size >= 40 && chunk.byteLength >= 34) code = chunk.getUint16(32, true);
      format = {
        code, channels: chunk.getUint16(10, true), rate: chunk.getUint32(12, true),
        block: chunk.getUint16(20, true), bits: chunk.getUint16(22, true),
      };
    }
    if (name === "data") {
      if (!format) throw new SoundError("the WAV file has no format before its samples");
      return pcm(format, body, size, large, file.size);
    }
    place = body + size + (size & 1);
  }
  throw new SoundError("the WAV file holds no samples");
}

function pcm({ code, channels, rate, block, bits }, start, size, large, fileSize) {
  const float = code === 3, bytes = bits / 8;
  if (!(code === 1 ? [1, 2, 3, 4] : float ? [4, 8] : []).includes(bytes)) return null; // the browser may decode it
  if (!(channels > 0 && channels <= MOST_CHANNELS) || block !== channels * bytes) {
    throw new SoundError("the header of the WAV file is damaged");
  }
  if (rate < LOWEST_RATE || rate > HIGHEST_RATE) throw new SoundError(`a sample rate of ${rate} Hz`);
  const streamed = size === 0xffffffff || size === 0; // written to a pipe: up to the end of the file
  const stated = streamed ? (large ?? fileSize - start) : size;
  if (stated > fileSize - start) throw new SoundError("truncated: the file is shorter than its header states");
  const frames = Math.floor(stated / block);
  if (!frames) throw new SoundError("the file holds no samples");
  return { rate, channels, bytes, float, start, frames };
}

/** Convert a block of a WAV file to mono: the mean over channels of samples in -1..1. */
function monoOf(buffer, { channels, bytes, float }) {
  const view = new DataView(buffer), frames = Math.floor(buffer.byteLength / (channels * bytes));
  const mono = new Float32Array(frames);
  const read = float
    ? bytes === 4 ? (at) => view.getFloat32(at, true) : (at) => view.getFloat64(at, true)
    : [
        (at) => (view.getUint8(at) - 128) / 128,
        (at) => view.getInt16(at, true) / 32_768,
        (at) => (view.getInt16(at + 1, true) * 256 + view.getUint8(at)) / 8_388_608,
        (at) => view.getInt32(at, true) / 2_147_483_648,
      ][bytes - 1];
  for (let i = 0, at = 0; i < frames; i++) {
    let sum = 0;
    for (let c = 0; c < channels; c++, at += bytes) {
      const value = read(at);
      if (!Number.isFinite(value)) throw new SoundError("non-finite: a sample is NaN or infinite");
      sum += Math.max(-1, Math.min(1, value));
    }
    mono[i] = sum / channels;
  }
  return mono;
}

/** Return the sample rate that an encoded file states, in Hz; 48000 for a format that states none. */
function encodedRate(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const find = (text, from, to) => {
    for (let i = from; i < Math.min(to, bytes.length) - text.length; i++) if (tag(view, i, text.length) === text) return i;
    return -1;
  };
  const magic = tag(view, 0);
  if (magic === "fLaC" && bytes.length > 26) return (view.getUint32(18) >>> 12) || 48_000;
  if (magic === "OggS") {
    const vorbis = find("\x01vorbis", 0, 4096), flac = find("fLaC", 0, 4096);
    if (vorbis >= 0) return view.getUint32(vorbis + 12, true);
    return flac >= 0 ? view.getUint32(flac + 18) >>> 12 : 48_000; // Opus
  }
  if (tag(view, 4) === "ftyp") {
    let entry = -1; // a sample entry, in the box `moov`, at the start or at the end of the file
    for (let i = 0; i < bytes.length - 36 && entry < 0; i++) {
      if (bytes[i] === 0x6d && tag(view, i) === "mp4a" && view.getUint32(i + 4) === 0) entry = i;
    }
    return entry < 0 ? 48_000 : view.getUint16(entry + 28) || 48_000;
  }
  if (["RIFF", "RF64"].includes(magic)) return view.getUint32(24, true); // WAV, of other codecs than PCM
  let at = 0;
  if (magic.startsWith("ID3")) at = 10 + ((bytes[6] << 21) | (bytes[7] << 14) | (bytes[8] << 7) | bytes[9]);
  for (; at + 4 < bytes.length; at++) { // MPEG audio
    if (bytes[at] !== 0xff || (bytes[at + 1] & 0xe0) !== 0xe0) continue;
    const version = (bytes[at + 1] >> 3) & 3, layer = (bytes[at + 1] >> 1) & 3;
    const bitrate = bytes[at + 2] >> 4, rate = (bytes[at + 2] >> 2) & 3;
    if (version === 1 || rate === 3) continue;
    if (layer === 0) { // ADTS: AAC
      const rates = [96e3, 88.2e3, 64e3, 48e3, 44.1e3, 32e3, 24e3, 22.05e3, 16e3, 12e3, 11.025e3, 8e3, 7350];
      return rates[(bytes[at + 2] >> 2) & 15] ?? 48_000;
    }
    if (bitrate !== 15 && bitrate !== 0) return [44_100, 48_000, 32_000][rate] / { 3: 1, 2: 2, 0: 4 }[version];
  }
  return 48_000;
}

function bessel(x) { // modified Bessel function of the first kind, order 0
  let sum = 1, term = 1;
  for (let k = 1; term > sum * 1e-17; k++) sum += term *= (x / (2 * k)) ** 2;
  return sum;
}

const gcd = (a, b) => (b ? gcd(b, a % b) : a);

/**
 * Resample mono audio in blocks; the result does not depend on the blocks.
 *
 * A sinc in a Kaiser window: flat up to 0.91 of the lower Nyquist frequency, -126 dB from 1.0 on. The
 * parameters fit the response of soxr's HQ, the resampler of the training clips, within 0.05 dB down to
 * -84 dB (for ratios of small numbers within 0.001 dB). A browser's own resampler differs by up to 1.8 dB.
 */
class Resampler {
  static PHASES = 1024; // kernels kept; between them, linear interpolation (error below -115 dB)

  constructor(rate, newRate) {
    const divisor = gcd(rate, newRate);
    [this.up, this.down] = [newRate / divisor, rate / divisor];
    this.same = rate === newRate;
    this.scale = Math.min(1, newRate / rate);
    [this.half, this.beta, this.cutoff] =
      this.up > 4 || this.down > 3 ? [101.5, 13.62, 0.95683]
        : this.up > this.down ? [97.11, 13.038, 0.95687] : [96.82, 13.038, 0.95687];
    this.reach = Math.ceil(this.half / this.scale);
    this.phases = Math.min(this.up, Resampler.PHASES);
    this.kernels = new Map();
    this.window = bessel(this.beta);
    this.held = new Float32Array(this.reach); // zeros before the start
    this.first = -this.reach; // index in the input of held[0]
    this.taken = 0; // samples of input
    this.made = 0; // samples of output
  }

  /** Return all samples of output that the input up to this block determines. */
  push(block) {
    this.taken += block.length;
    if (this.same) return block;
    return this.convert(block, Infinity);
  }

  /** Return the last samples; in all, round(samples * newRate / rate). */
  flush() {
    if (this.same) return new Float32Array(0);
    const total = Math.round((this.taken * this.up) / this.down);
    return this.convert(new Float32Array(2 * this.reach + 4), total);
  }

  convert(block, total) {
    const held = new Float32Array(this.held.length + block.length);
    held.set(this.held);
    held.set(block, this.held.length);
    const length = 2 * this.reach + 2, end = this.first + held.length - this.reach - 1;
    const count = Math.max(0, Math.min(total, Math.ceil((end * this.up) / this.down)) - this.made);
    const out = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      const place = (this.made + i) * this.down, whole = Math.floor(place / this.up);
      const phase = ((place - whole * this.up) * this.phases) / this.up, row = Math.floor(phase);
      const from = whole - this.reach - this.first, rest = phase - row;
      let value = dot(this.kernel(row), held, from, length);
      if (rest > 1e-9) value += rest * (dot(this.kernel(row + 1), held, from, length) - value);
      out[i] = value;
    }
    this.made += count;
    const keep = Math.floor((this.made * this.down) / this.up) - this.reach - this.first;
    this.held = held.slice(Math.min(keep, held.length));
    this.first += Math.min(keep, held.length);
    return out;
  }

  /** Return the kernel for outputs that lie row / phases of a sample after an input: taps -reach..reach+1. */
  kernel(row) {
    let found = this.kernels.get(row);
    if (found) return found;
    found = new Float64Array(2 * this.reach + 2);
    for (let i = 0; i < found.length; i++) {
      const x = (i - this.reach - row / this.phases) * this.scale, edge = 1 - (x / this.half) ** 2;
      if (edge < 0) continue;
      const angle = Math.PI * this.cutoff * x, sinc = angle === 0 ? 1 : Math.sin(angle) / angle;
      found[i] = (this.scale * this.cutoff * sinc * bessel(this.beta * Math.sqrt(edge))) / this.window;
    }
    this.kernels.set(row, found);
    return found;
  }
}

function dot(kernel, samples, from, length) {
  let sum = 0;
  for (let i = 0; i < length; i++) sum += kernel[i] * samples[from + i];
  return sum;
}

const toMel = (hz) => (hz < 1000 ? (hz * 3) / 200 : 15 + (27 * Math.log(hz / 1000)) / Math.log(6.4));
const toHz = (mel) => (mel < 15 ? (mel * 200) / 3 : 1000 * Math.exp(((mel - 15) * Math.log(6.4)) / 27));

/** Log-mel frames for display, in blocks of samples. The network has its own front end. */
class Spectrogram {
  constructor(rate, { n_fft, hop, mels, fmin, fmax }) {
    this.size = 2 ** Math.ceil(Math.log2(n_fft));
    [this.length, this.hop, this.mels] = [n_fft, hop, mels];
    this.window = Float64Array.from({ length: n_fft }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / n_fft));
    const edges = Array.from({ length: mels + 2 }, (_, i) =>
      toHz(toMel(fmin) + ((toMel(fmax) - toMel(fmin)) * i) / (mels + 1)));
    this.filters = [];
    for (let m = 0; m < mels; m++) {
      const [low, peak, high] = edges.slice(m, m + 3), filter = [];
      for (let k = 0; k <= this.size / 2; k++) {
        const hz = (k * rate) / this.size;
        const weight = Math.min((hz - low) / (peak - low), (high - hz) / (high - peak));
        if (weight > 0) filter.push([k, (weight * 2) / (high - low)]);
      }
      this.filters.push(filter);
    }
    this.sines = Float64Array.from({ length: this.size / 2 }, (_, i) => Math.sin((2 * Math.PI * i) / this.size));
    this.cosines = Float64Array.from({ length: this.size / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / this.size));
    this.held = new Float32Array(0);
  }

  /** Return frames of dB, one Float32Array [mels] each. */
  push(samples) {
    const held = new Float32Array(this.held.length + samples.length);
    held.set(this.held);
    held.set(samples, this.held.length);
    const frames = [];
    let at = 0;
    for (; at + this.length <= held.length; at += this.hop) frames.push(this.frame(held, at));
    this.held = held.slice(at);
    return frames;
  }

  frame(samples, at) {
    const real = new Float64Array(this.size), imaginary = new Float64Array(this.size);
    for (let i = 0; i < this.length; i++) real[i] = samples[at + i] * this.window[i];
    this.transform(real, imaginary);
    const frame = new Float32Array(this.mels);
    this.filters.forEach((filter, m) => {
      let power = 0;
      for (const [k, weight] of filter) power += weight * (real[k] ** 2 + imaginary[k] ** 2);
      frame[m] = 10 * Math.log10(Math.max(power, 1e-10));
    });
    return frame;
  }

  transform(real, imaginary) { // radix 2, in place
    const n = this.size;
    for (let i = 1, j = 0; i < n; i++) {
      let bit = n >> 1;
      for (; j & bit; bit >>= 1) j ^= bit;
      j ^= bit;
      if (i < j) [real[i], real[j], imaginary[i], imaginary[j]] = [real[j], real[i], imaginary[j], imaginary[i]];
    }
    for (let size = 2; size <= n; size *= 2) {
      const half = size / 2, step = n / size;
      for (let start = 0; start < n; start += size) {
        for (let k = 0; k < half; k++) {
          const c = this.cosines[k * step], s = -this.sines[k * step], a = start + k, b = a + half;
          const x = real[b] * c - imaginary[b] * s, y = real[b] * s + imaginary[b] * c;
          real[b] = real[a] - x;
          imaginary[b] = imaginary[a] - y;
          real[a] += x;
          imaginary[a] += y;
        }
      }
    }
  }
}
