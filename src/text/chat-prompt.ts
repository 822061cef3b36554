/**
 * Chat messages and documents → prompt tokens, such that nothing inside them becomes a control token.
 *
 * The one place where template and tokenizer meet. A control-token spelling that only arises when a template joins
 * pieces of several messages, or deletes text from within one, is not recognised as the user's; no template known to
 * us does that.
 */
import { RadixkvError } from '../errors.js';
import type { ChatMessage } from '../serving/completion.js';
import { breakSpellings, chooseMarker } from './added-tokens.js';
import type { ChatTemplate, RenderOptions } from './chat-template.js';
import type { DocumentTemplate, DocumentText } from './document-template.js';
import { type LocatedSegment, locateSegments } from './locate.js';
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
  return encode(tokenizer, messages, [], (shielded) => template.render(shielded, options));
}

/** A prompt with documents: its tokens, each document's tokens alone, and where these stand in the prompt. */
export interface DocumentPrompt {
  readonly tokens: Int32Array;
  readonly segments: readonly Int32Array[];
  readonly located: readonly LocatedSegment[];
}

/**
 * As `encodeChat`, with documents: passed to a template that reads them, else written at the beginning of the first
 * message of a user.
 *
 * @throws RadixkvError `invalid_value` for `messages` when the template refuses them; for `documents` when no user
 * asks about them.
 */
export function encodeDocuments(
  parts: {
    readonly tokenizer: Tokenizer;
    readonly template: ChatTemplate;
    readonly documentTemplate: DocumentTemplate;
  },
  messages: readonly ChatMessage[],
  documents: readonly DocumentText[],
  options: RenderOptions,
): DocumentPrompt {
  const { tokenizer, template, documentTemplate } = parts;
  const asker = messages.findIndex(({ role }) => role === 'user');
  if (asker < 0 && !template.knowsDocuments) {
    throw new RadixkvError('invalid_value', 'documents need a message of a user', { param: 'documents' });
  }
  const tokens = encode(tokenizer, messages, documents, (shielded, read) => {
    if (template.knowsDocuments) {
      return template.render(shielded, { ...options, variables: { ...options.variables, documents: read } });
    }
    const written = read.map((document) => documentTemplate.render(document)).join('');
    const withDocuments = shielded.map((message, i) =>
      i === asker ? { ...message, content: written + message.content } : message,
    );
    return template.render(withDocuments, options);
  });
  const segments = documents.map((document) => segmentTokens(parts, document));
  return { tokens, segments, located: locateSegments(tokens, segments) };
}

/** The tokens of a document alone. */
export function segmentTokens(
  parts: {
    readonly tokenizer: Tokenizer;
    readonly template: ChatTemplate | undefined;
    readonly documentTemplate: DocumentTemplate;
  },
  document: DocumentText,
): Int32Array {
  const { tokenizer, template, documentTemplate } = parts;
  return tokenizer.encodeText(template?.knowsDocuments ? document.text : documentTemplate.render(document));
}

function encode(
  tokenizer: Tokenizer,
  messages: readonly ChatMessage[],
  documents: readonly DocumentText[],
  render: (messages: readonly ChatMessage[], documents: readonly DocumentText[]) => string,
): Int32Array {
  const texts = messages.flatMap(({ content, name }) => (name === undefined ? [content] : [content, name]));
  const read = documents.flatMap(({ title, text }) => (title === undefined ? [text] : [text, title]));
  const marker = chooseMarker([...texts, ...read]);
  const shield = (text: string): string => breakSpellings(text, tokenizer.controlSpellings, marker);
  const shielded = messages.map(({ role, content, name }) => ({
    role,
    content: shield(content),
    ...(name === undefined ? {} : { name: shield(name) }),
  }));
  const shieldedDocuments = documents.map(({ title, text }) => ({
    title: title === undefined ? undefined : shield(title),
    text: shield(text),
  }));
  const tokens = tokenizer.encodeRendered(render(shielded, shieldedDocuments), marker);
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
