/**
 * A disk tier's whole world in a test: files in memory, a real catalogue, a clock, faults; and what is left of it for
 * the next start, after a close, a kill or a power cut.
 */
import { randomBytes } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import {
  type ChunkIdentity,
  type ChunkKey,
  createChecksum,
  DIRECTORY_BYTES,
  DiskStore,
  type DiskStoreOptions,
} from '#storage';
import { Catalogue } from '../../../storage/disk/catalogue.js';
import { ChunkCipher } from '../../../storage/disk/chunk-cipher.js';
import { ChunkFormat } from '../../../storage/disk/chunk-format.js';
import { fileBytesOf } from '../../../storage/disk/chunk-head.js';
import { chargedBytes } from '../../../storage/disk/disk-budget.js';
import { LocalBackend } from '../../../storage/disk/local-backend.js';

import { ManualClock } from '../../support/manual-clock.js';
import { chainOf, FINGERPRINT, LAYOUT } from './chunks.js';
import { Faults, faultyCatalogue, faultyFileSystem } from './faulty-file-system.js';
import { MemoryFileSystem, type Random } from './memory-file-system.js';

const checksum = await createChecksum();
const root = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'radixkv-disk-'));
after(() => rmSync(root, { recursive: true }));
let directories = 0;

/** What a chunk of these tests counts for. */
export const STORED_BYTES = chargedBytes(fileBytesOf(chainOf(1)[0]!, LAYOUT.chunkBytes));

/** Where the chunk files seem to be. */
const DIRECTORY = '/disk';
export const pathOf = (key: ChunkKey): string => `${DIRECTORY}/chunks/${key.slice(0, 2)}/${key}.kv`;

export type WorldOptions = Partial<Omit<DiskStoreOptions, 'openBackend'>> & { readonly chunks?: number };

export class DiskWorld {
  readonly files: MemoryFileSystem;
  readonly clock = new ManualClock();
  readonly faults = new Faults();
  /** What `onLoaded` and `onEvict` said. */
  readonly told: ChunkIdentity[] = [];
  readonly evicted: (readonly [ChunkKey, string])[] = [];
  readonly lost: Error[] = [];
  readonly #directory: string;
  /** Catalogues of a process that crashed: nobody closes them for it. */
  readonly #open: Catalogue[] = [];

  constructor(files = new MemoryFileSystem(), directory = join(root, `${directories++}`)) {
    this.files = files;
    this.#directory = directory;
    mkdirSync(directory, { recursive: true });
  }

  /** Where the catalogue really is. */
  get cataloguePath(): string {
    return join(this.#directory, 'catalogue.sqlite');
  }

  /** Opens a store of `chunks` chunks; it may not be open yet. */
  open({ chunks = 100, ...options }: WorldOptions = {}): DiskStore {
    const { fingerprint = FINGERPRINT, layout = LAYOUT, codec = 'float16', encryptionKey } = options;
    const cipher = encryptionKey && new ChunkCipher(encryptionKey, randomBytes);
    const format = new ChunkFormat({ fingerprint, layout, codec, checksum, cipher });
    return DiskStore.open({
      directory: DIRECTORY,
      fingerprint,
      layout,
      codec,
      capacityBytes: DIRECTORY_BYTES + chunks * STORED_BYTES,
      freeBytesMin: 0,
      clock: this.clock,
      stopwatch: () => 0,
      onLoaded: (loaded) => this.told.push(...loaded),
      onEvict: (key, reason) => this.evicted.push([key, reason]),
      onLost: (error) => this.lost.push(error),
      ...options,
      openBackend: (how) =>
        LocalBackend.open({
          ...how,
          format,
          directory: DIRECTORY,
          fileSystem: faultyFileSystem(this.files, this.faults),
          catalogue: {
            open: (owner) => {
              const catalogue = Catalogue.open(this.cataloguePath, owner);
              this.#open.push(catalogue);
              return faultyCatalogue(catalogue, this.faults);
            },
            setAside: () => Catalogue.setAside(this.cataloguePath),
          },
        }),
    });
  }

  /** An open store. */
  async opened(options?: WorldOptions): Promise<DiskStore> {
    const store = this.open(options);
    await store.opened;
    return store;
  }

  /** What the next process finds after this one was killed. */
  async afterKill(): Promise<DiskWorld> {
    return this.#next(await this.files.afterKill());
  }

  /** What the next process may find after a power cut: the log of the catalogue ends somewhere. */
  async afterPowerCut(random: Random): Promise<DiskWorld> {
    const next = this.#next(await this.files.afterPowerCut(random));
    const log = `${next.cataloguePath}-wal`;
    if (existsSync(log)) truncateSync(log, Math.floor(random() * (statSync(log).size + 1)));
    return next;
  }

  /** Lets go of what a crashed process had open. */
  dispose(): void {
    for (const catalogue of this.#open) catalogue.close();
    rmSync(this.#directory, { recursive: true });
  }

  #next(files: MemoryFileSystem): DiskWorld {
    const next = new DiskWorld(files);
    for (const suffix of ['', '-wal']) {
      const from = `${this.cataloguePath}${suffix}`;
      if (existsSync(from)) copyFileSync(from, `${next.cataloguePath}${suffix}`);
    }
    next.clock.nowMs = this.clock.nowMs;
    return next;
  }
}
