/**
 * Passages as bytes at rest, and what tells equal ones: in clear, or under the key that chunks are encrypted with.
 *
 * Encrypted, a row is seal ‖ sealed JSON and belongs to its namespace and id; its content is a keyed hash, so that it
 * can't be guessed from a list of texts. The key is derived, not the one of the chunks itself.
 */
import { createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { ChunkCipher, CIPHER_KEY_BYTES, SEAL_BYTES } from '#storage';
import type { Passage } from '../serving/passages.js';
import type { DocumentName } from './document.js';

const PURPOSE = 'radixkv-documents';

/** Of passages in clear. */
const NO_KEY_ID = new Uint8Array();

export class PassageCodec {
  readonly #cipher: ChunkCipher | undefined;
  readonly #hashKey: Uint8Array;

  constructor(encryptionKey: Uint8Array | undefined) {
    const derived = (purpose: string) =>
      new Uint8Array(hkdfSync('sha256', encryptionKey ?? '', '', purpose, CIPHER_KEY_BYTES));
    this.#hashKey = derived(`${PURPOSE}-content`);
    if (encryptionKey !== undefined) this.#cipher = new ChunkCipher(derived(PURPOSE), randomBytes);
  }

  /** Rows of another key can't be read. */
  get keyId(): Uint8Array {
    return this.#cipher?.keyId ?? NO_KEY_ID;
  }

  /** 32 bytes, equal for equal passages. */
  contentOf(passage: Passage): Uint8Array {
    return createHmac('sha256', this.#hashKey).update(json(passage)).digest();
  }

  /** Of the passage at rest. */
  bytesOf(passage: Passage): number {
    return json(passage).length + (this.#cipher === undefined ? 0 : SEAL_BYTES);
  }

  encode(passage: Passage, owner: DocumentName): Buffer {
    if (this.#cipher === undefined) return json(passage);
    const { seal, sealed } = this.#cipher.seal(json(passage), context(owner));
    return Buffer.concat([seal, sealed]);
  }

  /** Undefined when the bytes are not what was encoded for this owner with this key. */
  decode(bytes: Uint8Array, owner: DocumentName): Passage | undefined {
    const plain =
      this.#cipher === undefined
        ? Buffer.from(bytes)
        : this.#cipher.open(bytes.subarray(0, SEAL_BYTES), bytes.subarray(SEAL_BYTES), context(owner));
    return plain && parsed(plain.toString('utf8'));
  }
}

function json({ title, text }: Passage): Buffer {
  return Buffer.from(JSON.stringify([title ?? null, text]));
}

function parsed(text: string): Passage | undefined {
  try {
    const [title, passage]: unknown[] = JSON.parse(text);
    if (typeof passage !== 'string') return undefined;
    return { title: typeof title === 'string' ? title : undefined, text: passage };
  } catch {
    return undefined;
  }
}

function context({ namespace, id }: DocumentName): Buffer {
  return Buffer.from(`${namespace} ${id}`);
}
