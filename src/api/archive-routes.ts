/** `/v1/cache/export` and `/v1/cache/import`: what is cached as one archive, streamed either way. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Request, Response } from 'express';
import { z } from 'zod';
import { bothOf } from '../cache/namespace-owner.js';
import type { Archives, ImportReading } from '../control/archives.js';
import type { CacheDesk } from '../control/cache-desk.js';
import { errnoOf } from '../errno.js';
import { RadixkvError } from '../errors.js';
import type { CompletionService } from '../serving/completion.js';
import { cacheImport } from './cache-answers.js';
import { identityOf } from './identity.js';
import type { Limits } from './limits.js';
import { json, type Operation, operation } from './operation.js';
import { promptOf, served } from './prompt-schema.js';
import { archiveQuery, EVERY_TENANT, exportBody } from './steering-schema.js';
import { ownersMeant, partsMeant } from './tenant-scope.js';

export const ARCHIVE_TYPE = 'application/vnd.radixkv.archive';

/** By which a client can show how far it is. */
export const ARCHIVE_BYTES_HEADER = 'x-archive-bytes-max';

interface ArchiveRouteParts {
  readonly archives: Archives;
  readonly desk: CacheDesk;
  readonly service: CompletionService;
  readonly limits: Limits;
}

function importJson({ imported, present, rejected, isExact }: ImportReading): z.output<typeof cacheImport> {
  return { object: 'cache.import', imported, present, rejected, exact: isExact };
}

/** A model's id as part of a file's name. */
const fileName = (model: string): string => `${model.replaceAll(/[^\w.-]/g, '-')}.radixkv`;

export function exportOperation({ archives, desk, service, limits }: ArchiveRouteParts): Operation {
  return operation({
    id: 'exportCache',
    method: 'post',
    path: '/v1/cache/export',
    tag: 'cache',
    summary: 'What is cached below the device, as one archive.',
    query: archiveQuery,
    body: exportBody(limits),
    answers: { 200: { description: 'The archive.', content: { [ARCHIVE_TYPE]: z.string() } } },
    errors: [
      'insufficient_permissions',
      'not_found',
      'model_not_found',
      'context_length_exceeded',
      'not_cached',
      'queue_full',
    ],
    example: { body: { model: service.model.id } },
    handle: async ({ query: { tenant }, body, res }) => {
      const { cache_salt: salt, ...asked } = served(service, await body());
      const isAll = asked.messages === undefined && asked.prompt === undefined;
      const prefix = isAll ? undefined : desk.encode({ ...promptOf(asked), namespace: '' });
      const meant = partsMeant(res, { tenant, salt }, desk);
      const { bytes, bytesMax } = archives.export({
        scope: tenant === EVERY_TENANT ? 'all' : 'tenant',
        namespaces: prefix === undefined ? meant.flatMap(bothOf) : meant,
        nameOf: identityOf(res).nameOf,
        prefix,
      });
      res.writeHead(200, {
        'content-type': ARCHIVE_TYPE,
        'content-disposition': `attachment; filename="${fileName(service.model.id)}"`,
        'cache-control': 'no-store',
        [ARCHIVE_BYTES_HEADER]: String(bytesMax),
      });
      await send(bytes, res);
    },
  });
}

/** An answer that breaks off is cut, so that nobody takes it for a whole one. */
async function send(bytes: AsyncIterable<Uint8Array>, res: Response): Promise<void> {
  try {
    await pipeline(Readable.from(bytes, { highWaterMark: 1 }), res);
  } catch (error) {
    res.destroy();
    if (errnoOf(error) !== 'ERR_STREAM_PREMATURE_CLOSE') throw error;
  }
}

export function importOperation({ archives, desk }: ArchiveRouteParts): Operation {
  return operation({
    id: 'importCache',
    method: 'post',
    path: '/v1/cache/import',
    tag: 'cache',
    summary: 'Takes in an archive.',
    query: archiveQuery,
    upload: ARCHIVE_TYPE,
    answers: { 200: json(cacheImport) },
    errors: [
      'insufficient_permissions',
      'not_found',
      'archive_invalid',
      'archive_mismatch',
      'body_too_large',
      'queue_full',
    ],
    handle: async ({ query: { tenant }, req, res }) => {
      requireArchive(req);
      const { role, ownerNamed, namespace } = identityOf(res);
      const isAll = tenant === EVERY_TENANT;
      const [owner = namespace] = ownersMeant(res, tenant, () => (isAll ? [] : desk.owners()));
      const upload: AsyncIterableIterator<Buffer> = req.iterator({ destroyOnReturn: false });
      try {
        const reading = await archives.import(upload, {
          scope: isAll ? 'all' : 'tenant',
          ownerNamed: isAll ? ownerNamed : (name) => (name === '' ? owner : undefined),
          mayBeUnsealed: role === 'admin',
        });
        res.json(importJson(reading));
      } finally {
        // Who sends more than is wanted reads the answer all the same.
        await upload.return?.();
        req.resume();
      }
    },
  });
}

/** @throws RadixkvError `unsupported_media_type` */
function requireArchive(req: Request): void {
  const isArchive = [ARCHIVE_TYPE, 'application/octet-stream'].includes(req.get('content-type') ?? '');
  if (isArchive && (req.get('content-encoding') ?? 'identity') === 'identity') return;
  throw new RadixkvError(
    'unsupported_media_type',
    `The content-type must be ${ARCHIVE_TYPE}, without compression.`,
  );
}
