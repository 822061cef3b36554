/**
 * node-llama-cpp on the same GGUF file, as a subject.
 *
 * It is large, so it lives apart in bench/peer with its own lockfile and is installed on the first benchmark. Used as
 * its documentation advises: its prebuilt CPU binary, flash attention, the KV cache of a sequence kept between
 * requests and cut where the new prompt departs (its own prefix reuse), greedy sampling and nothing else.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import type { Subject } from './subject.js';

/** Seen from dist/bench. */
const FOLDER = fileURLToPath(new URL('../../bench/peer/', import.meta.url));
const PACKAGE = new URL('../../bench/peer/node_modules/node-llama-cpp/', import.meta.url);
const GREEDY = { temperature: 0, yieldEogToken: true };

/** The part of node-llama-cpp we call; its own types are not installed with the project. */
interface Sequence {
  readonly nextTokenIndex: number;
  clearHistory(): Promise<void>;
  adaptStateToTokens(tokens: number[], allowShift: boolean): Promise<void>;
  evaluate(tokens: number[], options: typeof GREEDY): AsyncGenerator<number, void, void>;
  evaluateWithoutGeneratingNewTokens(tokens: number[]): Promise<void>;
}

interface NodeLlamaCpp {
  getLlama(options: Record<string, unknown>): Promise<{
    readonly systemInfo: string;
    readonly llamaCppRelease: { readonly release: string };
    loadModel(options: { modelPath: string }): Promise<{
      createContext(options: Record<string, unknown>): Promise<{
        readonly flashAttention: boolean | 'auto';
        readonly batchSize: number;
        readonly currentThreads: number;
        readonly contextSize: number;
        getSequence(): Sequence;
      }>;
    }>;
    dispose(): Promise<void>;
  }>;
}

export interface PeerOptions {
  readonly ggufPath: string;
  readonly threads: number;
  /** Longest prompt and answer together. */
  readonly contextTokens: number;
  readonly flashAttention: boolean;
  /** Tokens per batch; 512 when not given, llama.cpp's own physical batch. */
  readonly batchTokens?: number;
}

export interface Peer extends Subject {
  /** What the peer says about itself, for the results: release, SIMD features, threads and so on. */
  readonly facts: Readonly<Record<string, string | number | boolean>>;
}

/** Installs the peer when it is missing (about 100 MB), loads the model and warms it up. */
export async function createPeer(options: PeerOptions): Promise<Peer> {
  const { ggufPath, threads, contextTokens, flashAttention, batchTokens = 512 } = options;
  installWhenMissing();
  Object.assign(process.env, { NODE_LLAMA_CPP_SKIP_DOWNLOAD: 'true' });
  const module: NodeLlamaCpp = await import(new URL('dist/index.js', PACKAGE).href);
  const llama = await module.getLlama({ gpu: false, build: 'never', maxThreads: threads, logLevel: 'error' });
  const model = await llama.loadModel({ modelPath: ggufPath });
  const context = await model.createContext({
    contextSize: contextTokens,
    batchSize: batchTokens,
    threads: { ideal: threads, min: threads },
    sequences: 1,
    flashAttention,
  });
  const peer = new PeerSubject(context.getSequence(), () => llama.dispose(), {
    llamaCpp: llama.llamaCppRelease.release,
    system: llama.systemInfo.trim(),
    threads,
    batchTokens: context.batchSize,
    contextTokens: context.contextSize,
    flashAttention: context.flashAttention,
  });
  await peer.decode(
    Array.from({ length: 64 }, (_, token) => 1000 + token),
    8,
  );
  return peer;
}

function installWhenMissing(): void {
  if (existsSync(PACKAGE)) return;
  console.error('Installing node-llama-cpp into bench/peer (about 100 MB, once) …');
  const { status } = spawnSync(
    'npm',
    ['ci', '--prefix', FOLDER, '--ignore-scripts', '--no-audit', '--no-fund'],
    {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, NODE_LLAMA_CPP_SKIP_DOWNLOAD: 'true' },
    },
  );
  if (status !== 0) throw new Error(`npm ci --prefix bench/peer --ignore-scripts ended with ${status}`);
}

class PeerSubject implements Peer {
  readonly name = 'node-llama-cpp';
  readonly facts;
  readonly close;
  readonly #sequence: Sequence;

  constructor(sequence: Sequence, close: () => Promise<void>, facts: Peer['facts']) {
    this.#sequence = sequence;
    this.close = close;
    this.facts = facts;
  }

  /** It keeps KV where the graph reads it, and nowhere else. */
  supports(from: 'cold' | 'device' | 'host'): boolean {
    return from !== 'host';
  }

  async prefill(tokens: readonly number[]): Promise<number> {
    await this.#sequence.clearHistory();
    return this.#timeFirstToken(tokens);
  }

  async decode(context: readonly number[], steps: number): Promise<number[]> {
    await this.#sequence.clearHistory();
    const tokens = this.#sequence.evaluate([...context], GREEDY);
    await tokens.next();
    const times: number[] = [];
    for (let step = 0; step < steps; step++) {
      const start = performance.now();
      await tokens.next();
      times.push(performance.now() - start);
    }
    await tokens.return();
    return times;
  }

  async ttft(
    cached: readonly number[],
    fresh: readonly number[],
    from: 'cold' | 'device' | 'host',
  ): Promise<number> {
    if (from === 'cold') return this.prefill([...cached, ...fresh]);
    const otherwise = fresh.map((token) => token + 1);
    await this.#reuse([...cached, ...otherwise]);
    return this.#timeFirstToken([...cached, ...fresh]);
  }

  async #timeFirstToken(tokens: readonly number[]): Promise<number> {
    const start = performance.now();
    await this.#sequence.adaptStateToTokens([...tokens], false);
    const answer = this.#sequence.evaluate(tokens.slice(this.#sequence.nextTokenIndex), GREEDY);
    await answer.next();
    const elapsed = performance.now() - start;
    await answer.return();
    return elapsed;
  }

  /** Brings the sequence to these tokens, keeping what it has of them. */
  async #reuse(tokens: readonly number[]): Promise<void> {
    await this.#sequence.adaptStateToTokens([...tokens], false);
    await this.#sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(this.#sequence.nextTokenIndex));
  }
}
