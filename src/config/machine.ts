/**
 * What the defaults need to know of the machine, its operating system's data directory and its cores; and what its
 * arithmetic is like.
 *
 * Reads the environment and `/sys`, never writes.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism, cpus, homedir } from 'node:os';
import { join } from 'node:path';

/** Where models and downloads live unless told otherwise: the user's data directory of the operating system. */
export function defaultDataDirectory(
  environment: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
): string {
  const { XDG_DATA_HOME: xdg, LOCALAPPDATA: local } = environment;
  if (xdg !== undefined && xdg !== '') return join(xdg, 'radixkv');
  if (platform === 'darwin') return join(homedir(), 'Library', 'Application Support', 'radixkv');
  if (platform === 'win32' && local !== undefined && local !== '') return join(local, 'radixkv');
  return join(homedir(), '.local', 'share', 'radixkv');
}

/**
 * Physical cores this process may use: matrix products gain nothing from a core's second hardware thread.
 *
 * On Linux no more than the affinity mask and the container's CPU quota allow; elsewhere logical processors.
 */
export function availableCores(): number {
  const limits = [availableParallelism(), linuxPhysicalCores(), linuxCpuQuota()];
  return Math.max(1, Math.min(...limits.filter((limit) => limit !== undefined)));
}

/** Extensions that choose between kernels, and with them how products are rounded. */
const ARITHMETIC = /^(sse4_1|avx\w*|fma|f16c|amx\w*|asimd\w*|sve\w*|i8mm|bf16|fphp)$/;

/**
 * What tells machines apart whose matrix products may differ in their last bits: the architecture and, on Linux, the
 * extensions of the processor that matter, elsewhere its name.
 */
export function machineArithmetic(): string {
  return `${process.arch} ${linuxExtensions() ?? cpus()[0]?.model ?? 'unknown'}`;
}

function linuxExtensions(): string | undefined {
  try {
    const [, flags] = /^(?:flags|Features)\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8')) ?? [];
    const known = flags?.split(' ').filter((flag) => ARITHMETIC.test(flag));
    return known?.sort().join(' ');
  } catch {
    return undefined; // not Linux
  }
}

function linuxPhysicalCores(): number | undefined {
  const root = '/sys/devices/system/cpu';
  try {
    const cores = new Set<string>();
    for (const cpu of readdirSync(root).filter((name) => /^cpu\d+$/.test(name))) {
      const topology = join(root, cpu, 'topology');
      const read = (file: string) => readFileSync(join(topology, file), 'utf8').trim();
      cores.add(`${read('physical_package_id')}:${read('core_id')}`);
    }
    return cores.size === 0 ? undefined : cores.size;
  } catch {
    return undefined; // not Linux, or a sandbox without /sys
  }
}

function linuxCpuQuota(): number | undefined {
  try {
    const [quota, period] = readFileSync('/sys/fs/cgroup/cpu.max', 'utf8').trim().split(' ');
    return quota === 'max' ? undefined : Math.max(1, Math.floor(Number(quota) / Number(period)));
  } catch {
    return undefined; // not Linux, or cgroup v1
  }
}
