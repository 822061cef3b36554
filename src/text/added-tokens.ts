/**
 * Added tokens (control tokens and others that are matched as a whole), and how user text is kept from spelling them.
 *
 * Messages go through a chat template before they are tokenised, so what a user typed and what the template wrote end
 * up in one string. A marker is therefore put into every control-token spelling inside user text: it breaks the
 * spelling, goes through the template with its text, and is removed after the rendered string was split at control
 * tokens. The marker is a run of a Unicode noncharacter longer than any run of it in the text, so removing it never
 * removes what a user wrote.
 */
import type { AddedToken } from './tokenizer-json.js';

export interface Section {
  readonly text: string;
  /** The added token that `text` spells; absent for ordinary text. */
  readonly token?: number;
}

export class AddedTokens {
  readonly #pattern: RegExp | undefined;
  readonly #tokens: ReadonlyMap<string, AddedToken>;

  constructor(tokens: readonly AddedToken[]) {
    this.#tokens = new Map(tokens.map((token) => [token.content, token]));
    this.#pattern = alternation([...this.#tokens.keys()]);
  }

  /** Splits text at added tokens: the leftmost first, and the longest of those that begin there. */
  split(text: string): Section[] {
    if (this.#pattern === undefined) return text === '' ? [] : [{ text }];
    const sections: Section[] = [];
    let end = 0;
    let trimNext = false;
    const addText = (raw: string, trimEnd: boolean): void => {
      const left = trimNext ? raw.trimStart() : raw;
      const trimmed = trimEnd ? left.trimEnd() : left;
      if (trimmed !== '') sections.push({ text: trimmed });
    };
    for (const match of text.matchAll(this.#pattern)) {
      const token = this.#tokens.get(match[0])!;
      addText(text.slice(end, match.index), token.lstrip === true);
      sections.push({ text: match[0], token: token.id });
      trimNext = token.rstrip === true;
      end = match.index + match[0].length;
    }
    addText(text.slice(end), false);
    return sections;
  }
}

/** A marker that none of the texts contains, not even as a part of a longer run. */
export function chooseMarker(texts: readonly string[]): string {
  let longest = 0;
  for (const text of texts) {
    for (const run of text.match(/\ufdd0+/g) ?? []) longest = Math.max(longest, run.length);
  }
  return '\ufdd0'.repeat(longest + 1);
}

/** Puts the marker after the first character of every spelling in the text, overlapping ones included. */
export function breakSpellings(text: string, spellings: readonly string[], marker: string): string {
  const pattern = alternation(spellings);
  if (pattern === undefined) return text;
  let broken = '';
  let end = 0;
  for (let match = pattern.exec(text); match !== null; match = pattern.exec(text)) {
    const first = String.fromCodePoint(match[0].codePointAt(0)!).length;
    broken += text.slice(end, match.index + first) + marker;
    end = match.index + first;
    pattern.lastIndex = end;
  }
  return broken + text.slice(end);
}

/** Matches any of the spellings, the longest first. */
function alternation(spellings: readonly string[]): RegExp | undefined {
  const longestFirst = spellings.filter((spelling) => spelling !== '').sort((a, b) => b.length - a.length);
  if (longestFirst.length === 0) return undefined;
  return new RegExp(
    longestFirst.map((spelling) => spelling.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')).join('|'),
    'g',
  );
}
