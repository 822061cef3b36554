/**
 * A server for whoever tries everything: the tiny model with a short context, every part of the API, streams that end by
 * themselves, and counts of what was answered.
 */
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import express from 'express';
import { createApp } from '../../src/api/app.js';
import { type RunningServer, startServer } from '../../src/api/server.js';
import { importModel } from '../../src/model/importer.js';
import { TINY_MODEL, testBackend } from './backend.js';

/** So that an answer without a limit is a short one. */
const CONTEXT_TOKENS = 512;
/** A stream of events without an end is ended, or a client that reads to the end would wait for ever. */
const STREAM_MS = 50;

export interface FuzzedServer extends RunningServer {
  /** Requests by `GET /path 200`, the path as the router has it. */
  readonly answered: ReadonlyMap<string, number>;
}

type Hooks = { after(hook: () => Promise<unknown>): void };

async function shortModel(directory: string): Promise<string> {
  const source = join(directory, 'source');
  await cp(TINY_MODEL, source, { recursive: true });
  const file = join(source, 'config.json');
  const config = JSON.parse(await readFile(file, 'utf8'));
  await writeFile(file, JSON.stringify({ ...config, max_position_embeddings: CONTEXT_TOKENS }));
  const model = join(directory, 'model');
  await mkdir(model);
  await importModel({ path: source, directory: model, weights: 'float32' });
  return model;
}

/** Closed after the test. */
export async function fuzzedServer(t: Hooks): Promise<FuzzedServer> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-fuzzed-'));
  const closing: (() => Promise<unknown>)[] = [];
  t.after(async () => {
    for (const close of closing.toReversed()) await close();
    await rm(directory, { recursive: true });
  });
  const { service, statistics, history, controls, documents } = await testBackend(
    { after: (hook) => closing.push(hook) },
    {
      modelDirectory: await shortModel(directory),
      documentsFile: join(directory, 'documents.db'),
      disk: { directory: join(directory, 'kv'), capacityBytes: 2 ** 24, freeBytesMin: 0, codec: 'float16' },
      tpotTargetMs: 250,
    },
  );
  const answered = new Map<string, number>();
  const app = express();
  app.use((req, res, next) => {
    res.once('finish', () => {
      const route = `${req.method} ${String(req.route?.path ?? 'elsewhere')} ${res.statusCode}`;
      answered.set(route, (answered.get(route) ?? 0) + 1);
    });
    if (req.path === '/v1/cache/events') setTimeout(() => res.end(), STREAM_MS);
    next();
  });
  app.use(createApp({ service, statistics, history, controls, documents: documents! }));
  const server = await startServer({
    app,
    host: '127.0.0.1',
    port: 0,
    shutdownTimeoutMs: 1000,
    onShutdown: () => controls.events.close(),
  });
  closing.push(() => server.close());
  return { ...server, answered };
}
