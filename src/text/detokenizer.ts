/**
 * Streaming detokenisation: tokens in, whole UTF-8 characters out.
 *
 * Invariant: the pieces joined equal the text of all tokens at once; bytes that end within a character are held back
 * until the character is whole or known to be invalid (then U+FFFD). Tokens whose text is not out yet are remembered,
 * so that each emitted piece knows the tokens that made it.
 */

/** What a detokenizer needs of a tokenizer. */
export interface TokenBytes {
  readonly controlTokens: ReadonlySet<number>;
  tokenBytes(token: number): Uint8Array;
}

export class StreamingDetokenizer {
  readonly #tokens: TokenBytes;
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  #pending: number[] = [];
  #settled: number[] = [];

  constructor(tokens: TokenBytes) {
    this.#tokens = tokens;
  }

  /** The text that this token completes; `''` while a character is open, and for control tokens. */
  push(token: number): string {
    this.#pending.push(token);
    if (this.#tokens.controlTokens.has(token)) return '';
    return this.#settle(this.#decoder.decode(this.#tokens.tokenBytes(token), { stream: true }));
  }

  /** The text left at the end: U+FFFD for a character that never became whole. */
  flush(): string {
    const text = this.#settle(this.#decoder.decode());
    this.#settled.push(...this.#pending.splice(0));
    return text;
  }

  /**
   * Takes the tokens of the text emitted since the last call, in order. A token that ends within a character belongs
   * to the piece that completes it; a token without text to the next piece, or to the last one at `flush`.
   */
  takeTokens(): number[] {
    return this.#settled.splice(0);
  }

  #settle(text: string): string {
    if (text !== '') this.#settled.push(...this.#pending.splice(0));
    return text;
  }
}
