/**
 * Server-sent events by hand: one `data:` line an event, behind an `event:` line where it has a name.
 *
 * A slow reader slows the writer: each send waits until the socket has room or is gone. Nothing is written to a
 * response whose connection is gone.
 */
import type { ServerResponse } from 'node:http';

export interface StreamEvent {
  /** By which a client asks to go on after it. */
  readonly id?: number;
  readonly event?: string;
  /** Objects become JSON. */
  readonly data: object | string;
}

function frame({ id, event, data }: StreamEvent): string {
  const number = id === undefined ? '' : `id: ${id}\n`;
  const name = event === undefined ? '' : `event: ${event}\n`;
  return `${number}${name}data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`;
}

/** Sends the headers; from now on an error can only be an event. */
export function openEventStream(res: ServerResponse): void {
  res.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache, no-transform',
    'x-accel-buffering': 'no',
  });
  res.flushHeaders();
}

function drainOrClose(res: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      res.off('drain', done);
      res.off('close', done);
      resolve();
    };
    res.on('drain', done);
    res.on('close', done);
  });
}

/** Sends one event and waits for room for the next. */
export async function sendEvent(res: ServerResponse, event: StreamEvent): Promise<void> {
  if (res.destroyed || res.writableEnded) return;
  if (!res.write(frame(event))) await drainOrClose(res);
}

/** Says where the stream begins, so that a client can go on from there though no event came yet. It is no event. */
export function sendPosition(res: ServerResponse, id: number): void {
  if (!res.destroyed) res.write(`id: ${id}\n\n`);
}

/** Sends what no client sees, so that a proxy does not take a quiet stream for a dead one. */
export function sendPing(res: ServerResponse): void {
  if (!res.destroyed && !res.writableNeedDrain) res.write(': ping\n\n');
}

/** Ends the stream with a last event. */
export function endEventStream(res: ServerResponse, event: StreamEvent): void {
  if (!res.destroyed) res.end(frame(event));
}
