/** Whether an address is of this machine alone, and that a server for others has keys. */
import { lookup } from 'node:dns/promises';
import { BlockList, isIPv6 } from 'node:net';
import { RadixkvError } from '../errors.js';

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/** IPv4 addresses as IPv6 sockets show them count too. */
export function isLoopbackAddress(address: string): boolean {
  return LOOPBACK.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}

/** Whether only this machine reaches a server that listens on a host; false for a name that can't be resolved. */
export async function isLoopbackHost(host: string): Promise<boolean> {
  const found = await lookup(host, { all: true }).catch(() => []);
  return found.length > 0 && found.every(({ address }) => isLoopbackAddress(address));
}

/**
 * Refuses to let others in without keys.
 * @throws RadixkvError `invalid_value`, with both ways out
 */
export async function requireGuard(server: {
  readonly host: string;
  /** Keys are required, or there are some. */
  readonly needsKeys: boolean;
  readonly insecureNoKeys: boolean;
}): Promise<void> {
  if (server.needsKeys || server.insecureNoKeys || (await isLoopbackHost(server.host))) return;
  throw new RadixkvError(
    'invalid_value',
    `--host ${server.host} lets others in, and there are no keys: make one with "radixkv keys create --tenant <name>", or let everybody use the server with --insecure-no-keys`,
    { param: '--host' },
  );
}
