/**
 * Messages between the store's thread and the disk's.
 *
 * The disk's thread opens its directory as soon as it runs and says `opened` or `refused`. On `load` it tells all
 * chunks in `found` and ends with `loaded`, or `lost`. Then it takes requests, several at a time; the answer of one
 * that has an id carries it. KV bytes are never in a message: views into shared memory are.
 */
import type { CodecName } from '../codec.js';
import type { ChunkKey } from '../key.js';
import type { KvLayout } from '../layout.js';
import type { LoadReport, ReadResult, WriteRequest, WriteResult } from './backend.js';
import type { UsageOf } from './catalogue.js';
import type { DiskErrorCode } from './disk-error.js';
import type { PackedChunks } from './packed-chunks.js';

export interface DiskThreadOptions {
  readonly directory: string;
  readonly fingerprint: string;
  readonly layout: KvLayout;
  readonly codec: CodecName;
  /** 32 bytes; undefined: no encryption. */
  readonly encryptionKey: Uint8Array | undefined;
  readonly isCatalogueLost: boolean;
}

export type ToDisk =
  | { readonly op: 'load' }
  | { readonly op: 'read'; readonly id: number; readonly key: ChunkKey; readonly into: Uint8Array }
  | { readonly op: 'write'; readonly id: number; readonly request: WriteRequest }
  | { readonly op: 'freeBytes'; readonly id: number }
  | { readonly op: 'remove'; readonly keys: readonly ChunkKey[] }
  | { readonly op: 'use'; readonly uses: readonly UsageOf[] }
  | { readonly op: 'close' };

export type DiskAnswer = ReadResult | WriteResult | number | undefined;

export type FromDisk =
  | { readonly type: 'opened' }
  | { readonly type: 'refused' | 'lost'; readonly code: DiskErrorCode; readonly message: string }
  | { readonly type: 'found'; readonly chunks: PackedChunks }
  | { readonly type: 'loaded'; readonly report: LoadReport }
  | { readonly type: 'trouble' }
  | { readonly type: 'answer'; readonly id: number; readonly answer: DiskAnswer };
