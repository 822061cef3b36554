/**
 * HAProxy as a process of its own, with the configuration that `docker/` ships, before nodes of a test or a benchmark.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { freePort } from '../free-port.js';

const CONFIGURATION = fileURLToPath(new URL('../../../docker/haproxy/haproxy.cfg', import.meta.url));
const PLACES = ['/usr/sbin/haproxy', '/usr/local/sbin/haproxy', '/opt/homebrew/bin/haproxy'];

/** HAProxy of this machine; undefined where there is none. */
export const HAPROXY = PLACES.find((path) => existsSync(path));

/** `prefix` is what ships; `round-robin` differs from it by the line that chooses a node. */
export type Balance = 'prefix' | 'round-robin';

/** Between two looks at what it says of its nodes, and how long it may take to say it. */
const POLL_MS = 50;
const SETTLE_TIMEOUT_MS = 60_000;

export class ProxyProcess {
  readonly url: string;
  readonly #metricsUrl: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  #complaint = '';

  private constructor(child: ChildProcess, ports: { readonly api: number; readonly metrics: number }) {
    this.url = `http://127.0.0.1:${ports.api}`;
    this.#metricsUrl = `http://127.0.0.1:${ports.metrics}/metrics`;
    this.#child = child;
    this.#exited = once(child, 'exit');
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#complaint += text;
    });
  }

  /**
   * Starts it and waits until it holds all nodes for ready.
   *
   * @param options.nodes Their addresses, `http://host:port`
   * @param options.directory For the configuration, which is removed by whoever made the directory.
   */
  static async start(options: {
    readonly nodes: readonly string[];
    readonly balance: Balance;
    readonly directory: string;
  }): Promise<ProxyProcess> {
    const { nodes, balance, directory } = options;
    const path = join(directory, `haproxy-${balance}.cfg`);
    await writeFile(path, configuration(balance));
    const ports = { api: await freePort(), metrics: await freePort() };
    const env = {
      RADIXKV_PROXY_BIND: `127.0.0.1:${ports.api}`,
      RADIXKV_PROXY_STATS_BIND: `127.0.0.1:${ports.metrics}`,
      RADIXKV_PROXY_SLOWSTART: '1s',
      ...Object.fromEntries(nodes.map((url, i) => [`RADIXKV_NODE_${i + 1}`, new URL(url).host])),
    };
    assert(HAPROXY !== undefined, 'HAProxy is not installed');
    // -db: in the foreground, one process.
    const child = spawn(HAPROXY, ['-db', '-f', path], { env, stdio: ['ignore', 'ignore', 'pipe'] });
    const proxy = new ProxyProcess(child, ports);
    await proxy.settled(nodes.length);
    return proxy;
  }

  /** Waits until `count` nodes are ready for it. @throws Error when it ends, or after a minute */
  async settled(count: number): Promise<void> {
    for (let waitedMs = 0; waitedMs < SETTLE_TIMEOUT_MS; waitedMs += POLL_MS) {
      if (this.#child.exitCode !== null) break;
      if ((await this.#readyNodes()) === count) return;
      await sleep(POLL_MS);
    }
    throw new Error(`the proxy does not see ${count} nodes: ${this.#complaint}`);
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGTERM');
    await this.#exited;
  }

  async #readyNodes(): Promise<number> {
    const response = await fetch(this.#metricsUrl).catch(() => undefined);
    const text = (await response?.text()) ?? '';
    return text.match(/^haproxy_server_check_status\{.*state="L7OK"\} 1$/gm)?.length ?? 0;
  }
}

function configuration(balance: Balance): string {
  const shipped = readFileSync(CONFIGURATION, 'utf8');
  if (balance === 'prefix') return shipped;
  const dealt = shipped.replace('balance hash var(txn.route)', 'balance roundrobin');
  assert.notEqual(dealt, shipped);
  return dealt;
}
