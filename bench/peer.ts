/**
 * node-llama-cpp on the same GGUF file, as a subject.
 *
 * It is large, so it lives apart in bench/peer with its own lockfile and is installed on the first benchmark. Used as
 * its documentation advises: its prebuilt CPU binary, flash attention, the KV cache of a sequence kept between
 * requests and cut where the new prompt departs (its own prefix reuse), its own state file of a sequence, greedy
 * sampling and nothing else.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { canDropPageCache, dropPageCache } from './page-cache.js';
import type { CacheState, Subject } from './subject.js';

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
  saveStateToFile(path: string): Promise<unknown>;
  loadStateFromFile(path: string, risk: { acceptRisk: true }): Promise<void>;
}

interface Context {
  readonly flashAttention: boolean | 'auto';
  readonly batchSize: number;
  readonly currentThreads: number;
  readonly contextSize: number;
  getSequence(): Sequence;
  dispose(): Promise<void>;
}

interface NodeLlamaCpp {
  getLlama(options: Record<string, unknown>): Promise<{
    readonly systemInfo: string;
    readonly llamaCppRelease: { readonly release: string };
    loadModel(options: { modelPath: string }): Promise<{
      createContext(options: Record<string, unknown>): Promise<Context>;
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
  const createContext = (): Promise<Context> =>
    model.createContext({
      contextSize: contextTokens,
      batchSize: batchTokens,
      threads: { ideal: threads, min: threads },
      sequences: 1,
      flashAttention,
    });
  const context = await createContext();
  const facts = {
    llamaCpp: llama.llamaCppRelease.release,
    system: llama.systemInfo.trim(),
    threads,
    batchTokens: context.batchSize,
    contextTokens: context.contextSize,
    flashAttention: context.flashAttention,
  };
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-peer-'));
  const close = async (): Promise<void> => {
    await llama.dispose();
    await rm(directory, { recursive: true, force: true });
  };
  const peer = new PeerSubject({ context, createContext, facts, directory, close });
  await peer.warmUp();
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
  readonly #createContext: () => Promise<Context>;
  readonly #stateFile: string;
  #context: Context;
  #sequence: Sequence;
  /** The tokens in the state file, as text to compare. */
  #saved: string | undefined;

  constructor(options: {
    readonly context: Context;
    readonly createContext: () => Promise<Context>;
    readonly facts: Peer['facts'];
    /** Of the state file; `close` removes it. */
    readonly directory: string;
    readonly close: () => Promise<void>;
  }) {
    this.#context = options.context;
    this.#sequence = options.context.getSequence();
    this.#createContext = options.createContext;
    this.#stateFile = join(options.directory, 'sequence.state');
    this.facts = options.facts;
    this.close = options.close;
  }

  /** The first runs of a context are slow. */
  async warmUp(): Promise<void> {
    const tokens = Array.from({ length: 64 }, (_, token) => 1000 + token);
    await this.decode(tokens, 8);
  }

  /** It keeps KV where the graph reads it, and in a file when told to. */
  supports(from: CacheState): boolean {
    return from !== 'host' && (from !== 'disk, page cache dropped' || canDropPageCache());
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

  async ttft(cached: readonly number[], fresh: readonly number[], from: CacheState): Promise<number> {
    const tokens = [...cached, ...fresh];
    if (from === 'cold') return this.prefill(tokens);
    if (from === 'device') {
      await this.#reuse([...cached, ...fresh.map((token) => token + 1)]);
      return this.#timeFirstToken(tokens);
    }
    await this.#save(cached);
    await this.#renew();
    if (from === 'disk, page cache dropped') dropPageCache();
    const start = performance.now();
    await this.#sequence.loadStateFromFile(this.#stateFile, { acceptRisk: true });
    const loadMs = performance.now() - start;
    return loadMs + (await this.#timeFirstToken(tokens));
  }

  async #save(tokens: readonly number[]): Promise<void> {
    if (this.#saved === tokens.join()) return;
    await this.#reuse(tokens);
    await this.#sequence.saveStateToFile(this.#stateFile);
    this.#saved = tokens.join();
  }

  /** A context that has seen nothing but its warm-up. */
  async #renew(): Promise<void> {
    await this.#context.dispose();
    this.#context = await this.#createContext();
    this.#sequence = this.#context.getSequence();
    await this.warmUp();
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
