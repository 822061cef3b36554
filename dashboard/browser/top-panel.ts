/** The prefixes, or documents, of which most tokens were reused. */
import { count } from '../numbers.js';
import { SAVERS_MAX } from '../pace.js';
import type { Saver, Savers } from '../readings.js';
import type { Api } from './api.js';
import { byId, html, setText } from './elements.js';

function nameOf({ id, start, text, tenant }: Saver): string {
  const where = id ?? (start === 0 ? '' : `from token ${count(start)}`);
  return [tenant, where, text?.replaceAll(/\s+/g, ' ') ?? '(no text kept)']
    .filter((part) => part !== '')
    .join(': ');
}

function rowOf(saver: Saver): HTMLTableRowElement {
  const used = new Date(saver.used_at * 1000).toLocaleTimeString();
  return html(
    'tr',
    {},
    html('th', { scope: 'row', class: 'excerpt' }, nameOf(saver)),
    ...[count(saver.tokens_saved), count(saver.hits), used].map((cell) => html('td', {}, cell)),
  );
}

export class TopPanel {
  readonly #api: Api;
  readonly #rows = byId('top-rows', HTMLElement);
  readonly #what = byId('top-what', HTMLElement);

  constructor(api: Api, onChange: () => void) {
    this.#api = api;
    byId('top-by', HTMLFieldSetElement).addEventListener('change', onChange);
  }

  async load(signal: AbortSignal): Promise<void> {
    const by = document.querySelector<HTMLInputElement>('input[name=top]:checked')?.value ?? 'prefix';
    const { data } = await this.#api.json<Savers>(`v1/cache/top?by=${by}&limit=${SAVERS_MAX}`, { signal });
    setText(this.#what, by === 'prefix' ? 'Prefix' : 'Document');
    this.#rows.replaceChildren(...data.map(rowOf));
  }
}
