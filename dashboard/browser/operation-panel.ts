/** One operation of the API: what it takes and answers, and a form that tries it. What is inside is made when it is opened. */
import { type Resolve, type Schema, schemaText } from '../schema-text.js';
import type { Api } from './api.js';
import { html, setText } from './elements.js';

interface Parameter {
  readonly name: string;
  readonly in: 'path' | 'query' | 'header';
  readonly required?: boolean;
  readonly description?: string;
  readonly example?: string;
  readonly schema: Schema;
}

interface Media {
  readonly schema?: Schema;
  readonly 'x-itemSchema'?: Schema;
  readonly example?: unknown;
}

interface Operation {
  readonly operationId: string;
  readonly tags: readonly string[];
  readonly summary: string;
  readonly parameters?: readonly (Parameter | { readonly $ref: string })[];
  readonly requestBody?: { readonly content: Readonly<Record<string, Media>> };
  readonly responses: Readonly<
    Record<string, { readonly description: string; readonly content: Readonly<Record<string, Media>> }>
  >;
}

/** What is read of the document. */
export interface ApiDocument {
  readonly info: { readonly version: string };
  readonly tags: readonly { readonly name: string; readonly description: string }[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, Schema>>;
    readonly parameters: Readonly<Record<string, Parameter>>;
  };
}

export interface OperationEntry {
  readonly path: string;
  readonly method: string;
  readonly operation: Operation;
  /** Those by reference among them. */
  readonly parameters: readonly Parameter[];
}

/** Characters of an answer that are shown; a stream may have any number. */
const SHOWN_MAX = 100_000;

/** A text that may be longer than its place: reachable by keyboard, to scroll it. */
function region(
  label: string,
  text: string,
  attributes: Readonly<Record<string, string>> = {},
): HTMLPreElement {
  return html('pre', { tabindex: 0, role: 'region', 'aria-label': label, ...attributes }, text);
}

function mediaText({ schema, 'x-itemSchema': item }: Media, resolve: Resolve): string {
  if (item !== undefined) return `One after another: ${schemaText(item, resolve)}`;
  return schema === undefined ? '' : schemaText(schema, resolve);
}

function answers(entry: OperationEntry, resolve: Resolve): HTMLElement[] {
  const { operationId, responses } = entry.operation;
  return Object.entries(responses).flatMap(([status, { description, content }]) => [
    html('h4', {}, `${status}: ${description.replaceAll('`', '')}`),
    ...(Number(status) >= 400
      ? []
      : Object.entries(content).map(([type, media]) =>
          region(`${operationId} answers ${status} ${type}`, `${type}\n${mediaText(media, resolve)}`),
        )),
  ]);
}

/** Sends what the form says, and shows what comes as it comes. */
class Trial {
  readonly #api: Api;
  readonly #entry: OperationEntry;
  readonly #inputs = new Map<Parameter, HTMLInputElement>();
  readonly #body: HTMLTextAreaElement | undefined;
  readonly #type: string | undefined;
  readonly #state = html('p', { role: 'status' });
  readonly #answer: HTMLPreElement;
  readonly #stop = html('button', { type: 'button', disabled: '' }, 'Stop');
  #aborter = new AbortController();

  constructor(api: Api, entry: OperationEntry) {
    this.#api = api;
    this.#entry = entry;
    const { operationId, requestBody } = entry.operation;
    this.#answer = region(`Answer of ${operationId}`, '', { class: 'answer' });
    for (const parameter of entry.parameters) {
      const input = html('input', {
        type: 'text',
        id: `${operationId}-${parameter.name}`,
        spellcheck: 'false',
      });
      input.value = parameter.example ?? '';
      input.required = parameter.required === true;
      this.#inputs.set(parameter, input);
    }
    const [type, media] = Object.entries(requestBody?.content ?? {})[0] ?? [];
    this.#type = type;
    if (media === undefined) return;
    this.#body = html('textarea', { id: `${operationId}-body`, rows: 8, spellcheck: 'false' });
    this.#body.value = media.example === undefined ? '' : JSON.stringify(media.example, null, 2);
  }

  elements(): HTMLElement[] {
    const fields = [...this.#inputs].map(([{ name, in: place, required, description = '' }, input]) =>
      html(
        'div',
        { class: 'field' },
        html(
          'label',
          { for: input.id },
          `${name} (${place}${required === true ? ', required' : ''}) ${description}`,
        ),
        input,
      ),
    );
    const body =
      this.#body === undefined
        ? []
        : [html('div', {}, html('label', { for: this.#body.id }, `Body (${this.#type})`), this.#body)];
    const form = html(
      'form',
      {},
      ...fields,
      ...body,
      html('p', {}, html('button', {}, 'Send'), ' ', this.#stop),
    );
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#send();
    });
    this.#stop.addEventListener('click', () => this.#aborter.abort());
    return [form, this.#state, this.#answer];
  }

  #request(): { path: string; init: RequestInit } {
    let { path } = this.#entry;
    const query = new URLSearchParams();
    const headers = new Headers();
    for (const [{ name, in: place }, { value }] of this.#inputs) {
      if (place === 'path') path = path.replace(`{${name}}`, encodeURIComponent(value));
      else if (value !== '' && place === 'query') query.set(name, value);
      else if (value !== '') headers.set(name, value);
    }
    if (this.#type !== undefined) headers.set('content-type', this.#type);
    const method = this.#entry.method.toUpperCase();
    const search = query.size === 0 ? '' : `?${query}`;
    return {
      path: `${path.slice(1)}${search}`,
      init: { method, headers, ...(this.#body && { body: this.#body.value }) },
    };
  }

  async #send(): Promise<void> {
    this.#aborter.abort();
    const aborter = new AbortController();
    this.#aborter = aborter;
    this.#answer.replaceChildren();
    setText(this.#state, 'Sent …');
    this.#stop.disabled = false;
    const sentAt = performance.now();
    try {
      const { path, init } = this.#request();
      const response = await this.#api.send(path, { ...init, signal: aborter.signal });
      const tell = (end: string) => {
        const ms = Math.round(performance.now() - sentAt);
        setText(this.#state, `${response.status} ${response.statusText}${end} after ${ms} ms`);
      };
      tell(', begun');
      await this.#show(response);
      tell('');
    } catch (error) {
      setText(this.#state, aborter.signal.aborted ? 'Stopped' : `No answer (${String(error)})`);
    }
    if (this.#aborter === aborter) this.#stop.disabled = true;
  }

  async #show(response: Response): Promise<void> {
    const isJson = response.headers.get('content-type')?.startsWith('application/json') === true;
    if (isJson) {
      const text = JSON.stringify(await response.json(), null, 2);
      this.#answer.replaceChildren(text.slice(0, SHOWN_MAX));
      return;
    }
    if (response.body === null) return;
    let shown = 0;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      this.#answer.append(read.value.slice(0, SHOWN_MAX - shown));
      shown = Math.min(SHOWN_MAX, shown + read.value.length);
    }
  }
}

export function operationElement(api: Api, entry: OperationEntry, resolve: Resolve): HTMLDetailsElement {
  const { path, method, operation } = entry;
  const title = html('h3', {}, html('span', { class: 'method' }, method.toUpperCase()), ` ${path}`);
  const details = html(
    'details',
    { class: 'operation', id: operation.operationId },
    html('summary', {}, title, ` ${operation.summary}`),
  );
  const fill = () => {
    const media = Object.values(operation.requestBody?.content ?? {})[0];
    const takes =
      media === undefined
        ? []
        : [html('h4', {}, 'Takes'), region(`${operation.operationId} takes`, mediaText(media, resolve))];
    details.append(...new Trial(api, entry).elements(), ...takes, ...answers(entry, resolve));
  };
  details.addEventListener('toggle', fill, { once: true });
  return details;
}
