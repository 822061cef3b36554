/** The whole service over the tiny model with a remote tier: nodes that share a Redis. */

import { type Scope, until } from '../../bench/redis-server.js';
import type { RemoteOptions } from '../../src/cache/create-tiers.js';
import type { BackendOptions } from '../../src/server.js';
import { type TestBackend, testBackend } from './backend.js';

/** Deadlines that a busy machine keeps to; everything that is computed is written. */
export function remoteAt(url: string, options: Partial<RemoteOptions> = {}): RemoteOptions {
  return {
    url,
    tls: {},
    ttlMs: 3_600_000,
    namespaceBytes: 0,
    deadline: { msMin: 20_000, msMax: 20_000 },
    writePolicy: 'write-through',
    queueBytesMax: 64 << 20,
    codec: 'auto',
    ...options,
  };
}

/** A node that is connected. */
export async function node(
  t: Scope,
  remoteTier: RemoteOptions,
  options: Partial<BackendOptions> = {},
): Promise<TestBackend> {
  const backend = await testBackend(t, { ...options, remoteTier });
  await until(() => remoteOf(backend).state === 'closed', 'the node is connected');
  return backend;
}

export function remoteOf(backend: TestBackend) {
  const { remote } = backend.statistics.gauges();
  if (remote === undefined) throw new Error('there is no remote tier');
  return remote;
}

/** Until all that was computed is written, or given up. */
export async function written(backend: TestBackend): Promise<void> {
  await backend.scheduler.idle();
  await until(() => remoteOf(backend).queuedChunks === 0, 'everything is written');
}
