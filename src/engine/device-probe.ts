/**
 * Finds out whether a GPU can be used, and which device `auto` takes: the first one that works and is quicker than the
 * CPU, where a driver that only imitates a GPU on the CPU counts as none.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import type { DeviceOption } from '../config/options.js';
import { messageOf } from '../errno.js';
import { RadixkvError } from '../errors.js';

export type GpuProvider = 'webgpu' | 'cuda';

export interface ProbeRequest {
  readonly provider: GpuProvider;
  /** Whether its speed is of interest: software takes seconds. */
  readonly measures: boolean;
}

/** What the process found. */
export type ProbeReport =
  | {
      readonly works: true;
      /** Of how it rounds. */
      readonly digest: string;
      readonly hasFloat16: boolean;
      /** The same products there and on the CPU. */
      readonly ms?: number;
      readonly cpuMs?: number;
    }
  | { readonly works: false; readonly reason: string };

/** A report, and the adapter's name where the driver's loader tells it. */
export type ProbeResult = ProbeReport & { readonly adapter?: string };

/** A device that can be used. */
export type ChosenDevice =
  | { readonly kind: 'cpu' }
  | ({ readonly kind: GpuProvider; readonly adapter?: string } & Pick<
      Extract<ProbeReport, { works: true }>,
      'digest' | 'hasFloat16'
    >);

const TIMEOUT_MS = 60_000;

/** What `auto` tries, in this order. */
export const PROVIDERS: readonly GpuProvider[] = ['webgpu', 'cuda'];

/** Names of drivers that compute on the CPU. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|software|basic render|warp/i;

/** How much quicker than the CPU a GPU must be, since only products were measured. */
const GAIN_MIN = 2;

/** Tries a provider. Never throws: a crash is a report too. */
export async function probeDevice(request: ProbeRequest): Promise<ProbeResult> {
  const child = fork(new URL('./device-probe.process.js', import.meta.url), {
    // The Vulkan loader then tells the names of the adapters, and little else: what a pipe has no room for is lost.
    env: { ...process.env, VK_LOADER_DEBUG: 'driver' },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let report: ProbeReport | undefined;
  let told = '';
  child.on('message', (message: ProbeReport) => {
    report = message;
  });
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    told += text;
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS);
  let reason: string;
  try {
    child.send(request);
    const [code, signal] = await once(child, 'close');
    reason = `its process ended with ${signal ?? `code ${code}`}`;
  } catch (error) {
    reason = messageOf(error);
  } finally {
    clearTimeout(timer);
  }
  const [, adapter] = /\[0\] (?!.*\.json)(.*\S)/.exec(told) ?? [];
  const found = report ?? { works: false, reason };
  return { ...found, ...(adapter !== undefined && { adapter }) };
}

/** Why `auto` does not take a device; undefined: it takes it. */
export function whyNotAuto(probe: ProbeResult): string | undefined {
  if (!probe.works) return probe.reason;
  if (probe.adapter !== undefined && SOFTWARE.test(probe.adapter)) return 'it computes on the CPU';
  const { ms, cpuMs } = probe;
  if (ms === undefined || cpuMs === undefined) return 'its speed is not known';
  return ms * GAIN_MIN <= cpuMs ? undefined : 'it is not quicker than the CPU';
}

/**
 * The device for `--device`.
 *
 * @param probe tries a provider; tests have their own
 * @throws RadixkvError `invalid_value` when the one that was asked for can't be used.
 */
export async function chooseDevice(option: DeviceOption, probe = probeDevice): Promise<ChosenDevice> {
  if (option === 'cpu') return { kind: 'cpu' };
  if (option !== 'auto') {
    const found = await probe({ provider: option, measures: false });
    if (found.works) return chosen(option, found);
    throw new RadixkvError('invalid_value', `--device ${option} can't be used: ${found.reason}`, {
      param: '--device',
    });
  }
  for (const provider of PROVIDERS) {
    const found = await probe({ provider, measures: true });
    if (found.works && whyNotAuto(found) === undefined) return chosen(provider, found);
  }
  return { kind: 'cpu' };
}

function chosen(kind: GpuProvider, found: Extract<ProbeResult, { works: true }>): ChosenDevice {
  const { digest, hasFloat16, adapter } = found;
  return { kind, digest, hasFloat16, ...(adapter !== undefined && { adapter }) };
}
