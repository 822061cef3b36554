/**
 * Tries a provider of ONNX Runtime, in a process of its own: a driver that crashes ends nothing else. Sends one
 * `ProbeReport` to its parent.
 *
 * The digest is over what the provider makes of the operators that models use. Two machines that round otherwise have
 * other digests, so that neither reads KV of the other.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { messageOf } from '../errno.js';
import { ELEMENT, GraphBuilder } from '../model/onnx/graph.js';
import type { ProbeReport, ProbeRequest } from './device-probe.js';

/** Rows and columns of what is multiplied. */
const WIDTH = 1024;
const ROWS = 256;
const TIMES = 4;

/** What takes longer is not measured again. */
const SLOW_MS = 1000;

type Providers = readonly string[];

async function open(graph: Uint8Array, providers: Providers): Promise<InferenceSession> {
  return InferenceSession.create(graph, {
    executionProviders: [...providers],
    logSeverityLevel: 4,
    ...(providers[0] !== 'cpu' && { extra: { session: { disable_cpu_ep_fallback: '1' } } }),
  });
}

/** What layers do, once. */
function numericsGraph(): Uint8Array {
  const g = new GraphBuilder();
  g.input('x', 'float32', ['R', 256]);
  g.input('w', 'float32', [256, 256]);
  g.input('scale', 'float32', [256]);
  const normed = g.op('SimplifiedLayerNormalization', ['x', 'scale'], { axis: -1, epsilon: { f: 1e-5 } });
  const product = g.op('MatMul', [normed, 'w']);
  const active = g.op('Mul', [g.msOp('QuickGelu', [product], { alpha: { f: 1 } }), product]);
  const turned = g.op('MatMul', [active, g.op('Transpose', [active], { perm: [1, 0] })]);
  g.op('MatMul', [g.op('Softmax', [turned], { axis: -1 }), active], {}, 'y');
  g.output('y', 'float32', ['R', 256]);
  return g.toBytes('numerics');
}

function float16Graph(): Uint8Array {
  const g = new GraphBuilder();
  g.input('x', 'float32', ['N']);
  const half = g.op('Cast', ['x'], { to: ELEMENT.float16 });
  g.op('Cast', [g.op('Mul', [half, half])], { to: ELEMENT.float32 }, 'y');
  g.output('y', 'float32', ['N']);
  return g.toBytes('float16');
}

function speedGraph(): Uint8Array {
  const g = new GraphBuilder();
  g.input('x', 'float32', [ROWS, WIDTH]);
  g.input('w', 'float32', [WIDTH, WIDTH]);
  let x = 'x';
  for (let i = 0; i < TIMES; i++) x = g.op('MatMul', [x, 'w'], {}, i === TIMES - 1 ? 'y' : `y${i}`);
  g.output('y', 'float32', [ROWS, WIDTH]);
  return g.toBytes('speed');
}

/** Numbers in [-1, 1) without a pattern, the same ever. */
function noise(count: number, scale: number): Float32Array {
  let state = count;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state / 2 ** 31 - 1) * scale;
  });
}

const floats = (rows: number, cols: number, scale: number) =>
  new Tensor('float32', noise(rows * cols, scale), [rows, cols]);

function floatsOf(tensor: Tensor | undefined): Float32Array {
  assert(tensor?.data instanceof Float32Array, 'the output has the type of the graph');
  return tensor.data;
}

async function digest(providers: Providers): Promise<string> {
  const session = await open(numericsGraph(), providers);
  const hash = createHash('sha256');
  const scale = new Tensor('float32', noise(256, 1), [256]);
  for (const rows of [1, 64, 100]) {
    const { y } = await session.run({ x: floats(rows, 256, 1), w: floats(256, 256, 0.1), scale });
    hash.update(floatsOf(y));
  }
  return hash.digest('hex').slice(0, 16);
}

async function hasFloat16(providers: Providers): Promise<boolean> {
  try {
    const session = await open(float16Graph(), providers);
    const { y } = await session.run({ x: new Tensor('float32', Float32Array.of(1.5, -2, 3), [3]) });
    return floatsOf(y).join() === '2.25,4,9';
  } catch {
    return false; // its shaders have no such type
  }
}

/** The quicker of two runs, after one that does not count unless it takes long. */
async function speedMs(providers: Providers): Promise<number> {
  const session = await open(speedGraph(), providers);
  const feeds = { x: floats(ROWS, WIDTH, 0.1), w: floats(WIDTH, WIDTH, 0.05) };
  let quickest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 3; i++) {
    const start = performance.now();
    await session.run(feeds);
    const ms = performance.now() - start;
    if (ms > SLOW_MS) return ms;
    if (i > 0) quickest = Math.min(quickest, ms);
  }
  return quickest;
}

async function probe({ provider, measures }: ProbeRequest): Promise<ProbeReport> {
  try {
    return {
      works: true,
      digest: await digest([provider]),
      hasFloat16: await hasFloat16([provider]),
      ...(measures && { ms: await speedMs([provider]), cpuMs: await speedMs(['cpu']) }),
    };
  } catch (error) {
    return {
      works: false,
      reason: messageOf(error)
        .split('\n')[0]!
        .replace(/^.* was false\. /, ''),
    };
  }
}

process.once('message', (request: ProbeRequest) => {
  void probe(request).then((report) => process.send!(report, () => process.exit(0)));
});
