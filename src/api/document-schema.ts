/** Documents in request bodies: passages with their text, or the ids of stored ones. */
import { z } from 'zod';
import type { DocumentOrder } from '../documents/library.js';
import type { PromptDocument } from '../serving/completion.js';
import { defaulted, list, optional, queryNumber, text } from './fields.js';
import type { Limits } from './limits.js';

export const documentId = z
  .string()
  .regex(/^[A-Za-z0-9_.:-]{1,256}$/, 'must be 1 to 256 characters of A-Z, a-z, 0-9, ".", "_", ":", "-"');

/** Title and text of a passage. An empty title is none. */
export function passageFields({ documentCharactersMax, titleCharactersMax }: Limits) {
  return {
    title: optional(text.max(titleCharactersMax))
      .transform((title) => (title === '' ? undefined : title))
      .describe('Stands before the text.'),
    text: text.min(1).max(documentCharactersMax).describe('What the model reads.'),
  };
}

function orderFields(limits: Limits) {
  return {
    ...passageFields(limits),
    ttl_seconds: optional(z.int().min(1).max(limits.ttlSecondsMax)).describe(
      'Until it is deleted by itself.',
    ),
    pinned: defaulted(z.boolean(), false).describe(
      'Keeps its KV from eviction, as far as pins may take room.',
    ),
  };
}

type OrderBody = z.output<z.ZodObject<ReturnType<typeof orderFields>>>;

function orderOf({ title, text: passage, ttl_seconds, pinned }: OrderBody): DocumentOrder {
  const ttlMs = ttl_seconds === undefined ? undefined : ttl_seconds * 1000;
  return { passage: { title, text: passage }, ttlMs, isPinned: pinned };
}

/** The body of `PUT /v1/documents/{id}`. */
export function storedDocument(limits: Limits) {
  return z.strictObject(orderFields(limits)).transform(orderOf);
}

/** A line of `POST /v1/documents/batch`. */
export function batchedDocument(limits: Limits) {
  return z
    .strictObject({ id: documentId, ...orderFields(limits) })
    .transform(({ id, ...body }) => ({ id, ...orderOf(body) }));
}

function promptDocument(limits: Limits) {
  const { title, text: passage } = passageFields(limits);
  return z
    .strictObject({ id: optional(documentId), title, text: optional(passage) })
    .transform((body, context): PromptDocument => {
      if (body.text !== undefined) return { id: body.id, title: body.title, text: body.text };
      const refuse = (field: string, message: string) => {
        context.addIssue({ code: 'custom', path: [field], message });
        return z.NEVER;
      };
      if (body.id === undefined) return refuse('text', 'is missing, and so is the id of a stored document');
      if (body.title !== undefined) return refuse('title', 'is only allowed with a text');
      return { id: body.id };
    });
}

/** The documents of one prompt. No id stands twice. */
export function promptDocuments(limits: Limits) {
  return list(promptDocument(limits), limits.documentsMax).superRefine((documents, context) => {
    const seen = new Map<string, number>();
    for (const [index, { id }] of documents.entries()) {
      if (id === undefined) continue;
      const first = seen.get(id);
      const message = `is also the id of documents[${first}]`;
      if (first !== undefined) context.addIssue({ code: 'custom', path: [index, 'id'], message });
      else seen.set(id, index);
    }
  });
}

const PAGE_DEFAULT = 20;
const PAGE_MAX = 100;

/** Of `GET /v1/documents`. */
export const documentsQuery = z.strictObject({
  limit: queryNumber({ min: 1, max: PAGE_MAX, fallback: PAGE_DEFAULT }),
  after: documentId.optional().describe('The last id of the page before.'),
});
