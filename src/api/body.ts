/**
 * Reads a JSON request body, whatever the client sends.
 *
 * The bytes are bounded, and so are the numbers of JSON values and fields: eight megabytes of text parse in milliseconds, but of
 * `[[[[` or `"a":1,` in seconds, in which the event loop would serve nobody.
 */
import express, { type Request, type Response } from 'express';
import { RadixkvError } from '../errors.js';
import type { Limits } from './limits.js';

/**
 * The parsed body, of any JSON type.
 *
 * Rejects with `unsupported_media_type`, `invalid_json`, `body_too_large`, or the reader's own error for a body that
 * is too large, broken or cut off.
 */
export type BodyReader = (req: Request, res: Response) => Promise<unknown>;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
/** Each value but the first of its list or object follows a comma; each list or object opens once: `,` `[` `{`. */
const BEGINS_VALUE = new Set([0x2c, 0x5b, 0x7b]);

/** Why the JSON text is too much work to parse, if it is. One pass, no allocation. */
function excess(json: Uint8Array, { jsonValuesMax, jsonFieldsMax }: Limits): string | undefined {
  let values = 0;
  let fields = 0;
  let inString = false;
  for (let at = 0; at < json.length; at++) {
    const byte = json[at]!;
    if (inString) {
      if (byte === BACKSLASH) at++;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) inString = true;
    else if (byte === COLON && ++fields > jsonFieldsMax) return `more than ${jsonFieldsMax} fields`;
    else if (BEGINS_VALUE.has(byte) && ++values > jsonValuesMax) return `more than ${jsonValuesMax} values`;
  }
  return undefined;
}

/**
 * One JSON text, whose work is bounded.
 * @throws RadixkvError `invalid_json`, `body_too_large`
 */
export function parseJson(json: Buffer, limits: Limits): unknown {
  if (json.length === 0) throw new RadixkvError('invalid_json', 'The request body is empty.');
  const tooMuch = excess(json, limits);
  if (tooMuch !== undefined) throw new RadixkvError('body_too_large', `The request body has ${tooMuch}.`);
  try {
    return JSON.parse(json.toString('utf8'));
  } catch {
    // The parser's message quotes the body, which must not reach a log.
    throw new RadixkvError('invalid_json', 'The request body is not valid JSON.');
  }
}

function isUtf8Json(req: Request): boolean {
  if (req.is('application/json') === false) return false;
  const charset = /;\s*charset\s*=\s*"?([^\s;"]+)/i.exec(req.get('content-type') ?? '')?.[1] ?? 'utf-8';
  return /^(utf-?8|us-ascii)$/i.test(charset);
}

export function createBodyReader(limits: Limits): BodyReader {
  const readBytes = express.raw({ limit: limits.bodyBytesMax, type: () => true });
  return async (req, res) => {
    if (!isUtf8Json(req)) {
      throw new RadixkvError(
        'unsupported_media_type',
        'The content-type must be application/json, in UTF-8.',
      );
    }
    await new Promise<void>((resolve, reject) => {
      readBytes(req, res, (error?: unknown) => {
        if (error === undefined) resolve();
        else reject(error);
      });
    });
    return parseJson(Buffer.isBuffer(req.body) ? req.body : Buffer.alloc(0), limits);
  };
}
