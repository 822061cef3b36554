/**
 * A Hub on the loopback interface: revision lists, files with ranges, and the faults a test asks for.
 *
 * Small files are served by the endpoint itself; files in large-file storage by a redirect to a second origin.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';

export const COMMIT = '0123456789abcdef0123456789abcdef01234567';

export interface ServedFile {
  readonly bytes: Buffer;
  /** Listed with a checksum and served from the storage origin. */
  readonly large?: boolean;
  /** Overrides what the list says. */
  readonly listedSha256?: string;
  readonly listedSize?: number | null;
}

/**
 * What happens to one request instead of the right answer; faults are used up in order. `dropAfter` sends so many
 * bytes and breaks the connection when the client has `stored` them; `endAfter` sends so many and no length, as if
 * they were all; `wrong-range` resumes at another byte.
 */
type Fault =
  | { readonly status: number; readonly retryAfter?: number }
  | { readonly dropAfter: number }
  | { readonly endAfter: number }
  | 'ignore-range'
  | 'wrong-range';

interface Held {
  readonly dropAt: number;
  readonly response: ServerResponse;
}

interface SeenRequest {
  readonly origin: 'endpoint' | 'storage';
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

export interface HubServer {
  readonly endpoint: URL;
  readonly seen: SeenRequest[];
  /** Faults of file downloads and of the revision list. */
  readonly fileFaults: Fault[];
  readonly listFaults: Fault[];
  /** Breaks the connection that was to drop at this byte of its file, now that the client has stored it. */
  stored(bytes: number): void;
  close(): Promise<void>;
}

/** Serves `repo` at `main` and at its commit. */
export async function startHub(
  repo: string,
  files: Readonly<Record<string, ServedFile>>,
): Promise<HubServer> {
  const seen: SeenRequest[] = [];
  const fileFaults: Fault[] = [];
  const listFaults: Fault[] = [];
  const held: Held[] = [];
  const storage = createServer((request, response) => {
    record('storage', request);
    sendFile(
      request,
      response,
      files[decodeURIComponent(request.url!.slice('/blob/'.length))],
      fileFaults.shift(),
      held,
    );
  });
  const storageOrigin = await listen(storage);
  const main = createServer((request, response) => {
    record('endpoint', request);
    const { pathname, searchParams } = new URL(request.url!, 'http://hub');
    const list = new RegExp(`^/api/models/${repo}/revision/(main|${COMMIT})$`).test(pathname);
    const file = pathname.startsWith(`/${repo}/resolve/${COMMIT}/`)
      ? decodeURIComponent(pathname.slice(`/${repo}/resolve/${COMMIT}/`.length))
      : undefined;
    if (list && searchParams.get('blobs') === 'true') sendList(response, files, listFaults.shift());
    else if (file !== undefined && files[file]?.large === true) {
      response.writeHead(302, { location: `${storageOrigin}/blob/${encodeURIComponent(file)}` }).end();
    } else if (file === undefined) response.writeHead(404).end();
    else sendFile(request, response, files[file], fileFaults.shift(), held);
  });
  const endpoint = new URL(await listen(main));
  return {
    endpoint,
    seen,
    fileFaults,
    listFaults,
    stored: (bytes) => {
      for (const { dropAt, response } of held) if (bytes >= dropAt) response.destroy();
    },
    close: async () => {
      for (const server of [main, storage]) {
        server.closeAllConnections();
        await new Promise((done) => server.close(done));
      }
    },
  };

  function record(origin: SeenRequest['origin'], request: IncomingMessage): void {
    const { range, authorization } = request.headers;
    seen.push({ origin, path: request.url!, range, authorization });
  }
}

export function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function sendList(
  response: ServerResponse,
  files: Readonly<Record<string, ServedFile>>,
  fault: Fault | undefined,
): void {
  if (typeof fault === 'object' && 'status' in fault) {
    response.writeHead(fault.status, { 'retry-after': String(fault.retryAfter ?? '') }).end();
    return;
  }
  const siblings = Object.entries(files).map(([rfilename, file]) => ({
    rfilename,
    size: file.listedSize === undefined ? file.bytes.length : file.listedSize,
    ...(file.large === true && {
      lfs: { sha256: file.listedSha256 ?? sha256(file.bytes), size: file.bytes.length },
    }),
  }));
  response.setHeader('content-type', 'application/json').end(JSON.stringify({ sha: COMMIT, siblings }));
}

function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  file: ServedFile | undefined,
  fault: Fault | undefined,
  held: Held[],
): void {
  if (file === undefined) {
    response.writeHead(404).end();
    return;
  }
  if (typeof fault === 'object' && 'status' in fault) {
    response.writeHead(fault.status).end();
    return;
  }
  const total = file.bytes.length;
  const range = fault === 'ignore-range' ? undefined : /^bytes=(\d+)-$/.exec(request.headers.range ?? '');
  const start = fault === 'wrong-range' ? 1 : Number(range?.[1] ?? 0);
  if (range != null && start >= total) {
    response.writeHead(416, { 'content-range': `bytes */${total}` }).end();
    return;
  }
  const body = file.bytes.subarray(start);
  if (typeof fault === 'object' && 'endAfter' in fault) {
    response.writeHead(200).end(body.subarray(0, fault.endAfter));
    return;
  }
  const partial = range != null && { 'content-range': `bytes ${start}-${total - 1}/${total}` };
  response.writeHead(range == null ? 200 : 206, { 'content-length': body.length, ...partial });
  if (typeof fault !== 'object') response.end(body);
  else {
    // A client may lose what it has not read when a connection breaks, so break it after it told us.
    held.push({ dropAt: start + fault.dropAfter, response });
    response.write(body.subarray(0, fault.dropAfter));
  }
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  return `http://127.0.0.1:${address.port}`;
}
