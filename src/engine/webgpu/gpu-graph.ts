/**
 * A graph on the GPU. All of its nodes run there (a session with a node on the CPU is refused), so that nothing crosses
 * the bus but the inputs and outputs that lie in host memory: these are counted.
 */
import assert from 'node:assert/strict';
import { InferenceSession, type Tensor } from 'onnxruntime-node';
import { messageOf } from '../../errno.js';
import { ATTENTION_NAMES, SHAPE_INPUTS } from '../../model/graphs/arena/attention.js';
import { EMPTY_NAMES, MOVE_NAMES } from '../../model/graphs/arena/moves.js';
import { type BusBytes, DeviceLost } from '../device.js';
import type { Feeds } from '../feeds.js';

/** Inputs that the provider reads on the host. */
const SHAPES = new Set<string>([
  ...SHAPE_INPUTS.map((name) => ATTENTION_NAMES[name]),
  MOVE_NAMES.chunkShape,
  EMPTY_NAMES.shape,
]);

export class BusMeter {
  readonly #bytes = { controlUp: 0, kvUp: 0, kvDown: 0, logitsDown: 0, measuresDown: 0 };

  count(what: keyof BusBytes, bytes: number): void {
    this.#bytes[what] += bytes;
  }

  reading(): BusBytes {
    return { ...this.#bytes };
  }
}

export class GpuGraph {
  readonly #session: InferenceSession;
  readonly #meter: BusMeter;

  private constructor(session: InferenceSession, meter: BusMeter) {
    this.#session = session;
    this.#meter = meter;
  }

  /**
   * @param source path of a graph, or its bytes
   * @param keeps whether outputs that are not bound to memory stay on the device; otherwise they come to the host
   */
  static async open(source: string | Uint8Array, meter: BusMeter, keeps = false): Promise<GpuGraph> {
    const options: InferenceSession.SessionOptions = {
      executionProviders: ['webgpu'],
      graphOptimizationLevel: 'all',
      logSeverityLevel: 3,
      extra: { session: { disable_cpu_ep_fallback: '1' } },
      ...(keeps && { preferredOutputLocation: 'gpu-buffer' }),
    };
    const session =
      typeof source === 'string'
        ? await InferenceSession.create(source, options)
        : await InferenceSession.create(source, options);
    return new GpuGraph(session, meter);
  }

  /**
   * @param bound outputs and the memory of the device that they are written to
   * @param wanted outputs that come to the host, and what they are counted as
   * @throws DeviceLost
   */
  async run(
    feeds: Feeds,
    bound: Feeds,
    wanted: Readonly<Record<string, keyof BusBytes>> = {},
  ): Promise<InferenceSession.OnnxValueMapType> {
    for (const [name, tensor] of Object.entries(feeds)) {
      if (tensor.location !== 'cpu' || SHAPES.has(name)) continue;
      this.#meter.count(name === MOVE_NAMES.chunks ? 'kvUp' : 'controlUp', bytesOf(tensor).byteLength);
    }
    const fetches: Record<string, Tensor | null> = { ...bound };
    for (const name of Object.keys(wanted)) fetches[name] = null;
    let outputs: InferenceSession.OnnxValueMapType;
    try {
      outputs = await this.#session.run(feeds, fetches);
    } catch (error) {
      throw new DeviceLost(messageOf(error), { cause: error });
    }
    for (const [name, what] of Object.entries(wanted)) {
      this.#meter.count(what, bytesOf(outputs[name]!).byteLength);
    }
    return outputs;
  }
}

/** What an input or output in host memory holds. */
export function bytesOf(tensor: Tensor): Uint8Array {
  const { data } = tensor;
  assert(ArrayBuffer.isView(data), 'the tensor is in host memory');
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
