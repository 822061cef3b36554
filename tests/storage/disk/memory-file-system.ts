/**
 * Files in memory, as a power cut or a dying process leaves them.
 *
 * What was written but not synced may be lost or torn; a name that was made, changed or taken away may be as it was
 * before, in the order in which the folder's names changed, until the folder is synced. `survivors` draws one of the
 * outcomes that are possible.
 */
import type { FileSystem, NewFile } from '../../../storage/disk/file-system.js';

/** A number in [0, 1), repeatable. */
export type Random = () => number;

/** Mulberry32: small, seeded, good enough to choose faults by. */
export function randomOf(seed: number): Random {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

interface Inode {
  bytes: Buffer;
  /** What is durable of it; undefined: it was never synced. */
  durable: Buffer | undefined;
}

/** A change of names in a folder that is not durable yet; undefined: the name was taken away. */
interface NameChange {
  readonly path: string;
  readonly inode: Inode | undefined;
}

export function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: injected`), { code });
}

const folderOf = (path: string): string => path.slice(0, path.lastIndexOf('/'));
const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

export class MemoryFileSystem implements FileSystem {
  /** With the names in each. */
  readonly #folders = new Map<string, Set<string>>();
  readonly #names = new Map<string, Inode>();
  readonly #durableNames = new Map<string, Inode>();
  readonly #changes = new Map<string, NameChange[]>();
  /** Of the volume. */
  free = 1e12;
  /** A bit that comes flipped out of every read. */
  flipInReads: number | undefined;

  async makeDirectory(path: string): Promise<void> {
    if (this.#folders.has(path)) return;
    this.#folders.set(path, new Set());
    if (path === '') return;
    await this.makeDirectory(folderOf(path));
    this.#folders.get(folderOf(path))!.add(nameOf(path));
  }

  async list(path: string): Promise<string[]> {
    const names = this.#folders.get(path);
    if (names === undefined) throw systemError('ENOENT');
    return [...names].flatMap((name) => {
      const inside = this.#folders.get(`${path}/${name}`) ?? [];
      return [name, ...Array.from(inside, (inner) => `${name}/${inner}`)];
    });
  }

  async create(path: string): Promise<NewFile> {
    if (!this.#folders.has(folderOf(path))) throw systemError('ENOENT');
    const inode: Inode = { bytes: Buffer.alloc(0), durable: undefined };
    this.#rename(path, inode);
    return {
      write: async (parts) => {
        const added = Buffer.concat(parts);
        inode.bytes = Buffer.concat([inode.bytes, added]);
        return added.byteLength;
      },
      sync: async () => {
        inode.durable = inode.bytes;
      },
      close: async () => {},
    };
  }

  async read(path: string, parts: readonly Uint8Array[]): Promise<number> {
    const { bytes } = this.#get(path);
    let start = 0;
    const seen = this.flipInReads === undefined ? bytes : withFlipped(bytes, this.flipInReads);
    for (const part of parts) start += seen.copy(part, 0, start);
    return start;
  }

  async sizeBytes(path: string): Promise<number> {
    return this.#get(path).bytes.byteLength;
  }

  async rename(from: string, to: string): Promise<void> {
    this.#rename(to, this.#get(from));
    this.#rename(from, undefined);
  }

  async unlink(path: string): Promise<void> {
    this.#get(path);
    this.#rename(path, undefined);
  }

  async syncDirectory(path: string): Promise<void> {
    for (const change of this.#changes.get(path) ?? []) apply(this.#durableNames, change);
    this.#changes.delete(path);
  }

  async freeBytes(): Promise<number> {
    return this.free;
  }

  /** Paths of all files. */
  paths(): string[] {
    return [...this.#names.keys()];
  }

  flipBit(path: string, bit: number): void {
    const inode = this.#get(path);
    inode.bytes = withFlipped(inode.bytes, bit);
  }

  append(path: string, bytes: Buffer): void {
    const inode = this.#get(path);
    inode.bytes = Buffer.concat([inode.bytes, bytes]);
  }

  copy(from: string, to: string): void {
    this.#get(to).bytes = this.#get(from).bytes;
  }

  truncate(path: string, length: number): void {
    const inode = this.#get(path);
    inode.bytes = inode.bytes.subarray(0, length);
  }

  /** What is left after the process was killed: everything. */
  async afterKill(): Promise<MemoryFileSystem> {
    const left = await this.#withFolders();
    for (const [path, { bytes }] of this.#names) left.#put(path, bytes);
    return left;
  }

  /** What may be left after a power cut. */
  async afterPowerCut(random: Random): Promise<MemoryFileSystem> {
    const left = await this.#withFolders();
    const names = new Map(this.#durableNames);
    for (const changes of this.#changes.values()) {
      const kept = Math.floor(random() * (changes.length + 1));
      for (const change of changes.slice(0, kept)) apply(names, change);
    }
    for (const [path, inode] of names) left.#put(path, torn(inode, random));
    return left;
  }

  async #withFolders(): Promise<MemoryFileSystem> {
    const other = new MemoryFileSystem();
    for (const folder of this.#folders.keys()) await other.makeDirectory(folder);
    other.free = this.free;
    return other;
  }

  #put(path: string, bytes: Buffer): void {
    const change = { path, inode: { bytes, durable: bytes } };
    this.#show(change);
    apply(this.#durableNames, change);
  }

  #get(path: string): Inode {
    const inode = this.#names.get(path);
    if (inode === undefined) throw systemError('ENOENT');
    return inode;
  }

  #rename(path: string, inode: Inode | undefined): void {
    const change = { path, inode };
    this.#show(change);
    const changes = this.#changes.get(folderOf(path));
    if (changes === undefined) this.#changes.set(folderOf(path), [change]);
    else changes.push(change);
  }

  #show(change: NameChange): void {
    apply(this.#names, change);
    const names = this.#folders.get(folderOf(change.path))!;
    if (change.inode === undefined) names.delete(nameOf(change.path));
    else names.add(nameOf(change.path));
  }
}

function apply(names: Map<string, Inode>, { path, inode }: NameChange): void {
  if (inode === undefined) names.delete(path);
  else names.set(path, inode);
}

function withFlipped(bytes: Buffer, bit: number): Buffer {
  const flipped = Buffer.from(bytes);
  flipped[bit >> 3]! ^= 1 << (bit & 7);
  return flipped;
}

/** The bytes of a file after a power cut: as synced last, or any part of what was written since, or zeros for it. */
function torn({ bytes, durable }: Inode, random: Random): Buffer {
  if (durable?.equals(bytes)) return bytes;
  const from = durable?.byteLength ?? 0;
  const length = from + Math.floor(random() * (bytes.byteLength - from + 1));
  const left = Buffer.from(bytes.subarray(0, length));
  if (random() < 0.3) left.fill(0, from); // the length was durable, the blocks were not
  return left;
}
