/** What models and health are told as. */
import { z } from 'zod';
import { epochSeconds } from './fields.js';

export const model = z
  .object({
    id: z.string(),
    object: z.literal('model'),
    created: epochSeconds,
    owned_by: z.literal('radixkv'),
    max_model_len: z.int().describe('Tokens of prompt and answer together.'),
  })
  .meta({ id: 'Model' });

export const modelPage = z.object({ object: z.literal('list'), data: z.array(model) }).meta({ id: 'Models' });

export const liveAnswer = z.object({ status: z.literal('live') });
export const readyAnswer = z.object({ status: z.literal('ready') });
export const notReadyAnswer = z.object({ status: z.literal('not_ready'), reason: z.string() });
