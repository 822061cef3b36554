/** Puts the tiers below the device together: host memory, and the disk where there is one. */
import { createRequire } from 'node:module';
import type { Logger } from 'pino';
import { z } from 'zod';
import {
  type Clock,
  type CodecName,
  createChecksum,
  DiskStore,
  HostStore,
  type KvLayout,
  suitsLayout,
  TieredStore,
} from '#storage';
import type { DiskCodecOption, ServeOptions } from '../config/options.js';
import { RadixkvError } from '../errors.js';
import type { BreakEven } from './break-even.js';
import type { CacheEvents } from './cache-events.js';
import { ChunkLives } from './chunk-lives.js';
import { ownerOf } from './namespace-owner.js';
import { PrefixCache } from './prefix-cache.js';
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

export type TierOptions = Pick<
  ServeOptions,
  'hostBytes' | 'writePolicy' | 'writeHits' | 'eviction' | 'breakEven'
> & {
  /** What passages are sure of in each tier, 0 to 1; the rest is for whole prompts. Default 0.5. */
  readonly segmentShare?: number;
  /** Absent: nothing outlives the process. */
  readonly disk?: DiskOptions;
  readonly logger?: Logger;
};

const require = createRequire(import.meta.url);

const CLOCK: Clock = { now: () => Date.now() };

/**
 * The tiers below the device, the disk opening in the background; undefined when host memory holds not even one chunk.
 *
 * @throws RadixkvError `invalid_value` for a codec that does not suit the model.
 */
export async function createTiers(
  options: TierOptions,
  model: {
    readonly layout: KvLayout;
    readonly fingerprint: string;
    /** What else than the CPU computes it: `deviceFingerprint`. */
    readonly device?: string | undefined;
    readonly breakEven: BreakEven;
    readonly events: CacheEvents;
  },
): Promise<Tiers | undefined> {
  const { layout, breakEven, events } = model;
  const fingerprint = cacheFingerprint(model.fingerprint, model.device);
  if (options.hostBytes < layout.chunkBytes) return undefined;
  const checksum = await createChecksum();
  const shares = segmentShares(options.segmentShare ?? DEFAULT_SEGMENT_SHARE);
  const common = { clock: CLOCK, policy: options.eviction, shares, ownerOf };
  let store: TieredStore | undefined;
  let disk: DiskStore | undefined;
  const prefixes = new PrefixCache({
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
              codec: codecFor(options.disk!.codec, layout),
              layout,
              fingerprint,
              stopwatch: () => performance.now(),
              onEvict,
              onLoaded: loaded,
            });
            return disk;
          },
        }),
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
  return new Tiers({ prefixes, store: store!, disk, layout, breakEven, isMeasured });
}

/**
 * What stands for a model in the keys of its chunks: its own fingerprint, and the release of ONNX Runtime, since
 * another one may round otherwise; likewise another device.
 */
export function cacheFingerprint(modelFingerprint: string, device?: string): string {
  const { version } = z.object({ version: z.string() }).parse(require('onnxruntime-node/package.json'));
  return `${modelFingerprint} onnxruntime ${version}${device === undefined ? '' : ` ${device}`}`;
}

function codecFor(option: DiskCodecOption, layout: KvLayout): CodecName {
  const codec = option === 'auto' ? layout.dtype : option;
  if (suitsLayout(codec, layout)) return codec;
  const message = `--disk-codec ${codec} gains nothing: this model's KV is ${layout.dtype}`;
  throw new RadixkvError('invalid_value', message, { param: '--disk-codec' });
}
