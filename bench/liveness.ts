/**
 * Whether the server still answers while its engine is busy: `GET /health/live`, asked again and again during the
 * prefill of a long prompt that nobody has asked before. Uses a running server and its public API only.
 */
import assert from 'node:assert/strict';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';

/** Between two health requests, so that they do not take a core from what they watch. */
const PROBE_PAUSE_MS = 10;

export interface LivenessOptions {
  /** Base address, e.g. `http://127.0.0.1:8080`. */
  readonly url: string;
  readonly model: string;
  /** Length of the prompt; its token ids are below 256. */
  readonly promptTokens: number;
}

export interface Liveness {
  /** Health requests answered while the prompt was prefilled. */
  readonly probes: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** How long the prefill took, as the client sees it. */
  readonly prefillMs: number;
}

/** @throws Error when the server refuses the prompt or a health request. */
export async function liveness({ url, model, promptTokens }: LivenessOptions): Promise<Liveness> {
  const start = performance.now();
  const nonce = Math.floor(start * 1000) % 65_521;
  const prompt = Array.from(
    { length: promptTokens },
    (_, i) => (i < 4 ? nonce >> (4 * i) : i * 7 + nonce) % 256,
  );
  const state = { isDone: false };
  const completion = fetch(new URL('/v1/completions', url), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model, prompt, max_tokens: 1 }),
  }).then(async (response) => {
    state.isDone = true;
    return { status: response.status, body: await response.text(), prefillMs: performance.now() - start };
  });
  const waits: number[] = [];
  while (!state.isDone) {
    const asked = performance.now();
    const response = await fetch(new URL('/health/live', url));
    await response.text();
    assert.equal(response.status, 200);
    waits.push(performance.now() - asked);
    await sleep(PROBE_PAUSE_MS);
  }
  const { status, body, prefillMs } = await completion;
  if (status !== 200) throw new Error(`${status}: ${body}`);
  const sorted = waits.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!;
  return { probes: waits.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1), prefillMs };
}
