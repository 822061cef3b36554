/**
 * Redis servers of one's own, for measurements and tests: each on a free port of this machine, without persistence,
 * ended with its scope. They need `redis-server` and `redis-cli` in the path.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { freePort } from './free-port.js';

const run = promisify(execFile);

/** Such as a test. */
export interface Scope {
  after(hook: () => Promise<void>): void;
}

/** Waits until something holds, for a minute at most. */
export async function until(holds: () => Promise<boolean> | boolean, what: string): Promise<void> {
  for (let waited = 0; waited < 60_000; waited += 25) {
    if (await holds()) return;
    await sleep(25);
  }
  assert.fail(`it never came to this: ${what}`);
}

interface Reach {
  /** Default: any free one. */
  readonly port?: number;
  /** Of redis-cli, to reach it. */
  readonly cli?: readonly string[];
  /** It is a Sentinel with this file. */
  readonly config?: string;
  /** Default: 127.0.0.1. */
  readonly host?: string;
  /** What starts it, before its own name: of a network namespace, say. */
  readonly prefix?: readonly string[];
}

export class RedisServer {
  readonly port: number;
  /** Besides `--port`. */
  readonly #options: readonly string[];
  readonly #directory: string;
  /** Of redis-cli, to reach it. */
  readonly #cli: readonly string[];
  /** Of a Sentinel, which writes to it. */
  readonly #config: string | undefined;
  readonly #host: string;
  readonly #prefix: readonly string[];
  #child: ChildProcess | undefined;

  private constructor(port: number, options: readonly string[], how: Reach) {
    this.port = port;
    this.#options = options;
    this.#cli = how.cli ?? [];
    this.#config = how.config;
    this.#host = how.host ?? '127.0.0.1';
    this.#prefix = how.prefix ?? [];
    this.#directory = mkdtempSync(join(tmpdir(), 'radixkv-redis-'));
  }

  static async start(t: Scope, options: readonly string[] = [], how: Reach = {}): Promise<RedisServer> {
    const server = new RedisServer(how.port ?? (await freePort()), options, how);
    t.after(async () => {
      await server.kill();
      rmSync(server.#directory, { recursive: true, force: true });
    });
    await server.begin();
    return server;
  }

  get url(): string {
    return `redis://${this.#host}:${this.port}`;
  }

  /** Starts it (again), empty, and waits until it answers. */
  async begin(): Promise<void> {
    const plain = this.#options.includes('--tls-port') ? [] : ['--port', String(this.port)];
    const common = [...plain, '--bind', this.#host, '--protected-mode', 'no', '--dir', this.#directory];
    const options =
      this.#config === undefined
        ? [...common, '--save', '', '--appendonly', 'no', ...this.#options]
        : [this.#config, '--sentinel', ...common, ...this.#options];
    const [command, ...rest] = [...this.#prefix, 'redis-server', ...options];
    const child = spawn(command!, rest, { stdio: 'ignore' });
    await Promise.race([once(child, 'spawn'), once(child, 'error').then(([error]) => Promise.reject(error))]);
    this.#child = child;
    await until(async () => {
      return (await this.ask('PING').catch(() => '')) === 'PONG';
    }, 'redis-server answers');
  }

  /** Sends one command with redis-cli. */
  async ask(...command: readonly string[]): Promise<string> {
    const options = ['-h', this.#host, '-p', String(this.port), ...this.#cli];
    const { stdout } = await run('redis-cli', [...options, ...command], { encoding: 'utf8' });
    return stdout.trim();
  }

  /** The names of chunks. */
  async chunks(): Promise<string[]> {
    const names = (await this.ask('--scan', '--pattern', 'radixkv:1:*')).split('\n');
    return names.filter((name) => name !== '' && !name.includes(':budget:'));
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#child?.kill(signal);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
}

/** A way to a server that can be cut without either end being told: packets of a network that is gone. */
export class Wire {
  readonly port: number;
  #isCut = false;
  #delayMs = 0;

  private constructor(port: number) {
    this.port = port;
  }

  static async to(t: Scope, target: number): Promise<Wire> {
    const open = new Set<{ destroy(): unknown }>();
    const server = createServer((near) => {
      const far = connect(target, '127.0.0.1');
      const pairs = [
        [near, far],
        [far, near],
      ] as const;
      for (const [from, to] of pairs) {
        open.add(from);
        from.on('error', () => {});
        from.once('close', () => {
          open.delete(from);
          to.destroy();
        });
        from.on('data', (bytes) => {
          if (wire.#isCut) return;
          if (wire.#delayMs === 0) to.write(bytes);
          else setTimeout(() => to.write(bytes), wire.#delayMs);
        });
      }
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    assert(address !== null && typeof address === 'object');
    const wire = new Wire(address.port);
    t.after(async () => {
      server.close();
      for (const socket of open) socket.destroy();
    });
    return wire;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  cut(): void {
    this.#isCut = true;
  }

  mend(): void {
    this.#isCut = false;
  }

  /** Of all that goes through, either way. */
  slow(delayMs: number): void {
    this.#delayMs = delayMs;
  }
}
