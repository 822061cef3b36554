/**
 * Chat messages → prompt tokens, such that nothing inside a message becomes a control token.
 *
 * The one place where template and tokenizer meet. A control-token spelling that only arises when a template joins
 * pieces of several messages, or deletes text from within one, is not recognised as the user's; no template known to
 * us does that.
 */
import type { ChatMessage } from '../serving/completion.js';
import { breakSpellings, chooseMarker } from './added-tokens.js';
import type { ChatTemplate, RenderOptions } from './chat-template.js';
import type { Tokenizer } from './tokenizer.js';

/**
 * Tokens of the rendered messages, beginning with `bos` where the model's sequences do (once, whether or not the
 * template writes it).
 *
 * @throws RadixkvError `invalid_value` for `messages` when the template refuses them.
 */
export function encodeChat(
  tokenizer: Tokenizer,
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  options: RenderOptions,
): Int32Array {
  const marker = chooseMarker(
    messages.flatMap(({ content, name }) => (name === undefined ? [content] : [content, name])),
  );
  const shield = (text: string): string => breakSpellings(text, tokenizer.controlSpellings, marker);
  const shielded = messages.map(({ role, content, name }) => ({
    role,
    content: shield(content),
    ...(name === undefined ? {} : { name: shield(name) }),
  }));
  const tokens = tokenizer.encodeRendered(template.render(shielded, options), marker);
  if (!tokenizer.addBos || tokens[0] === tokenizer.bos) return tokens;
  return withBos(tokenizer, tokens);
}

/** The tokens behind the one that begins a sequence. */
export function withBos(tokenizer: Tokenizer, tokens: Int32Array): Int32Array {
  const all = new Int32Array(tokens.length + 1);
  all[0] = tokenizer.bos!;
  all.set(tokens, 1);
  return all;
}
