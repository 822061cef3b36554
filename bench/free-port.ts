/** A port for a server of a test or a benchmark. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';

/** One that nobody listens on now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert(address !== null && typeof address === 'object');
  server.close();
  await once(server, 'close');
  return address.port;
}
