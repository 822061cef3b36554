/**
 * `radixkv cache export` and `radixkv cache import`: KV of a running server into a file, and from one into a server.
 *
 * A file has its name when all of it is there: until then it is `<file>.part`.
 */
import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { readFile, rename, rm, stat } from 'node:fs/promises';
import { request as askHttp, type ClientRequest, type IncomingMessage } from 'node:http';
import { request as askHttps } from 'node:https';
import { Readable, Transform } from 'node:stream';
import { json } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { ArchiveCheck } from '#storage';
import { ARCHIVE_BYTES_HEADER, ARCHIVE_TYPE } from '../api/archive-routes.js';
import { formatBytes } from '../config/bytes.js';
import { messageOf } from '../errno.js';
import { RadixkvError } from '../errors.js';
import {
  credentials,
  endpoint,
  problemOf,
  reasonOf,
  requireAddress,
  type ServerAddress,
} from './server-address.js';
import type { Terminal } from './terminal.js';

/** What to export: all, unless there is a prompt. */
export interface ExportChoices {
  readonly tenant?: string;
  readonly cacheSalt?: string;
  /** A text. */
  readonly prompt?: string;
  /** A file with the JSON of a chat's messages. */
  readonly messages?: string;
}

const models = z.object({ data: z.array(z.object({ id: z.string() })).min(1) });
const imported = z.object({
  imported: z.number(),
  present: z.number(),
  rejected: z.record(z.string(), z.number()),
  exact: z.boolean(),
});

/** @throws RadixkvError when the server refuses or can't be reached, or the archive did not come whole */
export async function runExport(
  file: string,
  address: ServerAddress,
  choices: ExportChoices,
  terminal: Terminal,
): Promise<void> {
  requireAddress(address);
  const { prompt, cacheSalt, tenant, messages } = choices;
  const body = {
    model: await servedModel(address),
    ...(prompt !== undefined && { prompt }),
    ...(messages !== undefined && { messages: await readMessages(messages) }),
    ...(cacheSalt !== undefined && { cache_salt: cacheSalt }),
  };
  const answer = await reached(address, () =>
    fetch(withTenant(endpoint(address, 'v1/cache/export'), tenant), {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...credentials(address) },
      body: JSON.stringify(body),
    }),
  );
  if (!answer.ok || answer.body === null)
    throw refused(answer.status, await answer.json().catch(() => undefined));
  const total = Number(answer.headers.get(ARCHIVE_BYTES_HEADER) ?? 0);
  const check = new ArchiveCheck();
  let bytes = 0;
  const watch = new Transform({
    transform(piece: Uint8Array, _encoding, done) {
      check.add(piece);
      bytes += piece.byteLength;
      terminal.progress({ phase: 'exporting', done: bytes, total: Math.max(total, bytes), unit: 'bytes' });
      done(null, piece);
    },
  });
  const part = `${file}.part`;
  try {
    const source = Readable.from(answer.body);
    await reached(address, () => pipeline(source, watch, createWriteStream(part)));
    if (!check.isWhole()) throw new RadixkvError('archive_invalid', 'the archive did not come whole');
    await rename(part, file);
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  } finally {
    terminal.endProgress();
  }
  terminal.print(`exported ${formatBytes(bytes)} to ${file}`);
}

/** @throws RadixkvError when the server refuses or can't be reached */
export async function runImportArchive(
  file: string,
  address: ServerAddress,
  { tenant }: Pick<ExportChoices, 'tenant'>,
  terminal: Terminal,
): Promise<void> {
  requireAddress(address);
  const { size: total } = await stat(file).catch((cause: unknown) => {
    throw new RadixkvError('invalid_value', `${file} can't be read: ${messageOf(cause)}`, { cause });
  });
  let done = 0;
  const watch = new Transform({
    transform(piece: Uint8Array, _encoding, next) {
      done += piece.byteLength;
      terminal.progress({ phase: 'importing', done, total, unit: 'bytes' });
      next(null, piece);
    },
  });
  const url = withTenant(endpoint(address, 'v1/cache/import'), tenant);
  const { status, body } = await reached(address, () =>
    upload(url, [createReadStream(file), watch], {
      'content-type': ARCHIVE_TYPE,
      'content-length': String(total),
      ...credentials(address),
    }),
  ).finally(() => terminal.endProgress());
  const read = imported.safeParse(body);
  if (status !== 200 || !read.success) throw refused(status, body);
  const { rejected, ...counts } = read.data;
  const reasons = Object.entries(rejected).filter(([, count]) => count > 0);
  terminal.print(`${counts.imported} chunks imported, ${counts.present} were there`);
  for (const [reason, count] of reasons) terminal.note(`${count} rejected: ${reason.replaceAll('_', ' ')}`);
  if (!counts.exact) {
    terminal.note('computed on another kind of processor: not reused for requests with cache.mode exact');
  }
}

/** A server may refuse before it has all; `fetch` would then tell of a broken connection only. */
async function upload(
  url: URL,
  [source, watch]: readonly [Readable, Transform],
  headers: Record<string, string>,
): Promise<{ readonly status: number; readonly body: unknown }> {
  const ask = url.protocol === 'https:' ? askHttps : askHttp;
  const request: ClientRequest = ask(url, { method: 'POST', headers });
  const answered: Promise<IncomingMessage[]> = once(request, 'response');
  const sent = pipeline(source, watch, request);
  // Who is answered need not have sent all.
  sent.catch(() => undefined);
  const [answer] = await Promise.race([answered, sent.then(() => answered)]);
  const body: unknown = await json(answer!).catch(() => undefined);
  request.destroy();
  return { status: answer!.statusCode ?? 0, body };
}

function withTenant(url: URL, tenant: string | undefined): URL {
  if (tenant !== undefined) url.searchParams.set('tenant', tenant);
  return url;
}

async function servedModel(address: ServerAddress): Promise<string> {
  const answer = await reached(address, () =>
    fetch(endpoint(address, 'v1/models'), { headers: credentials(address) }),
  );
  const body: unknown = await answer.json().catch(() => undefined);
  const parsed = models.safeParse(body);
  if (!answer.ok || !parsed.success) throw refused(answer.status, body);
  return parsed.data.data[0]!.id;
}

async function readMessages(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    const message = `--messages ${file} can't be read as JSON: ${messageOf(cause)}`;
    throw new RadixkvError('invalid_value', message, { cause });
  }
}

async function reached<T>(address: ServerAddress, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof RadixkvError) throw error;
    throw new RadixkvError('invalid_value', `${address.url} can't be reached: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

function refused(status: number, body: unknown): RadixkvError {
  return new RadixkvError('invalid_value', problemOf(status, body));
}
