/** Blends on the toy transformer: what a cache would hold, and plans computed tile by tile. */
import {
  type BlendTile,
  planBlend,
  positionMask,
  type ReusedSpan,
  type SegmentLayout,
  type TokenRange,
} from '#blend';
import {
  concat,
  gather,
  type Kv,
  mapKv,
  NO_KV,
  poison,
  ROW_WIDTH,
  type ToyTransformer,
} from './toy-transformer.js';

/** KV of all tokens as the cache has it: prefix exact, segments computed alone and moved, new tokens poisoned. */
export function cachedKv(model: ToyTransformer, tokens: readonly number[], layout: SegmentLayout): Kv {
  let cached = model.prefillAll(tokens.slice(0, layout.prefixTokens)).kv;
  const spans = [...layout.reused, ...layout.newSpans].sort((a, b) => a.start - b.start);
  for (const span of spans) cached = concat(cached, spanKv(model, tokens, span));
  return cached;
}

function spanKv(model: ToyTransformer, tokens: readonly number[], span: ReusedSpan | TokenRange): Kv {
  if (!('segmentStart' in span)) return poison(span.end - span.start);
  const behind = span.start - span.segmentStart;
  const alone = model.prefillAll(tokens.slice(span.segmentStart, span.end), span.storedStart - behind).kv;
  const { keys, values } = gather(alone, ascending(behind, span.end - span.segmentStart));
  return { keys: keys.map((rows) => model.rotate(rows, span.start - span.storedStart)), values };
}

export interface Blend {
  /** Positions computed, `[rows]`, and what was computed there. */
  readonly rows: Int32Array;
  readonly logits: readonly (readonly number[])[];
  readonly kv: Kv;
}

/** Computes a plan tile by tile, as an engine would. */
export function blend(
  model: ToyTransformer,
  prompt: { readonly tokens: readonly number[]; readonly layout: SegmentLayout; readonly cached: Kv },
  chosen: Int32Array,
  options: { readonly tileRows?: number; readonly maskOf?: (tile: BlendTile) => Float32Array } = {},
): Blend {
  const { tileRows = 4, maskOf = ({ rows, keys }) => positionMask(rows, keys) } = options;
  const plan = planBlend(prompt.layout, chosen, { tileRows });
  let past = NO_KV;
  let kv = NO_KV;
  const logits: (readonly number[])[] = [];
  for (const tile of plan.tiles) {
    const mask = maskOf(tile);
    const tokens = Array.from(tile.rows, (position) => prompt.tokens[position]!);
    past = concat(past, gather(prompt.cached, tile.past));
    const rows = { tokens, positions: tile.rows, past };
    const computed = model.prefill(rows, (row, key) => mask[row * tile.keys.length + key] === 0);
    past = concat(past, computed.kv);
    kv = concat(kv, computed.kv);
    logits.push(...computed.logits);
  }
  return { rows: plan.rows, logits, kv };
}

/** The same rows, but with poison in place of some. */
export function poisoned(kv: Kv, positions: Int32Array): Kv {
  return mapKv(kv, (rows) =>
    rows.map((value, at) => (positions.includes(Math.floor(at / ROW_WIDTH)) ? 1000 : value)),
  );
}

const ascending = (start: number, end: number): Int32Array =>
  Int32Array.from({ length: end - start }, (_, i) => start + i);
