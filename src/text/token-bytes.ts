/**
 * The bytes that each token stands for, by the `decoder` of a `tokenizer.json`.
 *
 * Two families: byte-level (each character of a piece is one byte, GPT-2's table) and SentencePiece (`▁` is a space,
 * `<0x0A>` a byte). A token has the same bytes wherever it stands: the space that SentencePiece puts before the first
 * word is not removed, since generated text continues a prompt.
 */
import { RadixkvError } from '../errors.js';
import { flattenSteps, type Step } from './tokenizer-json.js';

/** Piece of the vocabulary → bytes. */
export type PieceBytes = (piece: string) => Uint8Array;

/**
 * @throws RadixkvError `unsupported_model` for decoders of other families.
 */
export function createPieceBytes(decoder: Step | null | undefined): PieceBytes {
  const types = flattenSteps(decoder, 'decoders').map((step) => step.type);
  if (types.length === 1 && types[0] === 'ByteLevel') return byteLevelBytes;
  const sentencePiece = types.every((type) =>
    ['Replace', 'ByteFallback', 'Fuse', 'Strip', 'Metaspace'].includes(type),
  );
  if (types.length > 0 && sentencePiece) return sentencePieceBytes;
  throw new RadixkvError(
    'unsupported_model',
    `tokenizer decoder is not supported: ${types.join(', ') || 'none'}`,
  );
}

const utf8 = new TextEncoder();

/** GPT-2's table: printable Latin-1 bytes are themselves, the others follow from U+0100 in order. */
const CHARACTER_OF_BYTE: readonly string[] = (() => {
  let shifted = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173);
    return String.fromCharCode(printable ? byte : shifted++);
  });
})();
const BYTE_OF_CHARACTER = new Map(CHARACTER_OF_BYTE.map((character, byte) => [character, byte]));

/** A text as the byte characters of its UTF-8 bytes, the spelling that byte-level vocabularies use. */
export function byteCharacters(text: string): string {
  let characters = '';
  for (const byte of utf8.encode(text)) characters += CHARACTER_OF_BYTE[byte];
  return characters;
}

function byteLevelBytes(piece: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of piece) {
    const byte = BYTE_OF_CHARACTER.get(character);
    // A piece outside the table was added as plain text.
    if (byte === undefined) return utf8.encode(piece);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

function sentencePieceBytes(piece: string): Uint8Array {
  const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(piece);
  return byte === null
    ? utf8.encode(piece.replaceAll('\u2581', ' '))
    : Uint8Array.of(Number.parseInt(byte[1]!, 16));
}
