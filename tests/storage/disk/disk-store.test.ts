/** DiskStore: the contract of every tier, on a thread and without one; then what only a tier that outlives its process does. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { createChecksum, kvLayout } from '#storage';
import { ChunkFormat } from '../../../storage/disk/chunk-format.js';
import { fileBytesOf } from '../../../storage/disk/chunk-head.js';
import { chargedBytes, DIRECTORY_BYTES } from '../../../storage/disk/disk-budget.js';
import { DiskStore, type DiskStoreOptions } from '../../../storage/disk/disk-store.js';
import { nodeFileSystem } from '../../../storage/disk/file-system.js';
import { LocalBackend } from '../../../storage/disk/local-backend.js';
import { CHUNK_BYTES, chunk, chunkStoreContract, type StoreRequest } from '../chunk-store.contract.js';

const checksum = await createChecksum();
const root = mkdtempSync(join(tmpdir(), 'radixkv-disk-'));
after(() => rmSync(root, { recursive: true }));
let directories = 0;

const layout = kvLayout({ layers: 1, kvHeads: 1, headDim: 8, chunkTokens: 2, dtype: 'float16' });
assert.equal(layout.chunkBytes, CHUNK_BYTES);
const storedBytes = chargedBytes(fileBytesOf(chunk(0), CHUNK_BYTES));

function optionsFor({ chunks, onEvict, clock }: StoreRequest): DiskStoreOptions {
  return {
    layout,
    onEvict,
    clock,
    fingerprint: 'test',
    codec: 'float16',
    freeBytesMin: 0,
    stopwatch: () => 0,
    directory: join(root, `${directories++}`),
    capacityBytes: DIRECTORY_BYTES + chunks * storedBytes,
  };
}

/** The directory on this thread. */
function onThisThread(options: DiskStoreOptions): DiskStoreOptions {
  const { fingerprint, codec, directory } = options;
  const format = new ChunkFormat({ fingerprint, layout, codec, checksum });
  return {
    ...options,
    openBackend: (how) => LocalBackend.open({ ...how, fileSystem: nodeFileSystem, directory, format }),
  };
}

function damage(directory: string, key: string): void {
  const path = join(directory, 'chunks', key.slice(0, 2), `${key}.kv`);
  const bytes = readFileSync(path);
  bytes[bytes.byteLength - 1]! ^= 0b100;
  writeFileSync(path, bytes);
}

for (const [name, having] of Object.entries({
  DiskStore: (options: DiskStoreOptions) => options,
  'DiskStore on one thread': onThisThread,
})) {
  chunkStoreContract(name, {
    create: async (request) => {
      const options = having(optionsFor(request));
      const store = DiskStore.open(options);
      await store.opened;
      return { store, storedBytes, damage: (key) => damage(options.directory, key) };
    },
    createOpening: (request) => DiskStore.open(having(optionsFor(request))),
  });
}
