/**
 * Where a Redis or Valkey is, as a URL:
 *
 * | URL                                               | what                                           |
 * |---------------------------------------------------|------------------------------------------------|
 * | `redis://user:password@host:6379/0`               | one server, and the number of its database     |
 * | `redis+sentinel://user:password@a:26379,b/name/0` | the master that these Sentinels know by `name` |
 * | `redis+cluster://user:password@a:6379,b:6379`     | a Cluster, found by any of these nodes         |
 *
 * Sentinels that ask for a password have it after the rest: `?sentinel=user:password`.
 *
 * `rediss` instead of `redis` is TLS. Names and passwords are percent-encoded. Knows no client.
 */

export interface RemoteAddress {
  readonly kind: 'single' | 'sentinel' | 'cluster';
  readonly nodes: readonly { readonly host: string; readonly port: number }[];
  readonly isTls: boolean;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly database: number;
  /** Of Sentinel: what it calls the master, and what it asks for itself. */
  readonly masterName: string | undefined;
  readonly sentinelUsername: string | undefined;
  readonly sentinelPassword: string | undefined;
}

const URL_PARTS =
  /^(redis|valkey)(s?)(?:\+(sentinel|cluster))?:\/\/(?:([^@/]*)@)?([^@/?#]+)(?:\/([^?#]*))?(?:\?sentinel=([^&#]*))?$/;
const NODE = /^(\[[0-9a-fA-F:.]+\]|[^:\s[\]]+)(?::(\d{1,5}))?$/;
const PORT = 6379;
const SENTINEL_PORT = 26_379;
const DATABASE_MAX = 65_535;

/** Undefined when the text is no such URL. */
export function parseRemoteAddress(text: string): RemoteAddress | undefined {
  const [, , tls, kind = 'single', credentials, hosts, path = '', ofSentinel] = URL_PARTS.exec(text) ?? [];
  if (hosts === undefined || !isKind(kind)) return undefined;
  const nodes = hosts.split(',').map((node) => nodeOf(node, kind === 'sentinel' ? SENTINEL_PORT : PORT));
  const [username, password] = credentials === undefined ? [] : credentialsOf(credentials);
  const [sentinelUsername, sentinelPassword] = ofSentinel === undefined ? [] : credentialsOf(ofSentinel);
  const segments = path.split('/').filter((segment) => segment !== '');
  const masterName = kind === 'sentinel' ? segments.shift() : undefined;
  const [database = '0', ...rest] = segments;
  const isSound =
    nodes.every((node) => node !== undefined) &&
    (kind !== 'single' || nodes.length === 1) &&
    (kind !== 'sentinel' || masterName !== undefined) &&
    (kind !== 'cluster' || segments.length === 0) &&
    rest.length === 0 &&
    /^\d{1,5}$/.test(database) &&
    Number(database) <= DATABASE_MAX &&
    (credentials === undefined || password !== undefined) &&
    (ofSentinel === undefined || (kind === 'sentinel' && sentinelPassword !== undefined));
  if (!isSound) return undefined;
  return {
    kind,
    nodes: nodes.filter((node) => node !== undefined),
    isTls: tls === 's',
    username: username === '' ? undefined : username,
    password,
    database: Number(database),
    masterName,
    sentinelUsername: sentinelUsername === '' ? undefined : sentinelUsername,
    sentinelPassword,
  };
}

/** The address without name and password, to be shown. */
export function shownAddress({ kind, nodes, isTls, database, masterName }: RemoteAddress): string {
  const scheme = `redis${isTls ? 's' : ''}${kind === 'single' ? '' : `+${kind}`}`;
  const hosts = nodes.map(({ host, port }) => `${host.includes(':') ? `[${host}]` : host}:${port}`);
  const name = masterName === undefined ? '' : `/${masterName}`;
  return `${scheme}://${hosts.join(',')}${name}${database === 0 ? '' : `/${database}`}`;
}

function isKind(text: string): text is RemoteAddress['kind'] {
  return text === 'single' || text === 'sentinel' || text === 'cluster';
}

function nodeOf(text: string, defaultPort: number): { host: string; port: number } | undefined {
  const [, host, digits] = NODE.exec(text) ?? [];
  const port = digits === undefined ? defaultPort : Number(digits);
  if (host === undefined || port < 1 || port > 65_535) return undefined;
  return { host: host.replace(/^\[|\]$/g, ''), port };
}

/** Name and password; a text without a colon is the name, which is not enough. */
function credentialsOf(text: string): string[] {
  const colon = text.indexOf(':');
  try {
    const parts = colon < 0 ? [text] : [text.slice(0, colon), text.slice(colon + 1)];
    return parts.map(decodeURIComponent);
  } catch {
    return [];
  }
}
