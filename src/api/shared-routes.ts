/** `/v1/cache/shared`: public texts, whose KV all tenants read that want to. Only admins declare them. */
import { z } from 'zod';
import { SHARED_NAMESPACE } from '../cache/shared-namespace.js';
import type { CacheDesk } from '../control/cache-desk.js';
import { isWhole, type PinReading, type Pins } from '../control/pins.js';
import type { Warming } from '../control/warming.js';
import { RadixkvError } from '../errors.js';
import { type CompletionService, tokensOf } from '../serving/completion.js';
import { sharedDeleted, sharedList, sharedText } from './cache-answers.js';
import { secondsOf } from './fields.js';
import { requireAdminRole } from './identity.js';
import type { Limits } from './limits.js';
import { json, type Operation, operation } from './operation.js';
import { EXAMPLE_PROMPT, PROMPT_ERRORS, promptOf, served } from './prompt-schema.js';
import { sharedBody } from './steering-schema.js';

interface SharedRouteParts {
  readonly desk: CacheDesk;
  readonly warming: Warming;
  readonly pins: Pins;
  readonly service: CompletionService;
  readonly limits: Limits;
}

const PLACE = { owner: SHARED_NAMESPACE, namespace: SHARED_NAMESPACE };

const FOR_GOOD = { ttlMs: undefined, priority: undefined };

function sharedJson(pin: PinReading): z.output<typeof sharedText> {
  const { id, createdAtMs, tokens, cached } = pin;
  return {
    id,
    object: 'cache.shared',
    created_at: secondsOf(createdAtMs),
    tokens,
    cached_tokens: tokensOf(cached),
    whole: isWhole(pin),
  };
}

export function sharedOperations({ desk, warming, pins, service, limits }: SharedRouteParts): Operation[] {
  return [
    operation({
      id: 'createSharedText',
      method: 'post',
      path: '/v1/cache/shared',
      tag: 'cache',
      summary: 'Declares a public text, whose KV tenants share that want to.',
      body: sharedBody(limits),
      answers: { 201: json(sharedText, 'It is computed and shared.') },
      errors: [...PROMPT_ERRORS, 'insufficient_permissions', 'not_cached', 'pins_full'],
      example: { body: { model: service.model.id, prompt: EXAMPLE_PROMPT } },
      handle: async ({ body, res }) => {
        requireAdminRole(res);
        const asked = served(service, await body());
        // Whole chunks only: nothing that an answer adds is ever kept with them.
        const tokens = pins.wholeChunks(
          desk.encodePrefix({ ...promptOf(asked), namespace: SHARED_NAMESPACE }),
        );
        await warming.computed(PLACE, tokens);
        res.status(201).json(sharedJson(pins.create(PLACE, tokens, FOR_GOOD)));
      },
    }),
    operation({
      id: 'listSharedTexts',
      method: 'get',
      path: '/v1/cache/shared',
      tag: 'cache',
      summary: 'The public texts.',
      answers: { 200: json(sharedList) },
      errors: ['insufficient_permissions'],
      handle: ({ res }) => {
        requireAdminRole(res);
        const answer: z.output<typeof sharedList> = {
          object: 'list',
          data: pins.list(SHARED_NAMESPACE).map(sharedJson),
        };
        res.json(answer);
      },
    }),
    operation({
      id: 'deleteSharedText',
      method: 'delete',
      path: '/v1/cache/shared/:id',
      tag: 'cache',
      summary: 'Ends the sharing of a public text.',
      params: z.object({ id: z.string().min(1) }),
      answers: { 200: json(sharedDeleted) },
      errors: ['insufficient_permissions', 'not_found'],
      handle: ({ params: { id }, res }) => {
        requireAdminRole(res);
        if (!pins.delete(SHARED_NAMESPACE, id, { isForgotten: true }))
          throw new RadixkvError('not_found', `There is no shared text '${id}'.`, { param: 'id' });
        const answer: z.output<typeof sharedDeleted> = { id, object: 'cache.shared', deleted: true };
        res.json(answer);
      },
    }),
  ];
}
