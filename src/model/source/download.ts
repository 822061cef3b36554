/**
 * One file over HTTP into one place on disk, resumable and verified.
 *
 * Bytes go to `<destination>.partial` and get their final name only after size and SHA-256 are right and the bytes are
 * synced, so a file under its final name is always complete. An interrupted download, also of an earlier process,
 * goes on where it stopped.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { errnoOf } from '../../errno.js';
import { RadixkvError } from '../../errors.js';
import type { OnProgress } from '../progress.js';
import { get, type HttpOptions, networkReason, TransientError, withRetries } from './http.js';

export interface DownloadOptions {
  readonly url: URL;
  readonly destination: string;
  /** What is fetched, for progress and error messages. */
  readonly subject: string;
  /** Checked when known. */
  readonly bytes: number | undefined;
  readonly sha256: string | undefined;
  readonly onProgress?: OnProgress | undefined;
}

const ATTEMPTS_MAX = 5;

/**
 * Downloads the file unless it is there already.
 *
 * @throws RadixkvError `checksum_mismatch` when the bytes are wrong (they are deleted, a retry starts anew), and as
 * `get` and `withRetries` do.
 */
export async function download(http: HttpOptions, options: DownloadOptions): Promise<void> {
  const present = await sizeOf(options.destination);
  if (present !== undefined && (options.bytes === undefined || present === options.bytes)) return;
  await mkdir(dirname(options.destination), { recursive: true });
  const partial = `${options.destination}.partial`;
  await withRetries({ clock: http.clock, subject: options.subject, attemptsMax: ATTEMPTS_MAX }, (advanced) =>
    fetchRest(http, options, partial, advanced),
  );
  const problem = await findProblem(partial, options);
  if (problem !== undefined) {
    await rm(partial, { force: true });
    throw new RadixkvError(
      'checksum_mismatch',
      `${options.subject}: ${problem}; run again to download it anew`,
    );
  }
  await rename(partial, options.destination);
}

async function fetchRest(
  http: HttpOptions,
  options: DownloadOptions,
  partial: string,
  advanced: () => void,
): Promise<void> {
  let offset = (await sizeOf(partial)) ?? 0;
  if (options.bytes !== undefined && offset > options.bytes) {
    await rm(partial);
    offset = 0;
  }
  if (offset > 0 && offset === options.bytes) return;
  const headers: Record<string, string> = offset > 0 ? { range: `bytes=${offset}-` } : {};
  const response = await get(http, options.url, { subject: options.subject, headers });
  const range = /^bytes (?:(\d+)-\d+|\*)\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '');
  const total = options.bytes ?? (range === null ? response.headers.get('content-length') : range[2]);

  if (response.status === 416) {
    await response.body?.cancel();
    if (Number(total) === offset) return; // nothing is missing
    await rm(partial);
    throw new TransientError(`${options.url.host} refused to resume`);
  }
  if (response.status === 206 && Number(range?.[1]) !== offset) {
    await response.body?.cancel();
    await rm(partial);
    throw new TransientError(`${options.url.host} resumed at another place`);
  }
  // A server that ignores the range sends the whole file (200): begin anew.
  const appending = response.status === 206;
  const file = await open(partial, appending ? 'a' : 'w');
  try {
    await pump(response, file, appending ? offset : 0, Number(total ?? Number.NaN), options, advanced);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Appends the body to the file; what arrived before a break stays there. */
async function pump(
  response: Response,
  file: FileHandle,
  start: number,
  total: number,
  options: DownloadOptions,
  advanced: () => void,
): Promise<void> {
  let done = start;
  const body = response.body ?? new Blob([]).stream();
  const chunks = body[Symbol.asyncIterator]() as AsyncIterator<Uint8Array, undefined>;
  for (;;) {
    const next = await chunks.next().catch((cause: unknown) => {
      throw new TransientError(`the connection broke: ${networkReason(cause)}`, { cause });
    });
    if (next.done === true) break;
    await file.appendFile(next.value);
    done += next.value.length;
    advanced();
    options.onProgress?.({
      phase: `download ${options.subject}`,
      done,
      total: Math.max(total || 0, done),
      unit: 'bytes',
    });
  }
  if (done < total) throw new TransientError('the connection broke: the answer ended early');
}

async function findProblem(path: string, options: DownloadOptions): Promise<string | undefined> {
  const bytes = await sizeOf(path);
  if (options.bytes !== undefined && bytes !== options.bytes) {
    return `expected ${options.bytes} bytes, got ${bytes ?? 0}`;
  }
  if (options.sha256 === undefined) return undefined;
  const sha256 = await sha256Of(path);
  return sha256 === options.sha256 ? undefined : `expected SHA-256 ${options.sha256}, got ${sha256}`;
}

/** SHA-256 of a file, in lower-case hex; streams it, about 1.8 GB/s. */
export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest('hex');
}

/** Bytes of a file, `undefined` when there is none. */
export async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
