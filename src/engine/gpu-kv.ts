/** What KV of a device is: of which type it keeps rows, and what tells its rows from those of other devices. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gpuFile, type Manifest } from '../model/manifest.js';
import type { ChosenDevice } from './device-probe.js';

type KvType = Manifest['kvType'];

/** A GPU whose shaders have no float16 keeps, and gives to the tiers, float32. */
export function kvTypeOn(device: ChosenDevice, kvType: KvType): KvType {
  return device.kind === 'webgpu' && !device.hasFloat16 ? 'float32' : kvType;
}

/** Undefined for the CPU: the model's own fingerprint says all. */
export async function deviceFingerprint(
  device: ChosenDevice,
  directory: string,
  kvType: KvType,
): Promise<string | undefined> {
  if (device.kind === 'cpu') return undefined;
  const name = `${device.kind} ${device.digest} ${device.adapter ?? ''}`;
  if (device.kind === 'cuda') return name;
  const graph = await readFile(join(directory, gpuFile('step', kvType)));
  return `${name} ${kvType} ${createHash('sha256').update(graph).digest('hex')}`;
}
