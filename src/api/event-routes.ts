/** `GET /v1/cache/events`: what happens to KV chunks, as server-sent events in the shape of vLLM's KV events. Each API key sees its own. */
import { z } from 'zod';
import type { CacheEvent, CacheEvents, EventGap } from '../cache/cache-events.js';
import { RadixkvError } from '../errors.js';
import { cacheEvent } from './cache-answers.js';
import { identityOf } from './identity.js';
import type { Limits } from './limits.js';
import { saltedNamespace } from './namespace.js';
import { type Operation, operation } from './operation.js';
import { openEventStream, sendEvent, sendPing, sendPosition } from './sse.js';
import { eventNumber, eventsQuery } from './steering-schema.js';

const PING_MS = 15_000;

/** vLLM's names of media. */
const MEDIA = { host: 'CPU', disk: 'DISK', remote: 'REMOTE' } as const;

function eventJson(event: CacheEvent | EventGap): z.output<typeof cacheEvent> {
  if (event.type === 'gap') return { type: 'Gap', from: event.from, to: event.to };
  const { seq, atMs } = event;
  const head = { seq, ts: atMs / 1000 };
  if (event.type === 'remote')
    return { ...head, type: 'RemoteState', state: event.state, reason: event.reason ?? null };
  if (event.type === 'cleared') return { ...head, type: 'AllBlocksCleared' };
  const medium = MEDIA[event.tier];
  if (event.type === 'removed') {
    return { ...head, type: 'BlockRemoved', block_hashes: [event.key], medium, reason: event.reason };
  }
  const { keys, parent, tokens, cause } = event;
  return {
    ...head,
    type: 'BlockStored',
    block_hashes: [...keys],
    parent_block_hash: parent ?? null,
    token_ids: [...tokens],
    block_size: tokens.length / keys.length,
    lora_id: null,
    medium,
    cause,
  };
}

/** Streams until the client goes away or the server stops. Slow readers miss events, and are told which. */
export function eventsOperation(events: CacheEvents, limits: Limits): Operation {
  const { eventStreamsMax } = limits;
  let streams = 0;
  return operation({
    id: 'streamCacheEvents',
    method: 'get',
    path: '/v1/cache/events',
    tag: 'cache',
    summary: 'What happens to the key’s chunks, as it happens.',
    query: eventsQuery(limits),
    headers: z.object({ 'last-event-id': eventNumber.optional().describe('As `after`, which comes first.') }),
    answers: {
      200: {
        description: 'Events, each with its number as `id`, until the client goes away or the server stops.',
        content: { 'text/event-stream': cacheEvent },
      },
    },
    errors: ['queue_full'],
    handle: async ({ query, headers, res }) => {
      const from = query.after ?? headers['last-event-id'] ?? events.last;
      if (streams >= eventStreamsMax) {
        throw new RadixkvError('queue_full', `${streams} event streams are open already`, {
          retryAfterS: 10,
        });
      }
      const namespace = saltedNamespace(identityOf(res).namespace, query.cache_salt);
      const aborter = new AbortController();
      res.once('close', () => aborter.abort());
      streams++;
      openEventStream(res);
      sendPosition(res, from);
      const ping = setInterval(() => sendPing(res), PING_MS);
      try {
        for await (const event of events.read(from, aborter.signal)) {
          const isOwn = event.type === 'gap' || event.type === 'remote' || event.namespace === namespace;
          const id = event.type === 'gap' ? event.to : event.seq;
          if (isOwn) await sendEvent(res, { id, data: eventJson(event) });
        }
      } finally {
        streams--;
        clearInterval(ping);
      }
      res.end();
    },
  });
}
