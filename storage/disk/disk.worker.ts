/**
 * The disk's thread: owns the directory, and answers requests as they are done. See disk-protocol.ts.
 *
 * The real file system and real randomness come in here. It ends when it was closed; when its catalogue breaks it
 * says so and waits to be closed; when anything else goes wrong it dies, and the store starts another.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { createChecksum } from '../checksum.js';
import type { LoadedChunk } from './backend.js';
import { ChunkCipher } from './chunk-cipher.js';
import { ChunkFormat } from './chunk-format.js';
import { DiskError } from './disk-error.js';
import type { DiskThreadOptions, FromDisk, ToDisk } from './disk-protocol.js';
import { nodeFileSystem } from './file-system.js';
import { LocalBackend } from './local-backend.js';
import { packChunks } from './packed-chunks.js';

assert(parentPort !== null, 'this file runs as a worker');
const port = parentPort;
const options: DiskThreadOptions = workerData;

const post = (message: FromDisk, transfer: ArrayBuffer[] = []): void => port.postMessage(message, transfer);

async function open(): Promise<LocalBackend> {
  const { directory, fingerprint, layout, codec, encryptionKey, isCatalogueLost } = options;
  const cipher = encryptionKey && new ChunkCipher(encryptionKey, randomBytes);
  const format = new ChunkFormat({ fingerprint, layout, codec, checksum: await createChecksum(), cipher });
  return LocalBackend.open({
    fileSystem: nodeFileSystem,
    directory,
    format,
    isCatalogueLost,
    onLost: fail,
    onTrouble: () => post({ type: 'trouble' }),
  });
}

function found(chunks: readonly LoadedChunk[]): void {
  const packed = packChunks(chunks);
  const { namespaceOf, tokens, numbers } = packed;
  post({ type: 'found', chunks: packed }, [namespaceOf.buffer, tokens.buffer, numbers.buffer]);
}

async function handle(backend: LocalBackend, message: ToDisk): Promise<void> {
  switch (message.op) {
    case 'load':
      post({ type: 'loaded', report: await backend.load(found) });
      break;
    case 'read':
      post({ type: 'answer', id: message.id, answer: await backend.read(message.key, message.into) });
      break;
    case 'write':
      post({ type: 'answer', id: message.id, answer: await backend.write(message.request) });
      break;
    case 'freeBytes':
      post({ type: 'answer', id: message.id, answer: await backend.freeBytes() });
      break;
    case 'remove':
      backend.remove(message.keys);
      break;
    case 'use':
      backend.use(message.uses);
      break;
    case 'close':
      await backend.close();
      port.close();
      break;
  }
}

/** Ends the thread, unless the directory itself is what went wrong: then the store is told, and closes it. */
function fail(error: unknown): void {
  if (!(error instanceof DiskError)) throw error;
  post({ type: 'lost', code: error.code, message: error.message });
}

try {
  const backend = await open();
  port.on('message', (message: ToDisk) => {
    handle(backend, message).catch(fail);
  });
  post({ type: 'opened' });
} catch (error) {
  if (!(error instanceof DiskError)) throw error;
  post({ type: 'refused', code: error.code, message: error.message });
}
