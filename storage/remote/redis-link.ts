/**
 * The remote tier's commands over node-redis: one server, Sentinel or Cluster, with TLS and ACL.
 *
 * The client never reconnects by itself and keeps nothing for later: what fails, fails at once, and whoever holds the
 * link connects anew (remote-connection.ts), which finds the new master too. Reads and writes have connections of
 * their own, so that no read waits behind a batch of writes.
 */
import { createClient, createCluster, createSentinel, ErrorReply, RESP_TYPES } from '@redis/client';
import type { RemoteAddress } from './remote-address.js';
import { type ConnectRemote, RemoteError, type RemoteErrorKind, type RemoteLink } from './remote-link.js';

/** PEM. */
export interface TlsFiles {
  /** Of who signed the servers' certificates; absent: those that Node trusts. */
  readonly ca?: string | undefined;
  /** Of this client, where servers ask for one. */
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

/** What all three clients have in common. */
interface Commands {
  on(event: 'error', listener: (error: Error) => void): unknown;
  connect(): Promise<unknown>;
  destroy(): unknown;
  exists(key: string): Promise<number>;
  get(key: string): Promise<Buffer | null>;
  set(key: string, value: Buffer, options: { expiration: { type: 'PX'; value: number } }): Promise<unknown>;
  unlink(key: string): Promise<number>;
  hGetAll(key: string): Promise<Record<string, Buffer>>;
  hIncrBy(key: string, field: string, by: number): Promise<number>;
  hDel(key: string, fields: string[]): Promise<number>;
  pExpire(key: string, ms: number): Promise<number>;
}

const KINDS: readonly (readonly [RegExp, RemoteErrorKind])[] = [
  [/^READONLY/, 'read_only'],
  [/^OOM/, 'full'],
  [/^(NOAUTH|WRONGPASS|NOPERM)/, 'denied'],
  [/^(LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY|UNBLOCKED)/, 'unready'],
];

/** Connects to an address. */
export function redisConnector(address: RemoteAddress, tls: TlsFiles = {}): ConnectRemote {
  return async ({ timeoutMs, onLost }) => {
    let isConnected = false;
    const clients = [0, 1].map(() => createCommands(address, tls, timeoutMs));
    const destroy = () => {
      isConnected = false;
      for (const client of clients) destroyQuietly(client);
    };
    for (const client of clients) {
      client.on('error', () => {
        if (isConnected) onLost();
      });
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new RemoteError('timeout')), timeoutMs);
    });
    try {
      await Promise.race([Promise.all(clients.map((client) => client.connect())), late]);
    } catch (error) {
      destroy();
      throw remoteError(error);
    } finally {
      clearTimeout(timer);
    }
    isConnected = true;
    return new RedisLink(clients[0]!, clients[1]!, destroy);
  };
}

class RedisLink implements RemoteLink {
  readonly #reads: Commands;
  readonly #writes: Commands;
  readonly destroy: () => void;

  constructor(reads: Commands, writes: Commands, destroy: () => void) {
    this.#reads = reads;
    this.#writes = writes;
    this.destroy = destroy;
  }

  present(keys: readonly string[]): Promise<boolean[]> {
    return asked(all(keys.map(async (key) => (await this.#reads.exists(key)) > 0)));
  }

  get(key: string): Promise<Buffer | undefined> {
    return asked(this.#reads.get(key)).then((value) => value ?? undefined);
  }

  async set(key: string, value: Buffer, ttlMs: number): Promise<void> {
    await asked(this.#writes.set(key, value, { expiration: { type: 'PX', value: ttlMs } }));
  }

  async unlink(keys: readonly string[]): Promise<void> {
    await asked(all(keys.map((key) => this.#writes.unlink(key))));
  }

  async numbers(key: string): Promise<Map<string, number>> {
    const fields = await asked(this.#writes.hGetAll(key));
    return new Map(Object.entries(fields).map(([field, value]) => [field, Number(value.toString())]));
  }

  async add(key: string, field: string, by: number, ttlMs: number): Promise<number> {
    const sum = this.#writes.hIncrBy(key, field, by);
    const kept = this.#writes.pExpire(key, ttlMs);
    await asked(all([sum, kept]));
    return sum;
  }

  async dropNumbers(key: string, fields: readonly string[]): Promise<void> {
    await asked(this.#writes.hDel(key, [...fields]));
  }
}

function createCommands(address: RemoteAddress, files: TlsFiles, timeoutMs: number): Commands {
  const { nodes, isTls, username, password, database, masterName, kind } = address;
  const socket = {
    connectTimeout: timeoutMs,
    reconnectStrategy: false,
    ...(isTls && { tls: true as const, ...definedOnly({ ...files }) }),
  } as const;
  const common = { socket, disableOfflineQueue: true, ...definedOnly({ username, password }) };
  const { sentinelUsername, sentinelPassword } = address;
  const ofSentinel = definedOnly({ username: sentinelUsername, password: sentinelPassword });
  const commandOptions = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } };
  if (kind === 'single')
    return createClient({ ...common, commandOptions, database, socket: { ...socket, ...nodes[0]! } });
  if (kind === 'cluster') {
    return createCluster({
      rootNodes: nodes.map((node) => ({ socket: { ...socket, ...node } })),
      defaults: common,
      commandOptions,
      minimizeConnections: true,
    });
  }
  return createSentinel({
    name: masterName!,
    sentinelRootNodes: [...nodes],
    nodeClientOptions: { ...common, database },
    sentinelClientOptions: { socket, disableOfflineQueue: true, ...ofSentinel },
    commandOptions,
    passthroughClientErrorEvents: true,
  });
}

function definedOnly(texts: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(texts).flatMap(([name, text]) => (text === undefined ? [] : [[name, text]])),
  );
}

/** As `Promise.all`, and waits for all of them, so that no rejection is left over. */
async function all<T>(commands: readonly Promise<T>[]): Promise<T[]> {
  const settled = await Promise.allSettled(commands);
  return settled.map((one) => {
    if (one.status === 'rejected') throw one.reason;
    return one.value;
  });
}

async function asked<T>(reply: Promise<T>): Promise<T> {
  try {
    return await reply;
  } catch (error) {
    throw remoteError(error);
  }
}

function remoteError(error: unknown): RemoteError {
  if (error instanceof RemoteError) return error;
  if (!(error instanceof ErrorReply)) return new RemoteError('disconnected', error);
  const kind = KINDS.find(([prefix]) => prefix.test(error.message))?.[1] ?? 'refused';
  return new RemoteError(kind, error);
}

/** A client that is not connected can't be destroyed, and says so. */
function destroyQuietly(client: Commands): void {
  try {
    Promise.resolve(client.destroy()).catch(() => {});
  } catch {
    // It was not open.
  }
}
