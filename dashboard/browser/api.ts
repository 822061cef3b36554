/**
 * Asking the server that the page came from, with the API key of this tab. The key stays in the tab: it is kept in
 * `sessionStorage`, and sent to this server only.
 */
const KEY_ITEM = 'radixkv.api-key';

/** An answer that is an error; `message` is for people. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** One event of a stream. */
export interface StreamEvent<Data> {
  readonly id: number | undefined;
  readonly data: Data;
}

export class Api {
  #skewMs = 0;

  get key(): string {
    return sessionStorage.getItem(KEY_ITEM) ?? '';
  }

  set key(key: string) {
    if (key === '') sessionStorage.removeItem(KEY_ITEM);
    else sessionStorage.setItem(KEY_ITEM, key);
  }

  /** The time by the clock of the server, as its last answer told: by that its windows of time are. */
  now(): number {
    return Date.now() + this.#skewMs;
  }

  /** @throws ApiError; also what `fetch` throws. The shape of the answer is the server's word. */
  async json<Answer>(path: string, init: RequestInit = {}): Promise<Answer> {
    return (await this.#ask(path, init)).json();
  }

  async text(path: string, init: RequestInit = {}): Promise<string> {
    return (await this.#ask(path, init)).text();
  }

  post<Answer>(path: string, body: unknown): Promise<Answer> {
    const headers = { 'content-type': 'application/json' };
    return this.json(path, { method: 'POST', body: JSON.stringify(body), headers });
  }

  /** Server-sent events until the stream ends or the signal fires. `EventSource` could not send the key. */
  async *events<Data>(path: string, signal: AbortSignal): AsyncGenerator<StreamEvent<Data>, void, void> {
    const { body } = await this.#ask(path, { signal });
    if (body === null) return;
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      const frames = (rest + read.value).split('\n\n');
      rest = frames.pop() ?? '';
      for (const frame of frames) {
        const data = /^data: (.*)$/m.exec(frame)?.[1];
        const id = /^id: (\d+)$/m.exec(frame)?.[1];
        if (data !== undefined)
          yield { id: id === undefined ? undefined : Number(id), data: JSON.parse(data) };
      }
    }
  }

  /** The response, whatever its status. */
  async send(path: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    const { key } = this;
    if (key !== '') headers.set('authorization', `Bearer ${key}`);
    // Beside the page, so that it also works below a path of a proxy.
    const response = await fetch(new URL(path, document.baseURI), { ...init, headers, cache: 'no-store' });
    const told = Date.parse(response.headers.get('date') ?? '');
    if (!Number.isNaN(told)) this.#skewMs = told - Date.now();
    return response;
  }

  async #ask(path: string, init: RequestInit): Promise<Response> {
    const response = await this.send(path, init);
    if (!response.ok) throw new ApiError(response.status, await errorText(response));
    return response;
  }
}

async function errorText(response: Response): Promise<string> {
  const body: unknown = await response.json().catch(() => undefined);
  const error = typeof body === 'object' && body !== null && 'error' in body ? body.error : undefined;
  const message = typeof error === 'object' && error !== null && 'message' in error ? error.message : '';
  return typeof message === 'string' && message !== '' ? message : `The server answered ${response.status}.`;
}
