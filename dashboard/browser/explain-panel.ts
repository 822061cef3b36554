/** Asks why a prompt misses, and shows it beside what is cached. */
import { count } from '../numbers.js';
import { TIERS, type Tier } from '../readings.js';
import type { Api } from './api.js';
import { byId, html, setText } from './elements.js';
import { type Miss, missSentence } from './miss-view.js';

/** `POST /v1/cache/explain`. */
interface Explanation {
  readonly prompt_tokens: number;
  readonly cached_tokens: number;
  readonly by_tier: Readonly<Record<Tier, number>>;
  readonly divergence: Divergence | null;
}

interface Divergence extends Miss {
  readonly message: { readonly index: number; readonly role: string } | null;
  readonly common_text: string;
  readonly prompt_text: string;
  readonly cached_text: string;
}

/** What the API takes of a pasted list of messages, or of a whole request. @throws what `JSON.parse` throws */
function promptOf(text: string): Readonly<Record<string, unknown>> {
  const pasted: unknown = JSON.parse(text);
  if (Array.isArray(pasted)) return { messages: pasted };
  const body = typeof pasted === 'object' && pasted !== null ? pasted : {};
  if ('messages' in body) return { messages: body.messages };
  if ('prompt' in body) return { prompt: body.prompt };
  throw new SyntaxError('a list of messages is expected, or an object with "messages" or "prompt"');
}

function sentenceOf({ prompt_tokens: prompt, cached_tokens: cached, by_tier: by, divergence }: Explanation) {
  const tiers = TIERS.filter((tier) => by[tier] > 0).map((tier) => `${count(by[tier])} ${tier}`);
  const where = tiers.length === 0 ? '' : ` (${tiers.join(', ')})`;
  const begin = `${count(cached)} of ${count(prompt)} prompt tokens are cached${where}.`;
  if (divergence === null) return `${begin} Only the last one is computed, as always.`;
  const { message } = divergence;
  const at = message === null ? '' : `, in message ${message.index} (${message.role})`;
  return `${begin} ${missSentence(divergence, at)}`;
}

export class ExplainPanel {
  readonly #api: Api;
  readonly #messages = byId('messages', HTMLTextAreaElement);
  readonly #result = byId('explain-result', HTMLElement);
  readonly #sides = byId('sides', HTMLElement);
  #model = '';

  constructor(api: Api) {
    this.#api = api;
    byId('explain-form', HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#explain();
    });
  }

  /** The served model, whose prompts are explained. */
  set model(model: string) {
    this.#model = model;
  }

  async #explain(): Promise<void> {
    try {
      const body = { model: this.#model, ...promptOf(this.#messages.value) };
      this.#show(await this.#api.post('v1/cache/explain', body));
    } catch (error) {
      this.#sides.hidden = true;
      this.#result.classList.add('bad');
      setText(this.#result, error instanceof Error ? error.message : String(error));
    }
  }

  #show(explanation: Explanation): void {
    this.#result.classList.remove('bad');
    setText(this.#result, sentenceOf(explanation));
    const { divergence } = explanation;
    this.#sides.hidden = divergence === null;
    if (divergence === null) return;
    const { common_text: common, prompt_text: prompt, cached_text: cached } = divergence;
    byId('prompt-side', HTMLElement).replaceChildren(common, html('mark', {}, prompt));
    byId('cached-side', HTMLElement).replaceChildren(common, html('mark', {}, cached));
  }
}
