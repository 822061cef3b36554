/**
 * Writes a model's tensors into the weights file in the form the graphs read, and remembers that form.
 *
 * Matrices that share an input are joined (query, key and value; gate and up), so that a graph multiplies them in
 * one node; matrices whose quantised forms differ (some K-quant files mix types) stay apart and are concatenated
 * after the product. A block matrix becomes codes `{id}.q` uint8 `[rows, blocks, bytes]`, scales `{id}.s` float32
 * `[rows * blocks]` and, where it has them, offsets `{id}.o` float32 `[blocks, rows]`; a dense one becomes `{id}.w`
 * float32 `[cols, rows]`.
 */
import type { WeightsOption } from '../../config/options.js';
import type { WeightFile } from '../onnx/weight-file.js';
import { quantiseBlocks } from '../quantise.js';
import type { BlockMatrix, DenseMatrix, LinearMatrix, WeightSource } from '../weights.js';

const BLOCK_SIZE = 32;

/** How one matrix of the weights file is stored. */
export type StoredMatrix =
  | { readonly id: string; readonly kind: 'dense'; readonly rows: number; readonly cols: number }
  | {
      readonly id: string;
      readonly kind: 'blocks';
      readonly rows: number;
      readonly cols: number;
      readonly bits: 4 | 8;
      readonly blockSize: number;
      readonly hasOffsets: boolean;
    };

/** Everything the graph builders need to know of the weights file. */
export interface StoredWeights {
  /** Parts of a product, whose rows follow one another, by the name of the product. */
  readonly products: ReadonlyMap<string, readonly StoredMatrix[]>;
  readonly embedding: StoredMatrix;
  readonly file: WeightFile;
}

/** Products of layer `i`: what is joined, and under which name. */
export const layerProducts = (layer: number): Record<'qkv' | 'attnOutput' | 'gateUp' | 'down', string[]> => {
  const of = (part: string) => `blk.${layer}.${part}.weight`;
  return {
    qkv: [of('attn_q'), of('attn_k'), of('attn_v')],
    attnOutput: [of('attn_output')],
    gateUp: [of('ffn_gate'), of('ffn_up')],
    down: [of('ffn_down')],
  };
};

/** Reads every tensor of `source` once and writes it; `onStep` counts finished layers. */
export async function storeWeights(
  source: WeightSource,
  file: WeightFile,
  choice: WeightsOption,
  onStep: (done: number, total: number) => void,
): Promise<StoredWeights> {
  const { spec } = source;
  const products = new Map<string, readonly StoredMatrix[]>();
  const vector = async (name: string) => {
    if (!source.has(name)) return;
    const values = await source.vector(name);
    await file.put(name, 'float32', [values.length], values);
  };
  const steps = spec.layers + 1;
  for (let layer = 0; layer < spec.layers; layer++) {
    for (const part of ['attn_norm.weight', 'ffn_norm.weight', 'attn_q_norm.weight', 'attn_k_norm.weight']) {
      await vector(`blk.${layer}.${part}`);
    }
    if (spec.qkvBias) {
      const biases = ['attn_q', 'attn_k', 'attn_v'].map((part) => source.vector(`blk.${layer}.${part}.bias`));
      const joined = joinFloats(await Promise.all(biases));
      await file.put(`blk.${layer}.attn_qkv.bias`, 'float32', [joined.length], joined);
    }
    for (const [product, names] of Object.entries(layerProducts(layer))) {
      const name = `blk.${layer}.${product}`;
      products.set(name, await storeProduct(source, file, { name, tensors: names, choice }));
    }
    onStep(layer + 1, steps);
  }
  await vector('output_norm.weight');
  const head = await load(source, spec.tiedEmbeddings ? 'token_embd.weight' : 'output.weight', choice);
  const embedding = await storeHeadAndEmbedding(source, file, head, products);
  onStep(steps, steps);
  return { products, embedding, file };
}

async function storeProduct(
  source: WeightSource,
  file: WeightFile,
  product: { readonly name: string; readonly tensors: readonly string[]; readonly choice: WeightsOption },
): Promise<StoredMatrix[]> {
  const matrices = await Promise.all(product.tensors.map((tensor) => load(source, tensor, product.choice)));
  const joined = join(matrices);
  const stored: StoredMatrix[] = [];
  for (const [index, matrix] of joined.entries()) {
    const id = joined.length === 1 ? product.name : `${product.name}#${index}`;
    stored.push(await storeMatrix(file, id, matrix));
  }
  return stored;
}

/**
 * A quantised matrix stays as it is, whatever was chosen: quantising it again would damage the model. `auto` makes
 * 8-bit blocks of floats.
 */
async function load(source: WeightSource, name: string, choice: WeightsOption): Promise<LinearMatrix> {
  if (choice === 'float32') return source.dense(name);
  const matrix = await source.exact(name);
  if (matrix.kind === 'blocks' || matrix.cols % BLOCK_SIZE !== 0) return matrix;
  return quantiseBlocks(matrix, { bits: choice === 'int4' ? 4 : 8, blockSize: BLOCK_SIZE });
}

async function storeMatrix(file: WeightFile, id: string, matrix: LinearMatrix): Promise<StoredMatrix> {
  const { rows, cols } = matrix;
  if (matrix.kind === 'dense') {
    await file.put(`${id}.w`, 'float32', [cols, rows], transpose(matrix.values, rows, cols));
    return { id, kind: 'dense', rows, cols };
  }
  const { bits, blockSize, packed, scales, offsets } = matrix;
  const blocks = cols / blockSize;
  await file.put(`${id}.q`, 'uint8', [rows, blocks, (blockSize * bits) / 8], packed);
  await file.put(`${id}.s`, 'float32', [rows * blocks], scales);
  if (offsets !== undefined) {
    await file.put(`${id}.o`, 'float32', [blocks, rows], transpose(offsets, rows, blocks));
    await storeBlockSums(file, cols, blockSize);
  }
  return { id, kind: 'blocks', rows, cols, bits, blockSize, hasOffsets: offsets !== undefined };
}

/** A matrix of ones and zeros: `x · M` sums each block of `x`. */
export const blockSumsId = (cols: number, blockSize: number): string => `block_sums_${cols}_${blockSize}`;

/** `[cols, blocks]`, once for all matrices of that shape. */
async function storeBlockSums(file: WeightFile, cols: number, blockSize: number): Promise<void> {
  const id = blockSumsId(cols, blockSize);
  if (file.tensors.has(id)) return;
  const blocks = cols / blockSize;
  const ones = new Float32Array(cols * blocks);
  for (let col = 0; col < cols; col++) ones[col * blocks + Math.floor(col / blockSize)] = 1;
  await file.put(id, 'float32', [cols, blocks], ones);
}

/**
 * The output head, and the table that token ids look up. Where they are tied, one set of bytes serves both: block
 * codes without offsets, or a dense table that the head multiplies transposed (then there is no product `head`).
 */
async function storeHeadAndEmbedding(
  source: WeightSource,
  file: WeightFile,
  head: LinearMatrix,
  products: Map<string, readonly StoredMatrix[]>,
): Promise<StoredMatrix> {
  const tied = source.spec.tiedEmbeddings;
  if (!(tied && head.kind === 'dense')) products.set('head', [await storeMatrix(file, 'head', head)]);
  if (tied && head.kind === 'blocks' && head.offsets === undefined) {
    const { rows, cols, bits, blockSize } = head;
    file.tensors.set('embedding.q', { ...file.tensors.get('head.q')!, dims: [rows, (cols * bits) / 8] });
    file.tensors.set('embedding.s', { ...file.tensors.get('head.s')!, dims: [rows, cols / blockSize] });
    return { id: 'embedding', kind: 'blocks', rows, cols, bits, blockSize, hasOffsets: false };
  }
  const { rows, cols, values } =
    tied && head.kind === 'dense' ? head : await source.dense('token_embd.weight');
  await file.put('embedding.w', 'float32', [rows, cols], values);
  return { id: 'embedding', kind: 'dense', rows, cols };
}

/** One matrix where all have one form, else the matrices as they are. */
function join(matrices: readonly LinearMatrix[]): LinearMatrix[] {
  const first = matrices[0]!;
  if (matrices.length === 1) return [first];
  const dense = matrices.filter((matrix): matrix is DenseMatrix => matrix.kind === 'dense');
  if (dense.length === matrices.length) {
    return [
      {
        kind: 'dense',
        rows: rowsOf(dense),
        cols: first.cols,
        values: joinFloats(dense.map((m) => m.values)),
      },
    ];
  }
  const blocks = matrices.filter(
    (matrix): matrix is BlockMatrix =>
      matrix.kind === 'blocks' &&
      first.kind === 'blocks' &&
      matrix.bits === first.bits &&
      matrix.blockSize === first.blockSize,
  );
  return blocks.length === matrices.length ? [joinBlocks(blocks)] : [...matrices];
}

function joinBlocks(matrices: readonly BlockMatrix[]): BlockMatrix {
  const first = matrices[0]!;
  const packed = new Uint8Array(matrices.reduce((sum, matrix) => sum + matrix.packed.length, 0));
  let at = 0;
  for (const matrix of matrices) {
    packed.set(matrix.packed, at);
    at += matrix.packed.length;
  }
  const joined = {
    ...first,
    rows: rowsOf(matrices),
    packed,
    scales: joinFloats(matrices.map((m) => m.scales)),
  };
  if (matrices.every((matrix) => matrix.offsets === undefined)) return joined;
  const offsets = matrices.map((matrix) => matrix.offsets ?? new Float32Array(matrix.scales.length));
  return { ...joined, offsets: joinFloats(offsets) };
}

const rowsOf = (matrices: readonly LinearMatrix[]): number =>
  matrices.reduce((sum, matrix) => sum + matrix.rows, 0);

function joinFloats(parts: readonly Float32Array[]): Float32Array {
  const joined = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

function transpose(values: Float32Array, rows: number, cols: number): Float32Array {
  const turned = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) turned[col * rows + row] = values[row * cols + col]!;
  }
  return turned;
}
