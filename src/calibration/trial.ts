/**
 * One prompt under measurement: prefilled in full, and put together from what is stored. Blends are made from the
 * latter and held against the former, both by the same graphs.
 */
import { SELECTORS, type SegmentLayout, type Selector } from '#blend';
import type { DeviceRun } from '../engine/device-run.js';
import type { BlendSession, Prompt } from './blend-session.js';

/** A run that holds a prompt's rows, and the logits of the last of them. */
export interface Prefilled {
  readonly run: DeviceRun;
  readonly logits: Float32Array;
}

/** Milliseconds. */
export interface BlendMs {
  readonly place: number;
  readonly rotate: number;
  readonly select: number;
  readonly recompute: number;
}

export class Trial {
  readonly #session: BlendSession;
  readonly #prompt: Prompt;
  readonly #layout: SegmentLayout;
  readonly #capacity: number;
  /** The prompt with moved keys, nothing of it recomputed. */
  readonly #reused: DeviceRun;
  readonly exact: Prefilled;
  /** Of the full prefill. */
  readonly fullMs: number;

  private constructor(parts: {
    readonly session: BlendSession;
    readonly prompt: Prompt;
    readonly reused: DeviceRun;
    readonly exact: Prefilled;
    readonly fullMs: number;
  }) {
    this.#session = parts.session;
    this.#prompt = parts.prompt;
    this.#layout = parts.session.layoutOf(parts.prompt);
    this.#capacity = parts.reused.capacityTokens;
    this.#reused = parts.reused;
    this.exact = parts.exact;
    this.fullMs = parts.fullMs;
  }

  /** @param answerTokens room behind the prompt */
  static async begin(session: BlendSession, prompt: Prompt, answerTokens: number): Promise<Trial> {
    const capacity = prompt.tokens.length + answerTokens;
    const run = session.createRun(capacity);
    const full = await timed(() => session.prefill(run, prompt.tokens));
    const exact = { run, logits: full.result };
    return new Trial({
      session,
      prompt,
      exact,
      fullMs: full.ms,
      reused: await reuse(session, prompt, capacity),
    });
  }

  /** Of the same tokens, whose segments were stored in another way. */
  async with(prompt: Prompt): Promise<Trial> {
    const { exact, fullMs } = this;
    const session = this.#session;
    return new Trial({
      session,
      prompt,
      exact,
      fullMs,
      reused: await reuse(session, prompt, this.#capacity),
    });
  }

  async blend(selector: Selector, ratio: number): Promise<Prefilled> {
    const run = this.#session.createRun(this.#capacity);
    run.copyFrom(this.#reused, this.#prompt.tokens.length);
    const chosen = await this.#session.select(run, this.#prompt, this.#layout, { selector, ratio });
    return { run, logits: await this.#session.recompute(run, this.#prompt, this.#layout, chosen) };
  }

  /** Plain reuse. */
  reuse(): Promise<Prefilled> {
    return this.blend(SELECTORS.none(), 0);
  }

  /** A blend from the stored segments on, as a request has it done. */
  async time(selector: Selector, ratio: number): Promise<BlendMs> {
    const session = this.#session;
    const prompt = this.#prompt;
    const layout = this.#layout;
    const run = session.createRun(this.#capacity);
    const place = await timed(() => session.place(run, prompt, layout));
    const rotate = await timed(() => session.blender.rotate(run, layout.reused));
    const select = await timed(() => session.select(run, prompt, layout, { selector, ratio }));
    const recompute = await timed(() => session.recompute(run, prompt, layout, select.result));
    return { place: place.ms, rotate: rotate.ms, select: select.ms, recompute: recompute.ms };
  }

  /** Logits after the prompt and after each of `tokens` but the last, by one tile. */
  async forced({ run, logits }: Prefilled, tokens: readonly number[]): Promise<Float32Array[]> {
    const behind = Int32Array.from(tokens.slice(0, -1));
    if (behind.length === 0) return [logits];
    const start = this.#prompt.tokens.length;
    const rows = await this.#session.runner.prefill(run, start, behind, behind.length);
    const vocab = rows.length / behind.length;
    return [logits, ...Array.from(behind, (_, i) => rows.subarray(i * vocab, (i + 1) * vocab))];
  }

  /** The likeliest tokens, one after another: `count` of them, or up to one that ends the answer. */
  async greedy(
    { run, logits }: Prefilled,
    count: number,
    isEnd: (answer: readonly number[]) => boolean = () => false,
  ): Promise<number[]> {
    const tokens = [likeliest(logits)];
    while (tokens.length < count && !isEnd(tokens)) {
      const position = this.#prompt.tokens.length + tokens.length - 1;
      tokens.push(likeliest(await this.#session.runner.decode(run, position, tokens.at(-1)!)));
    }
    return tokens;
  }
}

/** A run with the prompt's rows as they are stored, at their places, keys moved. */
async function reuse(session: BlendSession, prompt: Prompt, capacity: number): Promise<DeviceRun> {
  const run = session.createRun(capacity);
  const layout = session.layoutOf(prompt);
  session.place(run, prompt, layout);
  await session.blender.rotate(run, layout.reused);
  return run;
}

export function likeliest(logits: Float32Array): number {
  let best = 0;
  for (const [token, logit] of logits.entries()) if (logit > logits[best]!) best = token;
  return best;
}

async function timed<T>(action: () => T | Promise<T>): Promise<{ readonly result: T; readonly ms: number }> {
  const start = performance.now();
  const result = await action();
  return { result, ms: performance.now() - start };
}
