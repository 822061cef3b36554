/**
 * `POST /v1/documents/batch`: one document a line, each taken or refused by itself as it arrives.
 *
 * Nothing is undone when a later line is bad or the client goes away: what was taken stays.
 */
import { setImmediate } from 'node:timers/promises';
import type { Request } from 'express';
import type { z } from 'zod';
import type { DocumentLibrary } from '../documents/library.js';
import { RadixkvError } from '../errors.js';
import { parseJson } from './body.js';
import { documentBatch } from './document-answers.js';
import { batchedDocument } from './document-schema.js';
import { errorJson } from './error-response.js';
import { type Identity, identityOf } from './identity.js';
import type { Limits } from './limits.js';
import { type Line, linesOf } from './lines.js';
import { json, type Operation, operation } from './operation.js';
import { validate } from './validate.js';

/** Errors of lines that an answer lists; more are only counted. */
const ERRORS_MAX = 1000;

/** Small lines come thousands at once: others get a turn after so long. */
const TURN_MS = 10;

/** Of spaces, tabs and a carriage return at most. */
const isBlank = (bytes: Buffer): boolean => bytes.every((byte) => byte <= 0x20);

/** @throws RadixkvError `malformed_request` when the upload ends before its end. */
async function* bodyOf(req: Request): AsyncGenerator<Buffer, void, void> {
  try {
    yield* req as AsyncIterable<Buffer>;
  } catch (cause) {
    throw new RadixkvError('malformed_request', 'The request could not be read.', { cause });
  }
}

export function batchOperation(library: DocumentLibrary, limits: Limits): Operation {
  const schema = batchedDocument(limits);
  const take = ({ bytes }: Line, { namespace, chargeTokens }: Identity): void => {
    if (bytes === undefined) {
      throw new RadixkvError('body_too_large', `The line is longer than ${limits.bodyBytesMax} bytes.`);
    }
    const { id, ...order } = validate(schema, parseJson(bytes, limits));
    library.put(namespace, id, order, chargeTokens);
  };
  return operation({
    id: 'putDocuments',
    method: 'post',
    path: '/v1/documents/batch',
    tag: 'documents',
    summary: 'Stores many documents, one a line.',
    lines: schema,
    answers: { 202: json(documentBatch, 'What could be is stored.') },
    handle: async ({ req, res }) => {
      if (
        req.is('application/x-ndjson') === false ||
        (req.get('content-encoding') ?? 'identity') !== 'identity'
      ) {
        throw new RadixkvError(
          'unsupported_media_type',
          'The content-type must be application/x-ndjson, without compression.',
        );
      }
      const identity = identityOf(res);
      const errors: z.output<typeof documentBatch>['errors'] = [];
      let accepted = 0;
      let failed = 0;
      let turnBeganAt = performance.now();
      for await (const line of linesOf(bodyOf(req), limits.bodyBytesMax)) {
        if (performance.now() - turnBeganAt > TURN_MS) {
          await setImmediate();
          turnBeganAt = performance.now();
        }
        if (line.bytes !== undefined && isBlank(line.bytes)) continue;
        try {
          take(line, identity);
          accepted++;
        } catch (error) {
          if (!(error instanceof RadixkvError)) throw error;
          failed++;
          if (errors.length < ERRORS_MAX) errors.push({ line: line.number, ...errorJson(error).error });
        }
      }
      const answer: z.output<typeof documentBatch> = { object: 'document.batch', accepted, failed, errors };
      res.status(202).json(answer);
    },
  });
}
