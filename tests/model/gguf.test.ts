/** Opening GGUF files: a whole one by gguf-py, small ones written here, and every kind we refuse. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { z } from 'zod';
import { openGguf } from '../../src/model/gguf/source.js';
import { readGgufMetadata } from '../../src/model/gguf/tokenizer_metadata.js';
import type { ModelSpec } from '../../src/model/spec.js';
import { type GgufFileTensor, type GgufValue, writeGguf } from '../support/gguf_file.js';
import { goldenJson, goldenPath } from '../support/golden.js';
import { assertRefused } from '../support/refused.js';
import { TINY_SPEC, tinyTensors } from '../support/tiny_model.js';

const TENSORS = z.array(z.object({ name: z.string(), shape: z.array(z.number()), sha256: z.string() }));

const folder = mkdtempSync(join(tmpdir(), 'radixkv-gguf-'));
after(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'model.gguf');

function tinyMetadata(spec: ModelSpec, architecture: string): Record<string, GgufValue> {
  return {
    'general.architecture': architecture,
    [`${architecture}.block_count`]: { uint32: spec.layers },
    [`${architecture}.context_length`]: { uint32: spec.contextTokens },
    [`${architecture}.embedding_length`]: { uint32: spec.hidden },
    [`${architecture}.feed_forward_length`]: { uint32: spec.intermediate },
    [`${architecture}.attention.head_count`]: { uint32: spec.heads },
    [`${architecture}.attention.head_count_kv`]: { uint32: spec.kvHeads },
    [`${architecture}.attention.key_length`]: { uint32: spec.headDim },
    [`${architecture}.attention.layer_norm_rms_epsilon`]: spec.normEpsilon,
    [`${architecture}.rope.freq_base`]: spec.rope.theta,
  };
}

const float32Tensor = (name: string, values: Float32Array, shape: readonly number[]): GgufFileTensor => ({
  name,
  shape: shape.toReversed(),
  type: 0,
  data: new Uint8Array(values.buffer),
});

const tinyFileTensors = (spec: ModelSpec): GgufFileTensor[] =>
  tinyTensors(spec).map(({ name, values, shape }) => float32Tensor(name, values, shape));

/** Writes a tiny model with changes to it, and opens it. */
async function openTiny(
  changes: {
    readonly spec?: Partial<ModelSpec>;
    readonly architecture?: string;
    /** Undefined leaves a key out. */
    readonly metadata?: Readonly<Record<string, GgufValue | undefined>>;
    readonly tensors?: (tensors: GgufFileTensor[]) => GgufFileTensor[];
  } = {},
) {
  const spec = { ...TINY_SPEC, ...changes.spec };
  const architecture = changes.architecture ?? 'llama';
  const tensors = changes.tensors?.(tinyFileTensors(spec)) ?? tinyFileTensors(spec);
  writeGguf(path, { ...tinyMetadata(spec, architecture), ...changes.metadata }, tensors);
  const source = await openGguf(path);
  after(() => source.close());
  return source;
}

const changed = (name: string, change: Partial<GgufFileTensor>) => (tensors: GgufFileTensor[]) =>
  tensors.map((tensor) => (tensor.name === name ? { ...tensor, ...change } : tensor));

describe('a GGUF file written by gguf-py', () => {
  test('gives the spec, and every tensor bit for bit', async () => {
    const source = await openGguf(goldenPath('tiny_llama.gguf'));
    after(() => source.close());
    assert.deepEqual(source.spec, {
      architecture: 'llama',
      layers: 1,
      hidden: 64,
      heads: 4,
      kvHeads: 2,
      headDim: 16,
      intermediate: 96,
      vocab: 24,
      contextTokens: 128,
      normEpsilon: Math.fround(1e-5),
      rope: { theta: 50_000, interleaved: true },
      qkvBias: false,
      qkNorm: false,
      tiedEmbeddings: true,
    });
    assert.equal(source.description, 'GGUF Q4_1');
    const tensors = TENSORS.parse(goldenJson('tiny_llama.json'));
    for (const { name, shape, sha256 } of tensors) {
      let values: Float32Array;
      if (shape.length === 1) values = await source.vector(name);
      else {
        const matrix = await source.dense(name);
        assert.deepEqual([matrix.rows, matrix.cols], shape);
        values = matrix.values;
      }
      const bytes = new Uint8Array(values.buffer);
      assert.equal(createHash('sha256').update(bytes).digest('hex'), sha256, name);
    }
  });

  test('gives quantised matrices in their own form, and floats dense', async () => {
    const source = await openGguf(goldenPath('tiny_llama.gguf'));
    after(() => source.close());
    const forms = async (name: string) => {
      const matrix = await source.exact(name);
      return matrix.kind === 'dense'
        ? 'dense'
        : [matrix.bits, matrix.rows, matrix.cols, matrix.offsets !== undefined];
    };
    assert.deepEqual(await forms('blk.0.attn_k.weight'), [4, 32, 64, true]);
    assert.deepEqual(await forms('blk.0.attn_output.weight'), [4, 64, 64, false]);
    assert.deepEqual(await forms('blk.0.ffn_down.weight'), [8, 64, 96, true]);
    assert.deepEqual(await forms('token_embd.weight'), [8, 24, 64, false]);
    assert.deepEqual(await forms('blk.0.ffn_up.weight'), 'dense');
  });

  test('gives what the tokenizer needs', async () => {
    const metadata = await readGgufMetadata(goldenPath('tiny_llama.gguf'));
    assert.deepEqual(metadata, {
      architecture: 'llama',
      name: 'tiny',
      model: 'gpt2',
      pre: 'smollm',
      tokens: Array.from({ length: 24 }, (_, i) => `t${i}`),
      tokenTypes: [3, ...Array<number>(23).fill(1)],
      scores: undefined,
      merges: ['t 0', 't 1'],
      bosTokenId: 0,
      eosTokenId: 1,
      eotTokenId: undefined,
      eomTokenId: undefined,
      unknownTokenId: undefined,
      paddingTokenId: undefined,
      addBosToken: false,
      addEosToken: undefined,
      addSpacePrefix: undefined,
      chatTemplate: '{{ messages }}',
    });
  });
});

describe('the spec of a GGUF file', () => {
  test('of llama interleaves RoPE pairs, of qwen2 and qwen3 splits halves', async () => {
    assert.deepEqual((await openTiny()).spec, TINY_SPEC);
    const qwen2 = await openTiny({ architecture: 'qwen2', spec: { qkvBias: true } });
    assert.deepEqual(qwen2.spec, {
      ...TINY_SPEC,
      architecture: 'qwen2',
      qkvBias: true,
      rope: { theta: 10_000, interleaved: false },
    });
    const qwen3 = await openTiny({ architecture: 'qwen3', spec: { qkNorm: true, headDim: 16 } });
    assert.deepEqual(qwen3.spec, {
      ...TINY_SPEC,
      architecture: 'qwen3',
      qkNorm: true,
      headDim: 16,
      rope: { theta: 10_000, interleaved: false },
    });
  });

  test('takes the defaults of absent keys', async () => {
    const absent = ['attention.head_count_kv', 'attention.key_length', 'rope.freq_base'];
    const source = await openTiny({
      spec: { kvHeads: 4 },
      metadata: Object.fromEntries(absent.map((key) => [`llama.${key}`, undefined])),
    });
    const { kvHeads, headDim, rope } = source.spec;
    assert.deepEqual([kvHeads, headDim, rope.theta], [4, 8, 10_000]);
  });

  test('unties the head when the file has one', async () => {
    assert.equal((await openTiny({ spec: { tiedEmbeddings: false } })).spec.tiedEmbeddings, false);
  });

  test('takes RoPE factors from rope_freqs.weight', async () => {
    const factors = Float32Array.of(1, 1, 4, 32);
    const source = await openTiny({
      tensors: (tensors) => [...tensors, float32Tensor('rope_freqs.weight', factors, [4])],
    });
    assert.deepEqual(source.spec.rope.scaling, { type: 'factors', factors: [1, 1, 4, 32] });
  });

  test('takes linear RoPE scaling, and lets a sliding window cap the context', async () => {
    const source = await openTiny({
      metadata: {
        'llama.rope.scaling.type': 'linear',
        'llama.rope.scaling.factor': 2,
        'llama.attention.sliding_window': { uint32: 48 },
      },
    });
    assert.deepEqual(source.spec.rope.scaling, { type: 'linear', factor: 2 });
    assert.equal(source.spec.contextTokens, 48);
  });
});

describe('a GGUF file we cannot run is refused by name:', () => {
  const cases: readonly (readonly [string, RegExp, Parameters<typeof openTiny>[0]])[] = [
    ['an architecture we do not build', /gemma2/, { architecture: 'gemma2' }],
    ['mixture of experts', /expert_count = 8/, { metadata: { 'llama.expert_count': { uint32: 8 } } }],
    ['YaRN scaling', /yarn/, { metadata: { 'llama.rope.scaling.type': 'yarn' } }],
    ['soft-capped attention', /attn_logit_softcapping/, { metadata: { 'llama.attn_logit_softcapping': 50 } }],
    ['partial rotary embedding', /rotary/, { metadata: { 'llama.rope.dimension_count': { uint32: 4 } } }],
    ['values of another width', /width/, { metadata: { 'llama.attention.value_length': { uint32: 4 } } }],
    ['a split model', /several files/, { metadata: { 'split.count': { uint32: 2 } } }],
    [
      'a tensor type we do not read',
      /type number 10/,
      { tensors: changed('blk.1.ffn_up.weight', { type: 10 }) },
    ],
    [
      'a tensor the architecture does not have',
      /attn_output\.bias/,
      { tensors: (all) => [...all, float32Tensor('blk.0.attn_output.bias', new Float32Array(32), [32])] },
    ],
  ];
  for (const [what, named, changes] of cases) {
    test(what, () => assertRefused('unsupported_model', named, () => openTiny(changes)));
  }
});

describe('a GGUF file of another version is refused by name:', () => {
  for (const [what, version] of [
    ['one', Uint8Array.of(1, 0, 0, 0)],
    ['three, big-endian', Uint8Array.of(0, 0, 0, 3)],
  ] as const) {
    test(what, () => {
      const bytes = readFileSync(goldenPath('tiny_llama.gguf'));
      bytes.set(version, 4);
      writeFileSync(path, bytes);
      return assertRefused('unsupported_model', /version/, () => openGguf(path));
    });
  }
});

describe('a damaged GGUF file is refused as corrupt:', () => {
  const cases: readonly (readonly [string, RegExp, Parameters<typeof openTiny>[0]])[] = [
    [
      'a tensor is missing',
      /ffn_up.*missing/,
      { tensors: (all) => all.filter((t) => t.name !== 'blk.1.ffn_up.weight') },
    ],
    [
      'a tensor has another shape',
      /attn_q.*shape/,
      { tensors: changed('blk.0.attn_q.weight', { shape: [16, 64] }) },
    ],
    ['two tensors overlap', /overlap/, { tensors: changed('blk.0.attn_q.weight', { claimedOffset: 0 }) }],
    [
      'a tensor is not aligned',
      /aligned/,
      { tensors: changed('blk.0.attn_norm.weight', { claimedOffset: 4 }) },
    ],
    [
      'a quantised row is no whole number of blocks',
      /impossible for Q4_K/,
      { tensors: changed('blk.0.attn_q.weight', { type: 12 }) },
    ],
    [
      'heads do not share key/value heads',
      /evenly/,
      { metadata: { 'llama.attention.head_count_kv': { uint32: 3 } } },
    ],
    ['a number is missing', /block_count/, { metadata: { 'llama.block_count': 'two' } }],
  ];
  for (const [what, named, changes] of cases) {
    test(what, () => assertRefused('corrupt_model', named, () => openTiny(changes)));
  }

  test('it is something else', () => {
    writeFileSync(path, 'GGML is not GGUF');
    return assertRefused('corrupt_model', /not a GGUF file/, () => openGguf(path));
  });

  test('its counts are more than it could hold, or layers more than it has', async () => {
    for (const at of [8, 16]) {
      const bytes = readFileSync(goldenPath('tiny_llama.gguf'));
      bytes.writeUInt32LE(9_000_000, at);
      writeFileSync(path, bytes);
      await assertRefused('corrupt_model', /can't be in/, () => openGguf(path));
    }
    const metadata = { 'llama.block_count': { uint32: 0xffff_ffff } };
    await assertRefused('corrupt_model', /blk\.2\..* missing/, () => openTiny({ metadata }));
  });

  test('it ends anywhere before its end', async () => {
    writeGguf(path, tinyMetadata(TINY_SPEC, 'llama'), tinyFileTensors(TINY_SPEC));
    const { length } = readFileSync(path);
    for (const bytes of [length - 1, length - 4096, 1024, 700, 40, 20, 8, 3]) {
      truncateSync(path, bytes);
      await assertRefused('corrupt_model', /model\.gguf/, () => openGguf(path));
    }
  });
});
