/** What an error looks like, in OpenAI's shape and in Anthropic's: see error-response.ts and messages-error.ts. */
import { z } from 'zod';
import { ERRORS } from '../errors.js';
import { nameIn } from './fields.js';

const TYPES = ['invalid_request_error', 'rate_limit_error', 'server_error', 'model_error'] as const;

const code = nameIn(ERRORS).describe('What went wrong, for programs: see docs/errors.md.');
const message = z.string().describe('What went wrong, for people.');
const param = z.string().nullable().describe('The field or parameter at fault.');

export const errorDetail = z.object({ message, type: z.enum(TYPES), code, param });

export const errorAnswer = z.object({ error: errorDetail }).meta({ id: 'Error' });

export const messagesErrorAnswer = z
  .object({
    type: z.literal('error'),
    error: z.object({
      type: z.string(),
      message,
      details: z.object({ error_code: code, param }),
    }),
    request_id: z.string(),
  })
  .meta({ id: 'MessagesError' });
