/** `GET /v1/cache/events`: what happens to KV chunks, as server-sent events in the shape of vLLM's KV events. Each API key sees its own. */
import type { RequestHandler } from 'express';
import { z } from 'zod';
import type { CacheEvent, CacheEvents, EventGap } from '../cache/cache-events.js';
import { RadixkvError } from '../errors.js';
import { cacheSalt } from './cache-schema.js';
import { identityOf } from './identity.js';
import type { Limits } from './limits.js';
import { saltedNamespace } from './namespace.js';
import { openEventStream, sendEvent, sendPing } from './sse.js';
import { validate } from './validate.js';

const PING_MS = 15_000;

/** vLLM's names of media. */
const MEDIA = { host: 'CPU', disk: 'DISK', remote: 'REMOTE' } as const;

const number = z
  .string()
  .regex(/^\d{1,15}$/, 'must be the number of an event')
  .transform(Number);

function eventJson(event: CacheEvent | EventGap) {
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
    block_hashes: keys,
    parent_block_hash: parent ?? null,
    token_ids: [...tokens],
    block_size: tokens.length / keys.length,
    lora_id: null,
    medium,
    cause,
  };
}

/** Streams until the client goes away or the server stops. Slow readers miss events, and are told which. */
export function eventsRoute(events: CacheEvents, limits: Limits): RequestHandler {
  const { eventStreamsMax } = limits;
  const query = z.strictObject({ after: number.optional(), cache_salt: cacheSalt(limits).optional() });
  let streams = 0;
  return async (req, res) => {
    const { after, cache_salt } = validate(query, req.query);
    const last = req.get('last-event-id');
    const from = after ?? (last === undefined ? events.last : validate(number, last));
    if (streams >= eventStreamsMax) {
      throw new RadixkvError('queue_full', `${streams} event streams are open already`, { retryAfterS: 10 });
    }
    const namespace = saltedNamespace(identityOf(res).namespace, cache_salt);
    const aborter = new AbortController();
    res.once('close', () => aborter.abort());
    streams++;
    openEventStream(res);
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
  };
}
