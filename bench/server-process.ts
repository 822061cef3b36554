/**
 * `radixkv serve` as a process of its own: started, asked over HTTP, ended without warning. For measurements and tests
 * of what outlives a process. Uses the command and the public API only.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { performance } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ask, type CacheStats, cacheStats, type Question, type Reply } from './client.js';

const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
/** Between two looks at whether it is ready. */
const POLL_MS = 5;
/** Ends a start that hangs. */
const START_TIMEOUT_MS = 60_000;
/** Of what it says on stderr, this much is kept for an error message. */
const COMPLAINT_CHARACTERS = 4000;

export class ServerProcess {
  readonly #model: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #url: Promise<string | undefined>;
  readonly #startedAt = performance.now();
  #address = '';
  #complaint = '';

  /** Starts a server on a free port, with `flags` of `serve`. Await `ready` next, or kill it before. */
  constructor(model: string, flags: Readonly<Record<string, string | number>>) {
    const options = Object.entries({ model, port: 0, ...flags }).flatMap(([flag, value]) => [
      `--${flag}`,
      String(value),
    ]);
    // Nothing of this machine's environment but what finds programs: no option comes in by a variable.
    const child = spawn(process.execPath, [MAIN, 'serve', ...options], {
      env: { PATH: process.env.PATH, HOME: process.env.HOME },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#complaint = (this.#complaint + text).slice(-COMPLAINT_CHARACTERS);
    });
    this.#model = model;
    this.#child = child;
    this.#exited = once(child, 'exit');
    this.#url = printedUrl(child);
  }

  /** Starts a server and waits until it is ready. @throws as `ready` */
  static async start(
    model: string,
    flags: Readonly<Record<string, string | number>>,
  ): Promise<ServerProcess> {
    const server = new ServerProcess(model, flags);
    await server.ready();
    return server;
  }

  /**
   * @returns Milliseconds from the start of the process until it was first seen ready.
   * @throws Error with what the server said when it ends before that, or takes a minute
   */
  async ready(): Promise<number> {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), START_TIMEOUT_MS);
    this.#address = (await this.#url) ?? '';
    while (!this.#hasExited) {
      const response = await fetch(new URL('/health/ready', this.url)).catch(() => undefined);
      await response?.arrayBuffer();
      if (response?.status === 200) break;
      await sleep(POLL_MS);
    }
    clearTimeout(timer);
    if (this.#hasExited) throw new Error(`the server ended before it was ready: ${this.#complaint}`);
    return this.ageMs;
  }

  /** Milliseconds since the process was started. */
  get ageMs(): number {
    return performance.now() - this.#startedAt;
  }

  /** Its address; asserts that it was ready once. */
  get url(): string {
    assert(this.#address !== '' || this.#hasExited, 'await ready() first');
    return this.#address;
  }

  ask(question: Question): Promise<Reply> {
    return ask(this.url, this.#model, question);
  }

  stats(): Promise<CacheStats> {
    return cacheStats(this.url);
  }

  /** `kill -9`: nothing is flushed or closed. Resolves when the process is gone. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }

  /** Asks it to stop, and waits for its end. @returns its exit code, or the signal that ended it. */
  async stop(): Promise<number | NodeJS.Signals | null> {
    this.#child.kill('SIGTERM');
    await this.#exited;
    return this.#child.exitCode ?? this.#child.signalCode;
  }

  get #hasExited(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }
}

/** The address it prints once it listens; undefined when it ends before. Its output is read on, and dropped. */
function printedUrl(child: ChildProcess): Promise<string | undefined> {
  const lines = createInterface({ input: child.stdout! });
  return new Promise((resolve) => {
    lines.on('line', (line) => {
      const url = /^radixkv serves .* at (http:\S+)$/.exec(line)?.[1];
      if (url !== undefined) resolve(url);
    });
    lines.once('close', () => resolve(undefined));
  });
}
