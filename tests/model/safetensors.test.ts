/** Opening Hugging Face directories: whole ones, damaged ones, and configurations we refuse. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { openHuggingFaceDirectory } from '../../src/model/safetensors/source.js';
import type { ModelSpec } from '../../src/model/spec.js';
import { assertRefused } from '../support/refused.js';
import {
  type SafetensorsEntry,
  type SafetensorsHeader,
  type SafetensorsHeaderEntry,
  safetensorsBytes,
  tinyConfig,
  tinyEntries,
  writeDirectory,
} from '../support/safetensors_file.js';
import { TINY_SPEC, tinyTensors } from '../support/tiny_model.js';

const folder = mkdtempSync(join(tmpdir(), 'radixkv-safetensors-'));
after(() => rmSync(folder, { recursive: true }));
let directories = 0;
const freshDirectory = (): string => join(folder, `${directories++}`);

const HF_SPEC: ModelSpec = { ...TINY_SPEC, rope: { theta: 10_000, interleaved: false } };

/** Opens a one-file directory of a tiny model with changes. */
async function openTiny(
  changes: {
    readonly spec?: Partial<ModelSpec>;
    readonly architecture?: string;
    readonly config?: Readonly<Record<string, unknown>>;
    readonly entries?: (entries: SafetensorsEntry[]) => SafetensorsEntry[];
    readonly header?: (header: SafetensorsHeader) => void;
  } = {},
) {
  const spec = { ...HF_SPEC, ...changes.spec };
  const entries = changes.entries?.(tinyEntries(spec)) ?? tinyEntries(spec);
  const path = freshDirectory();
  writeDirectory(path, {
    'config.json': { ...tinyConfig(spec, changes.architecture ?? 'LlamaForCausalLM'), ...changes.config },
    'model.safetensors': safetensorsBytes(entries, changes.header),
  });
  const source = await openHuggingFaceDirectory(path);
  after(() => source.close());
  return source;
}

async function assertHoldsTinyTensors(
  source: Awaited<ReturnType<typeof openTiny>>,
  spec: ModelSpec,
): Promise<void> {
  for (const { name, shape, values } of tinyTensors(spec)) {
    assert.ok(source.has(name));
    if (shape.length === 1) assert.deepEqual(await source.vector(name), values);
    else
      assert.deepEqual(await source.exact(name), { kind: 'dense', rows: shape[0], cols: shape[1], values });
  }
}

/** Replaces the last norm by 32 elements of one 16-bit pattern. */
const halves = (dtype: string, one: number) => (entries: SafetensorsEntry[]) =>
  entries.map((entry) =>
    entry.name === 'model.norm.weight'
      ? { ...entry, dtype, data: new Uint8Array(Uint16Array.from({ length: 32 }, () => one).buffer) }
      : entry,
  );

describe('a Hugging Face directory', () => {
  test('gives the spec, and every tensor by its canonical name', async () => {
    const source = await openTiny();
    assert.deepEqual(source.spec, HF_SPEC);
    assert.equal(source.description, 'safetensors F32');
    await assertHoldsTinyTensors(source, HF_SPEC);
  });

  test('may be sharded by its index', async () => {
    const path = freshDirectory();
    const entries = tinyEntries(HF_SPEC);
    const shards = { 'a.safetensors': entries.slice(0, 7), 'b.safetensors': entries.slice(7) };
    const placed = Object.entries(shards).flatMap(([file, own]) => own.map(({ name }) => [name, file]));
    writeDirectory(path, {
      'config.json': tinyConfig(HF_SPEC, 'LlamaForCausalLM'),
      'model.safetensors.index.json': { weight_map: Object.fromEntries(placed) },
      'a.safetensors': safetensorsBytes(shards['a.safetensors']),
      'b.safetensors': safetensorsBytes(shards['b.safetensors']),
      'unrelated.safetensors': new Uint8Array(3),
    });
    const source = await openHuggingFaceDirectory(path);
    after(() => source.close());
    await assertHoldsTinyTensors(source, HF_SPEC);
  });

  test('may hold half and bfloat16 tensors', async () => {
    const ones = new Float32Array(32).fill(1);
    const half = await openTiny({ entries: halves('F16', 0x3c00) });
    assert.deepEqual(await half.vector('output_norm.weight'), ones);
    const bfloat16 = await openTiny({ entries: halves('BF16', 0x3f80) });
    assert.deepEqual(await bfloat16.vector('output_norm.weight'), ones);
  });

  test('may keep a copy of tied embeddings, and derived buffers', async () => {
    const source = await openTiny({
      entries: (entries) => [
        ...entries,
        { ...entries[0]!, name: 'lm_head.weight' },
        {
          name: 'model.layers.0.self_attn.rotary_emb.inv_freq',
          dtype: 'F32',
          shape: [4],
          data: new Uint8Array(16),
        },
      ],
    });
    assert.equal(source.has('output.weight'), false);
  });
});

const specOf = async (changes: Parameters<typeof openTiny>[0]) => (await openTiny(changes)).spec;

describe('the spec of a config.json', () => {
  test('knows each architecture', async () => {
    assert.equal((await specOf({ architecture: 'MistralForCausalLM' })).architecture, 'mistral');
    const qwen2 = await specOf({ architecture: 'Qwen2ForCausalLM', spec: { qkvBias: true } });
    assert.deepEqual([qwen2.architecture, qwen2.qkvBias, qwen2.qkNorm], ['qwen2', true, false]);
    const qwen3 = await specOf({ architecture: 'Qwen3ForCausalLM', spec: { qkNorm: true, headDim: 16 } });
    assert.deepEqual(
      [qwen3.architecture, qwen3.qkvBias, qwen3.qkNorm, qwen3.headDim],
      ['qwen3', false, true, 16],
    );
  });

  test('takes the defaults of absent keys', async () => {
    const config = {
      head_dim: undefined,
      num_key_value_heads: undefined,
      rms_norm_eps: undefined,
      rope_theta: undefined,
    };
    const spec = await specOf({ spec: { kvHeads: 4 }, config });
    assert.deepEqual([spec.headDim, spec.kvHeads, spec.normEpsilon, spec.rope.theta], [8, 4, 1e-6, 10_000]);
  });

  test('keeps llama biases when only the query, key and value have them', async () => {
    const spec = await specOf({ spec: { qkvBias: true }, config: { attention_bias: true } });
    assert.equal(spec.qkvBias, true);
  });

  test('unties the head', async () => {
    assert.equal((await specOf({ spec: { tiedEmbeddings: false } })).tiedEmbeddings, false);
  });

  test('reads linear and llama3 rope scaling in the old spelling and the new', async () => {
    const linear = await specOf({ config: { rope_scaling: { type: 'linear', factor: 2 } } });
    assert.deepEqual(linear.rope.scaling, { type: 'linear', factor: 2 });
    const parameters = {
      rope_type: 'llama3',
      rope_theta: 500_000,
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 32,
    };
    const llama3 = await specOf({ config: { rope_theta: undefined, rope_parameters: parameters } });
    const scaling = {
      type: 'llama3',
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalContextTokens: 32,
    };
    assert.deepEqual(llama3.rope, { theta: 500_000, interleaved: false, scaling });
    const old = await specOf({
      config: { rope_theta: 500_000, rope_scaling: { ...parameters, rope_theta: undefined } },
    });
    assert.deepEqual(old.rope, llama3.rope);
    const unscaled = await specOf({
      config: { rope_parameters: { rope_type: 'default', rope_theta: 20_000 } },
    });
    assert.deepEqual(unscaled.rope, { theta: 20_000, interleaved: false });
  });

  test('caps the context at a sliding window only where it is used', async () => {
    const window = { sliding_window: 16 };
    const tokens = async (architecture: string, config: object, spec: Partial<ModelSpec> = {}) =>
      (await specOf({ architecture, spec, config: { ...window, ...config } })).contextTokens;
    assert.equal(await tokens('MistralForCausalLM', {}), 16);
    assert.equal(await tokens('MistralForCausalLM', { sliding_window: null }), 64);
    assert.equal(await tokens('Qwen2ForCausalLM', { use_sliding_window: false }, { qkvBias: true }), 64);
    assert.equal(await tokens('Qwen2ForCausalLM', { use_sliding_window: true }, { qkvBias: true }), 16);
  });
});

describe('a Hugging Face model we cannot run is refused by name:', () => {
  const cases: readonly (readonly [string, RegExp, Parameters<typeof openTiny>[0]])[] = [
    ['an architecture we do not build', /GemmaForCausalLM/, { architecture: 'GemmaForCausalLM' }],
    [
      'quantised weights',
      /quantization_config \(awq\)/,
      { config: { quantization_config: { quant_method: 'awq' } } },
    ],
    ['another activation', /gelu/, { config: { hidden_act: 'gelu' } }],
    ['feed-forward biases', /mlp_bias/, { config: { mlp_bias: true } }],
    ['dynamic rope scaling', /dynamic/, { config: { rope_scaling: { type: 'dynamic', factor: 2 } } }],
    ['partial rotary embedding', /partial_rotary_factor/, { config: { partial_rotary_factor: 0.5 } }],
    [
      'a rope that differs between layers',
      /between layers/,
      { config: { rope_parameters: { full_attention: { rope_type: 'default' } } } },
    ],
    [
      'a bias on the attention output',
      /attn_output\.bias/,
      {
        spec: { qkvBias: true },
        config: { attention_bias: true },
        entries: (entries) => [
          ...entries,
          {
            name: 'model.layers.0.self_attn.o_proj.bias',
            dtype: 'F32',
            shape: [32],
            data: new Uint8Array(128),
          },
        ],
      },
    ],
    [
      'a tensor that is no float',
      /dtype I32/,
      { entries: (entries) => entries.map((entry) => ({ ...entry, dtype: 'I32' })) },
    ],
  ];
  for (const [what, named, changes] of cases) {
    test(what, () => assertRefused('unsupported_model', named, () => openTiny(changes)));
  }
});

const corruptDirectory = (named: RegExp, files: Readonly<Record<string, unknown>>) => {
  const path = freshDirectory();
  writeDirectory(path, files);
  return assertRefused('corrupt_model', named, () => openHuggingFaceDirectory(path));
};

const patch = (name: string, value: Partial<SafetensorsHeaderEntry>) => (header: SafetensorsHeader) => {
  header[name] = { ...header[name]!, ...value };
};

describe('a damaged Hugging Face directory is refused as corrupt:', () => {
  const norm = 'model.norm.weight';
  const cases: readonly (readonly [string, RegExp, Parameters<typeof openTiny>[0]])[] = [
    ['a number of the config is missing', /hidden_size/, { config: { hidden_size: undefined } }],
    [
      'llama3 scaling lacks a factor',
      /low_freq_factor/,
      { config: { rope_scaling: { rope_type: 'llama3', factor: 8 } } },
    ],
    ['a tensor is missing', /attn_q\.bias.*missing/, { config: { attention_bias: true } }],
    ['the config and a tensor disagree', /expected \[21, 32\]/, { config: { vocab_size: 21 } }],
    [
      'a tensor takes more bytes than its shape',
      /bytes instead of/,
      { header: patch(norm, { shape: [31] }) },
    ],
    ['a dtype is unknown', /unknown dtype/, { header: patch(norm, { dtype: 'F12' }) }],
    ['two tensors overlap', /overlaps/, { header: patch(norm, { data_offsets: [0, 128] }) }],
    ['an offset is negative', /no safetensors header/, { header: patch(norm, { data_offsets: [-128, 0] }) }],
    ['a gap is between tensors', /gap/, { header: (header) => delete header['model.norm.weight'] }],
    [
      'tensors do not fill the file',
      /of \d+/,
      { header: (header) => delete header['model.layers.1.mlp.down_proj.weight'] },
    ],
  ];
  for (const [what, named, changes] of cases) {
    test(what, () => assertRefused('corrupt_model', named, () => openTiny(changes)));
  }

  const config = tinyConfig(HF_SPEC, 'LlamaForCausalLM');
  const whole = safetensorsBytes(tinyEntries(HF_SPEC));

  test('there is no config', () => corruptDirectory(/config\.json/, { 'model.safetensors': whole }));
  test('there are no weights', () => corruptDirectory(/no \.safetensors/, { 'config.json': config }));
  test('there are several files and no index', () =>
    corruptDirectory(/without/, { 'config.json': config, 'a.safetensors': whole, 'b.safetensors': whole }));
  test('a shard is missing or outside the directory', async () => {
    for (const shard of ['gone.safetensors', '../model.safetensors']) {
      const index = { weight_map: { 'model.norm.weight': shard } };
      await corruptDirectory(/shard/, { 'config.json': config, 'model.safetensors.index.json': index });
    }
  });
  test('a tensor is in two shards', () => {
    const index = { weight_map: { x: 'a.safetensors', y: 'b.safetensors' } };
    const shards = { 'a.safetensors': whole, 'b.safetensors': whole };
    return corruptDirectory(/twice/, {
      'config.json': config,
      'model.safetensors.index.json': index,
      ...shards,
    });
  });
  test('a file ends anywhere before its end', async () => {
    for (const bytes of [whole.length - 1, whole.length / 2, 500, 8, 4, 0]) {
      await corruptDirectory(/model\.safetensors/, {
        'config.json': config,
        'model.safetensors': whole.subarray(0, bytes),
      });
    }
  });
});
