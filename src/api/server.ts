/** The listening server, and how it stops. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { Socket } from 'node:net';
import type { Express } from 'express';

/** How long a client may take, so that slow ones don't pile up. Who is too slow is answered with 408 and cut. */
export interface HttpTimeouts {
  /** From the connection, or the end of the request before, to the last header. */
  readonly headersMs: number;
  /** Likewise, to the last byte of the body. */
  readonly requestMs: number;
  /** Between two requests. */
  readonly keepAliveMs: number;
  /** How often clients are looked at: nobody is cut later than so long after the limit. */
  readonly checkMs: number;
}

export const DEFAULT_TIMEOUTS: HttpTimeouts = {
  headersMs: 15_000,
  requestMs: 300_000,
  keepAliveMs: 5000,
  checkMs: 5000,
};

export interface ServerOptions {
  readonly app: Express;
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** How long answers in progress may go on after `close()`. */
  readonly shutdownTimeoutMs: number;
  readonly timeouts?: HttpTimeouts;
  /** Called first by `close()`: the service refuses new requests from now on. */
  readonly onShutdown?: () => void;
  /** Called when that time is over and answers are still in progress: it ends them with an error, as far as it can. */
  readonly onCut?: () => void;
}

/** How long it may take until an answer has ended with its error, and the client has taken it. */
const CUT_MS = 5000;

export interface RunningServer {
  readonly url: string;
  /**
   * Stops accepting, and lets answers in progress end until the timeout; what is left then is ended with an error, and cut
   * where the client does not take it. Resolves when no connection is left. Idempotent.
   */
  close(): Promise<void>;
}

/** Listens, or rejects with the system's error (`EADDRINUSE`, `EACCES`, …). */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { app, host, port, shutdownTimeoutMs, timeouts = DEFAULT_TIMEOUTS } = options;
  const server = createServer({
    headersTimeout: timeouts.headersMs,
    requestTimeout: timeouts.requestMs,
    keepAliveTimeout: timeouts.keepAliveMs,
    connectionsCheckingInterval: timeouts.checkMs,
  });
  let closed: Promise<void> | undefined;

  // Node's own closeIdleConnections() spares connections that have not sent a request yet.
  const idle = new Set<Socket>();
  server.on('connection', (socket) => {
    idle.add(socket);
    socket.once('close', () => idle.delete(socket));
  });
  server.on('request', ({ socket }, res) => {
    idle.delete(socket);
    if (closed !== undefined) res.setHeader('connection', 'close');
    res.once('close', () => {
      if (closed !== undefined) socket.end();
      else if (!socket.destroyed) idle.add(socket);
    });
  });
  server.on('request', app);

  const stop = async () => {
    options.onShutdown?.();
    let timer = setTimeout(() => {
      options.onCut?.();
      timer = setTimeout(() => server.closeAllConnections(), CUT_MS);
    }, shutdownTimeoutMs);
    const ended = once(server, 'close');
    server.close();
    for (const socket of idle) socket.destroy();
    await ended;
    clearTimeout(timer);
  };

  server.listen(port, host);
  await once(server, 'listening');
  const address = server.address();
  assert(typeof address === 'object' && address !== null, 'the server listens on a port');
  const hostname = address.family === 'IPv6' ? `[${address.address}]` : address.address;
  return {
    url: `http://${hostname}:${address.port}`,
    close: () => (closed ??= stop()),
  };
}
