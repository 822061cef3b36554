/** `/v1/documents`: stored documents, whose KV is computed ahead of time. Each API key sees its own. */
import { z } from 'zod';
import type { DocumentReading } from '../documents/document.js';
import type { DocumentLibrary } from '../documents/library.js';
import { RadixkvError } from '../errors.js';
import { documentDeleted, documentPage, storedDocumentAnswer } from './document-answers.js';
import { documentId, documentsQuery, storedDocument } from './document-schema.js';
import { secondsOf } from './fields.js';
import { identityOf } from './identity.js';
import type { Limits } from './limits.js';
import { json, type Operation, operation } from './operation.js';

export function documentJson(document: DocumentReading): z.output<typeof storedDocumentAnswer> {
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

export function documentOperations(library: DocumentLibrary, limits: Limits): Operation[] {
  const byId = {
    path: '/v1/documents/:id',
    tag: 'documents',
    params: z.object({ id: documentId }),
    example: { params: { id: 'lamp' } },
  } as const;
  return [
    operation({
      id: 'listDocuments',
      method: 'get',
      path: '/v1/documents',
      tag: 'documents',
      summary: 'The stored documents, by id.',
      query: documentsQuery,
      answers: { 200: json(documentPage) },
      handle: ({ query: { limit, after }, res }) => {
        const { documents, hasMore } = library.list(identityOf(res).namespace, { limit, after });
        const answer: z.output<typeof documentPage> = {
          object: 'list',
          data: documents.map(documentJson),
          first_id: documents[0]?.id ?? null,
          last_id: documents.at(-1)?.id ?? null,
          has_more: hasMore,
        };
        res.json(answer);
      },
    }),
    operation({
      ...byId,
      id: 'getDocument',
      method: 'get',
      summary: 'A stored document, and how far its KV is computed.',
      answers: { 200: json(storedDocumentAnswer) },
      errors: ['document_not_found'],
      handle: ({ params: { id }, res }) => {
        const document = library.read(identityOf(res).namespace, id);
        if (document === undefined) throw notFound(id);
        res.json(documentJson(document));
      },
    }),
    operation({
      ...byId,
      id: 'putDocument',
      method: 'put',
      summary: 'Stores a document, and has its KV computed ahead of time.',
      body: storedDocument(limits),
      answers: { 202: json(storedDocumentAnswer, 'It is stored; its KV is computed later.') },
      errors: ['context_length_exceeded', 'prompt_over_rate_limit', 'library_full', 'shutting_down'],
      example: { ...byId.example, body: { title: 'The lamp', text: 'Ada lit it at dusk.' } },
      handle: async ({ params: { id }, body, res }) => {
        const order = await body();
        const { namespace, chargeTokens } = identityOf(res);
        res.status(202).json(documentJson(library.put(namespace, id, order, chargeTokens)));
      },
    }),
    operation({
      ...byId,
      id: 'deleteDocument',
      method: 'delete',
      summary: 'Deletes a document, and lets its KV go.',
      answers: { 200: json(documentDeleted) },
      errors: ['document_not_found'],
      handle: ({ params: { id }, res }) => {
        if (!library.remove(identityOf(res).namespace, id)) throw notFound(id);
        res.json({ id, object: 'document', deleted: true });
      },
    }),
  ];
}
