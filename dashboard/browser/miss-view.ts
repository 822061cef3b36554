/** Why a prompt left what was cached, in words and side by side. */
import { count } from '../numbers.js';
import { html } from './elements.js';

export interface Miss {
  readonly token: number;
  readonly reason: 'nothing_cached' | 'cached_ends' | 'other_text' | 'not_ready';
  readonly looks_like: string | null;
}

const REASONS: Readonly<Record<Miss['reason'], string>> = {
  nothing_cached: 'nothing that begins like this is cached',
  cached_ends: 'the cached sequence ends here',
  other_text: 'other text is cached from here on',
  not_ready: 'it is known, but can not be reused yet',
};

/** @param where in which message the token lies */
export function missSentence({ token, reason, looks_like: look }: Miss, where = ''): string {
  const like = look === null ? '' : `; it looks like ${look.replaceAll('_', ' ')}`;
  return `At token ${count(token)}${where}: ${REASONS[reason]}${like}.`;
}

/** Both texts, each with what they have in common before it. */
export function missSides(common: string, prompt: string, cached: string): HTMLElement {
  const side = (name: string, text: string) =>
    html(
      'div',
      {},
      html('h3', {}, name),
      html('pre', { tabindex: 0, role: 'region', 'aria-label': name }, common, html('mark', {}, text)),
    );
  return html('div', { class: 'sides' }, side('This prompt', prompt), side('What was cached', cached));
}
