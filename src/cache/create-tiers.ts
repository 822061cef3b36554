/** Puts the tiers below the device together: host memory, and the disk where there is one. */
import { createRequire } from 'node:module';
import type { Logger } from 'pino';
import { z } from 'zod';
import {
  type Clock,
  type CodecName,
  createChecksum,
  DiskError,
  DiskStore,
  HostStore,
  type KvLayout,
  suitsLayout,
  TieredStore,
} from '#storage';
import type { DiskCodecOption, ServeOptions } from '../config/options.js';
import { RadixkvError } from '../errors.js';
import type { BreakEven } from './break-even.js';
import { PrefixCache } from './prefix-cache.js';
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
  /** Absent: nothing outlives the process. */
  readonly disk?: DiskOptions;
  readonly logger?: Logger;
};

const require = createRequire(import.meta.url);

const CLOCK: Clock = { now: () => Date.now() };

/** How long a start waits for the disk tier, which goes on to open beside the server. */
const OPEN_WAIT_MS = 1000;

/**
 * The tiers below the device; undefined when host memory holds not even one chunk.
 *
 * @throws RadixkvError `invalid_value` when the disk tier's directory can't be used.
 */
export async function createTiers(
  options: TierOptions,
  model: { readonly layout: KvLayout; readonly fingerprint: string; readonly breakEven: BreakEven },
): Promise<Tiers | undefined> {
  const { layout, breakEven } = model;
  const fingerprint = cacheFingerprint(model.fingerprint);
  if (options.hostBytes < layout.chunkBytes) return undefined;
  const checksum = await createChecksum();
  const common = { clock: CLOCK, policy: options.eviction };
  let store: TieredStore | undefined;
  let disk: DiskStore | undefined;
  const prefixes = new PrefixCache({
    layout,
    fingerprint,
    store: ({ evict, tierEvict, loaded }) => {
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
      });
      return store;
    },
  });
  const isMeasured = options.breakEven === 'auto';
  const tiers = new Tiers({ prefixes, store: store!, disk, layout, breakEven, isMeasured });
  if (disk !== undefined) await opening(disk, tiers, options);
  return tiers;
}

/** Waits a moment for the disk tier, so that a directory that can't be used is refused at the start. */
async function opening(disk: DiskStore, tiers: Tiers, { disk: options, logger }: TierOptions): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const moment = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, OPEN_WAIT_MS);
  });
  disk.opened.catch((error: unknown) => logger?.error({ error }, 'the disk tier can not be used'));
  try {
    await Promise.race([disk.opened, moment]);
  } catch (cause) {
    await tiers.close();
    if (!(cause instanceof DiskError)) throw cause;
    const message = `--disk-dir ${options!.directory} can't be used: ${cause.message}`;
    throw new RadixkvError('invalid_value', message, { param: '--disk-dir', cause });
  } finally {
    clearTimeout(timer);
  }
}

/**
 * What stands for a model in the keys of its chunks: its own fingerprint, and the release of ONNX Runtime, since
 * another one may round otherwise.
 */
export function cacheFingerprint(modelFingerprint: string): string {
  const { version } = z.object({ version: z.string() }).parse(require('onnxruntime-node/package.json'));
  return `${modelFingerprint} onnxruntime ${version}`;
}

function codecFor(option: DiskCodecOption, layout: KvLayout): CodecName {
  const codec = option === 'auto' ? layout.dtype : option;
  if (suitsLayout(codec, layout)) return codec;
  const message = `--disk-codec ${codec} gains nothing: this model's KV is ${layout.dtype}`;
  throw new RadixkvError('invalid_value', message, { param: '--disk-codec' });
}
