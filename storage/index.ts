/** Where the bytes of KV chunks are kept, under which names and in which format. See store.ts and host-store.ts. */

export { ArchiveCheck } from './archive/archive-check.js';
export {
  type ArchivedChunk,
  ArchiveError,
  type ArchiveFault,
  type ArchiveLimits,
} from './archive/archive-format.js';
export { ArchiveReader } from './archive/archive-reader.js';
export { writeArchive } from './archive/write-archive.js';
export { type Checksum, createChecksum } from './checksum.js';
export type { Clock } from './clock.js';
export { CODEC_NAMES, type CodecName, codecsOf, suitsLayout } from './codec.js';
export { ChunkCipher, CIPHER_KEY_BYTES, SEAL_BYTES } from './disk/chunk-cipher.js';
export { guardDatabase, openDatabase, openOrBeginAnew } from './disk/database.js';
export { DIRECTORY_BYTES } from './disk/disk-budget.js';
export { DiskError, type DiskErrorCode } from './disk/disk-error.js';
export { DiskStore, type DiskStoreOptions } from './disk/disk-store.js';
export { FOREIGN_OWNER } from './disk/disk-take-in.js';
export { widenHalves } from './float16.js';
export { HostStore, type HostStoreOptions } from './host-store.js';
export { type ChunkKey, chunkKey } from './key.js';
export { type KvLayout, type KvShape, kvLayout } from './layout.js';
export type { LoadOutcome, LowerStore } from './lower-store.js';
export { DEFAULT_POLICY, POLICY_NAMES, type PolicyName } from './policy/index.js';
export type { BreakerState } from './remote/breaker.js';
export { redisConnector, type TlsFiles } from './remote/redis-link.js';
export { parseRemoteAddress, type RemoteAddress, shownAddress } from './remote/remote-address.js';
export type { RemoteOperation } from './remote/remote-counters.js';
export { RemoteStore } from './remote/remote-store.js';
export { REMOTE_WRITE_POLICIES, type RemoteWritePolicy } from './remote/remote-writer.js';
export type { OwnerHolding } from './resident-owner.js';
export type { ClassHolding, Shares } from './shares.js';
export { type Slab, slotBytes } from './slab.js';
export {
  type ChunkIdentity,
  type ChunkLife,
  type ChunkStore,
  type EvictReason,
  isEviction,
  type OnEvict,
  type PinOutcome,
  type ReadOutcome,
  type Retention,
  type WriteOutcome,
} from './store.js';
export {
  type Holding,
  type TieredOptions,
  TieredStore,
  type TierName,
  WRITE_POLICIES,
  type WritePolicy,
} from './tiered-store.js';
