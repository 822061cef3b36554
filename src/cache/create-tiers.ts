/** Puts the tiers below the device together: host memory, and the disk and the remote tier where there are. */
import { randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';
import type { Logger } from 'pino';
import { z } from 'zod';
import {
  type Checksum,
  ChunkCipher,
  type ChunkIdentity,
  type Clock,
  type CodecName,
  createChecksum,
  DiskStore,
  HostStore,
  type KvLayout,
  parseRemoteAddress,
  RemoteStore,
  type RemoteWritePolicy,
  redisConnector,
  shownAddress,
  suitsLayout,
  TieredStore,
  type TlsFiles,
} from '#storage';
import { machineArithmetic } from '../config/machine.js';
import type { DiskCodecOption, ServeOptions } from '../config/options.js';
import { RadixkvError } from '../errors.js';
import { BreakEven } from './break-even.js';
import type { CacheEvents } from './cache-events.js';
import { ChunkLives } from './chunk-lives.js';
import { ownerOf } from './namespace-owner.js';
import { PrefixCache } from './prefix-cache.js';
import { type RemoteDeadline, RemotePulls } from './remote-pulls.js';
import { DEFAULT_SEGMENT_SHARE, segmentShares } from './segment-namespace.js';
import { Tiers } from './tiers.js';

export interface DiskOptions {
  readonly directory: string;
  /** Of the whole directory. */
  readonly capacityBytes: number;
  /** To be left free on the volume. */
  readonly freeBytesMin: number;
  readonly codec: DiskCodecOption;
  /** 32 bytes; absent: chunks are not encrypted. */
  readonly encryptionKey?: Buffer;
}

export interface RemoteOptions {
  /** See `parseRemoteAddress`. */
  readonly url: string;
  readonly tls: TlsFiles;
  readonly ttlMs: number;
  /** Of a tenant, within a TTL; 0: no limit. */
  readonly namespaceBytes: number;
  readonly deadline: RemoteDeadline;
  readonly writePolicy: RemoteWritePolicy;
  /** Of chunks that wait to be written. */
  readonly queueBytesMax: number;
  readonly codec: DiskCodecOption;
  /** 32 bytes; absent: chunks are not encrypted. */
  readonly encryptionKey?: Buffer;
}

export type TierOptions = Pick<
  ServeOptions,
  'hostBytes' | 'writePolicy' | 'writeHits' | 'eviction' | 'breakEven'
> & {
  /** What passages are sure of in each tier, 0 to 1; the rest is for whole prompts. Default 0.5. */
  readonly segmentShare?: number;
  /** Absent: nothing outlives the process. */
  readonly disk?: DiskOptions;
  /** Absent: nothing is shared with other nodes. */
  readonly remoteTier?: RemoteOptions;
  readonly logger?: Logger;
};

const require = createRequire(import.meta.url);

const CLOCK: Clock = { now: () => Date.now() };
const NOW = () => performance.now();

/**
 * The tiers below the device, the disk opening and the remote tier connecting in the background; undefined when host
 * memory holds not even one chunk.
 *
 * @throws RadixkvError `invalid_value` for a codec that does not suit the model.
 */
export async function createTiers(
  options: TierOptions,
  model: {
    readonly layout: KvLayout;
    /** `cacheFingerprint` */
    readonly fingerprint: string;
    readonly breakEven: BreakEven;
    readonly events: CacheEvents;
  },
): Promise<Tiers | undefined> {
  const { layout, fingerprint, breakEven, events } = model;
  if (options.hostBytes < layout.chunkBytes) return undefined;
  const checksum = await createChecksum();
  const shares = segmentShares(options.segmentShare ?? DEFAULT_SEGMENT_SHARE);
  const common = { clock: CLOCK, policy: options.eviction, shares, ownerOf };
  const remote =
    options.remoteTier &&
    createRemote(options, options.remoteTier, {
      layout,
      fingerprint,
      checksum,
      events,
      // Not before there is something to write, and so the tree that names it.
      onStored: (chunk) => prefixes.storedRemotely(chunk),
    });
  let store: TieredStore | undefined;
  let disk: DiskStore | undefined;
  const prefixes: PrefixCache = new PrefixCache({
    layout,
    fingerprint,
    events,
    lives: new ChunkLives({ clock: CLOCK }),
    store: ({ evict, tierEvict, tierCopy, loaded }) => {
      const { chunkBytes, chunkTokens } = layout;
      const capacityBytes = options.hostBytes;
      store = new TieredStore({
        host: (onEvict) => new HostStore({ ...common, chunkBytes, capacityBytes, checksum, onEvict }),
        ...(options.disk && {
          disk: (onEvict) => {
            disk = DiskStore.open({
              ...common,
              ...options.disk!,
              codec: codecFor(options.disk!.codec, layout, '--disk-codec'),
              layout,
              fingerprint,
              stopwatch: NOW,
              onEvict,
              onLoaded: loaded,
            });
            return disk;
          },
        }),
        ...(remote && { remote: (host) => remote.store.writeFrom(host) }),
        writePolicy: options.writePolicy,
        writeHits: options.writeHits,
        isWorthWriting: () => breakEven.isWorth(chunkBytes, chunkTokens),
        onEvict: evict,
        onTierEvict: tierEvict,
        onTierCopy: tierCopy,
      });
      return store;
    },
  });
  const isMeasured = options.breakEven === 'auto';
  disk?.opened.catch((error: unknown) =>
    options.logger?.error({ err: error }, 'the disk tier can not be used'),
  );
  const parts = { prefixes, store: store!, disk, layout, breakEven, isMeasured };
  if (remote === undefined) return new Tiers(parts);
  const { deadline } = options.remoteTier!;
  return new Tiers({
    ...parts,
    remote: remote.store,
    pulls: new RemotePulls({ ...remote, deadline, prefixes, layout, now: NOW }),
  });
}

/** @throws RadixkvError `invalid_value` for a URL or a codec that can't be used. */
function createRemote(
  { breakEven: mode, writeHits, logger }: TierOptions,
  options: RemoteOptions,
  model: {
    readonly layout: KvLayout;
    readonly fingerprint: string;
    readonly checksum: Checksum;
    readonly events: CacheEvents;
    /** The tier has a chunk of host memory now. */
    readonly onStored: (chunk: ChunkIdentity) => void;
  },
) {
  const address = parseRemoteAddress(options.url);
  if (address === undefined) {
    throw new RadixkvError('invalid_value', '--remote is no URL of a Redis or Valkey', { param: '--remote' });
  }
  const { layout, fingerprint, checksum, events, onStored } = model;
  const { encryptionKey, url: _url, deadline: _deadline, tls, codec, ...rest } = options;
  const breakEven = new BreakEven(mode);
  const remote = shownAddress(address);
  const store = new RemoteStore({
    ...rest,
    connect: redisConnector(address, tls),
    canMove: address.kind !== 'single',
    // Another kind of machine rounds otherwise, and a hit must equal a miss bit for bit.
    fingerprint: `${fingerprint} ${machineArithmetic()}`,
    layout,
    checksum,
    codec: codecFor(codec, layout, '--remote-codec'),
    ...(encryptionKey && { cipher: new ChunkCipher(encryptionKey, randomBytes) }),
    clock: CLOCK,
    stopwatch: NOW,
    writeHits,
    ownerOf,
    onStored,
    onProbed: (bytes, ms) => breakEven.loaded(bytes, ms),
    onState: (state, reason) => {
      events.emit({ type: 'remote', state, reason });
      if (state === 'open') logger?.warn({ remote, reason }, 'the remote tier is not used for now');
      if (state === 'closed') logger?.info({ remote }, 'the remote tier is used');
    },
  });
  return { breakEven, store };
}

/**
 * What stands for a model in the keys of its chunks: its own fingerprint, and the release of ONNX Runtime, since
 * another one may round otherwise; likewise another device.
 *
 * @param device what else than the CPU computes it: `deviceFingerprint`
 */
export function cacheFingerprint(modelFingerprint: string, device?: string): string {
  const { version } = z.object({ version: z.string() }).parse(require('onnxruntime-node/package.json'));
  return `${modelFingerprint} onnxruntime ${version}${device === undefined ? '' : ` ${device}`}`;
}

function codecFor(option: DiskCodecOption, layout: KvLayout, param: string): CodecName {
  const codec = option === 'auto' ? layout.dtype : option;
  if (suitsLayout(codec, layout)) return codec;
  const message = `${param} ${codec} gains nothing: this model's KV is ${layout.dtype}`;
  throw new RadixkvError('invalid_value', message, { param });
}
