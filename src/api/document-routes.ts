/** `/v1/documents`: stored documents, whose KV is computed ahead of time. Each API key sees its own. */
import type { RequestHandler } from 'express';
import { z } from 'zod';
import type { DocumentReading } from '../documents/document.js';
import type { DocumentLibrary } from '../documents/library.js';
import { RadixkvError } from '../errors.js';
import type { BodyReader } from './body.js';
import { documentId, storedDocument } from './document-schema.js';
import { queryNumber, secondsOf } from './fields.js';
import { identityOf } from './identity.js';
import type { Limits } from './limits.js';
import { validate } from './validate.js';

const PAGE_DEFAULT = 20;
const PAGE_MAX = 100;

const named = z.object({ id: documentId });

const page = z.strictObject({
  limit: queryNumber({ min: 1, max: PAGE_MAX, fallback: PAGE_DEFAULT }),
  after: documentId.optional(),
});

export function documentJson(document: DocumentReading) {
  const { id, title, status, computedTokens, tokens, cached, createdAtMs, expiresAtMs, isPinned, failure } =
    document;
  return {
    id,
    object: 'document',
    title: title ?? null,
    status,
    progress: { computed_tokens: computedTokens, tokens },
    tokens,
    cached_tokens: cached,
    created_at: secondsOf(createdAtMs),
    expires_at: expiresAtMs === undefined ? null : secondsOf(expiresAtMs),
    pinned: isPinned,
    ...(failure && { error: failure }),
  };
}

function notFound(id: string): RadixkvError {
  return new RadixkvError('document_not_found', `There is no document '${id}'.`, { param: 'id' });
}

export function documentList(library: DocumentLibrary): RequestHandler {
  return (req, res) => {
    const { limit, after } = validate(page, req.query);
    const { documents, hasMore } = library.list(identityOf(res).namespace, { limit, after });
    res.json({
      object: 'list',
      data: documents.map(documentJson),
      first_id: documents[0]?.id ?? null,
      last_id: documents.at(-1)?.id ?? null,
      has_more: hasMore,
    });
  };
}

/** The handlers of one document, by method. */
export function documentById({
  library,
  readBody,
  limits,
}: {
  readonly library: DocumentLibrary;
  readonly readBody: BodyReader;
  readonly limits: Limits;
}): Readonly<Record<'put' | 'get' | 'delete', RequestHandler>> {
  const schema = storedDocument(limits);
  return {
    put: async (req, res) => {
      const { id } = validate(named, req.params);
      const order = validate(schema, await readBody(req, res));
      const { namespace, chargeTokens } = identityOf(res);
      res.status(202).json(documentJson(library.put(namespace, id, order, chargeTokens)));
    },
    get: (req, res) => {
      const { id } = validate(named, req.params);
      const document = library.read(identityOf(res).namespace, id);
      if (document === undefined) throw notFound(id);
      res.json(documentJson(document));
    },
    delete: (req, res) => {
      const { id } = validate(named, req.params);
      if (!library.remove(identityOf(res).namespace, id)) throw notFound(id);
      res.json({ id, object: 'document', deleted: true });
    },
  };
}
