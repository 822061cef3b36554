/**
 * Does what the Dockerfile says without a Docker engine: each stage is a directory, and its commands run with that
 * directory as their root (bubblewrap), on this machine's system in place of the base image. Needs root, to be another
 * user afterwards. What it can't do is install Debian packages; whether they exist is asked instead.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { contextPaths, listOf, REPOSITORY, readStages, type Stage } from './dockerfile.js';

const run = promisify(execFile);
const BWRAP = '/usr/bin/bwrap';
/** Where better-sqlite3's install script finds a built one, as it would on the network. */
const PREBUILDS = '/prebuilds';

/** Why it can't be done here; false where it can. */
export function whyNot(): string | false {
  if (process.platform !== 'linux' || !existsSync(BWRAP)) return 'bubblewrap is not installed';
  return process.getuid!() === 0 ? false : 'it takes root to become another user';
}

/** This machine's system, of which nothing can be changed. */
const SYSTEM = ['/usr', '/etc', '/bin', '/sbin', '/lib', '/lib64'].filter((path) => existsSync(path));
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

export interface Mounts {
  /** Directories of this machine by where they are seen, which can be written. */
  readonly volumes?: Readonly<Record<string, string>>;
  readonly readOnly?: Readonly<Record<string, string>>;
}

interface Settings {
  readonly env: Readonly<Record<string, string>>;
  readonly workdir: string;
  /** `1000:1000` */
  readonly user: string;
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
  readonly healthcheck: readonly string[];
}

/** As of the official images of Node. */
const BASE: Settings = {
  env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' },
  workdir: '/',
  user: '0:0',
  entrypoint: [],
  command: ['node'],
  healthcheck: [],
};

/** A stage that was built: a tree and how its processes are started. */
export class Image {
  constructor(
    readonly root: string,
    readonly settings: Settings,
  ) {}

  /** Starts a process as a container would, on a root that can't be written; `env` as of `docker run -e`. */
  spawn(command: readonly string[], env: Readonly<Record<string, string>>, mounts: Mounts): ChildProcess {
    const args = this.#args({ isWritable: false, env: { ...this.settings.env, ...env, HOME: '/' }, mounts });
    const [uid, gid] = this.settings.user.split(':');
    const user = ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--no-new-privs'];
    return spawn(BWRAP, [...args, '--', ...user, '--', ...command], { stdio: ['ignore', 'pipe', 'pipe'] });
  }

  /** Runs a shell command as a step of the build. */
  async runStep(command: string, mounts: Mounts): Promise<void> {
    const npmrc = join(homedir(), '.npmrc');
    const cache = join(homedir(), '.npm');
    await mkdir(cache, { recursive: true });
    const args = this.#args({
      isWritable: true,
      // Where this machine's npm finds its registry, and what it has of it.
      env: { ...environmentOfNpm(), ...this.settings.env },
      mounts: {
        volumes: { ...mounts.volumes, '/root/.npm': cache },
        readOnly: { ...mounts.readOnly, ...(existsSync(npmrc) && { '/root/.npmrc': npmrc }) },
      },
    });
    await run(BWRAP, [...args, '--', 'sh', '-ec', command], { maxBuffer: OUTPUT_BYTES_MAX });
  }

  #args(options: {
    readonly isWritable: boolean;
    readonly env: Readonly<Record<string, string>>;
    readonly mounts: Mounts;
  }): string[] {
    const { isWritable, env, mounts } = options;
    const fixed = `--die-with-parent --unshare-pid --clearenv ${isWritable ? '--bind' : '--ro-bind'}`;
    return [
      ...fixed.split(' '),
      this.root,
      '/',
      ...SYSTEM.flatMap((path) => ['--ro-bind', path, path]),
      ...'--proc /proc --dev /dev --tmpfs /tmp'.split(' '),
      ...mounted('--bind', mounts.volumes),
      ...mounted('--ro-bind', mounts.readOnly),
      ...Object.entries(env).flatMap(([name, value]) => ['--setenv', name, value]),
      '--chdir',
      this.settings.workdir,
    ];
  }
}

const mounted = (flag: string, paths: Readonly<Record<string, string>> = {}): string[] =>
  Object.entries(paths).flatMap(([at, path]) => [flag, path, at]);

/**
 * Builds all stages below `directory`.
 *
 * @param options.args Build arguments
 * @param options.mounts What the build may see beside its context
 * @returns The stages by name; the last one, which is what a build without a target gives, as `''`.
 */
export async function buildImages(
  directory: string,
  options: { readonly args: Readonly<Record<string, string>>; readonly mounts: Mounts },
): Promise<Map<string, Image>> {
  const { args, mounts } = options;
  const prebuilds = await packBuiltSqlite(join(directory, 'prebuilds'));
  const seen = { ...mounts, volumes: { ...mounts.volumes, [PREBUILDS]: prebuilds } };
  const images = new Map<string, Image>();
  for (const stage of readStages())
    images.set(stage.name, await buildStage(directory, stage, images, { args, mounts: seen }));
  return images;
}

/** This repository's own, which was compiled or fetched when it was installed: a minute less. */
async function packBuiltSqlite(directory: string): Promise<string> {
  await mkdir(directory);
  const home = join(REPOSITORY, 'node_modules/better-sqlite3');
  const { version } = z
    .object({ version: z.string() })
    .parse(JSON.parse(await readFile(join(home, 'package.json'), 'utf8')));
  const { arch, versions } = process;
  const name = `better-sqlite3-v${version}-node-v${versions.modules}-linux-${arch}.tar.gz`;
  await run('tar', ['-czf', join(directory, name), '-C', home, 'build/Release/better_sqlite3.node']);
  return directory;
}

async function buildStage(
  directory: string,
  stage: Stage,
  images: ReadonlyMap<string, Image>,
  { args, mounts }: { readonly args: Readonly<Record<string, string>>; readonly mounts: Mounts },
): Promise<Image> {
  const root = join(directory, stage.name || 'default');
  const before = images.get(stage.base);
  assert(before !== undefined || /^node:20\.\d+\.\d+-bookworm(-slim)?$/.test(stage.base), stage.base);
  await mkdir(root, { recursive: true });
  // Places to mount what a base image has.
  for (const path of [...SYSTEM, '/proc', '/dev', '/tmp', '/root'])
    await mkdir(join(root, path), { recursive: true });
  if (before !== undefined) await copyInto(`${before.root}/.`, root);
  let settings = before?.settings ?? BASE;
  const set = (changed: Partial<Settings>) => {
    settings = { ...settings, ...changed };
  };
  let buildArgs: Readonly<Record<string, string>> = {};
  for (const { keyword, flags, text } of stage.steps) {
    const known = { ...settings.env, ...buildArgs };
    if (keyword === 'ARG') {
      const [name, value = ''] = text.split('=');
      buildArgs = { ...buildArgs, [name!]: args[name!] ?? value };
    } else if (keyword === 'ENV') set({ env: { ...settings.env, ...variablesOf(text, known) } });
    else if (keyword === 'WORKDIR') {
      await mkdir(join(root, text), { recursive: true });
      set({ workdir: text });
    } else if (keyword === 'USER') set({ user: text });
    else if (keyword === 'ENTRYPOINT') set({ entrypoint: listOf(text) });
    else if (keyword === 'CMD') set({ command: listOf(text) });
    else if (keyword === 'HEALTHCHECK') set({ healthcheck: listOf(text.slice(text.indexOf('['))) });
    else if (keyword === 'COPY') await copyStep(text, flags, { root, settings, images });
    else if (keyword === 'RUN') {
      if (text.startsWith('apt-get')) await askForPackages(text);
      else await new Image(root, { ...settings, env: known }).runStep(text, mounts);
    } else assert(['EXPOSE', 'VOLUME'].includes(keyword), `${keyword} is not known here`);
  }
  return new Image(root, settings);
}

async function copyStep(
  text: string,
  flags: Readonly<Record<string, string>>,
  to: { readonly root: string; readonly settings: Settings; readonly images: ReadonlyMap<string, Image> },
): Promise<void> {
  const paths = text.split(/\s+/);
  const target = paths.pop()!;
  const from = flags.from === undefined ? undefined : to.images.get(flags.from)!.root;
  const isDirectory = target.endsWith('/');
  assert(isDirectory || paths.length === 1);
  const place = join(to.root, target.startsWith('/') ? '' : to.settings.workdir, target);
  if (isDirectory) await mkdir(place, { recursive: true });
  for (const path of paths) {
    if (from === undefined) assert(contextPaths().includes(path), `${path} is not in the context`);
    const source = join(from ?? REPOSITORY, path);
    await copyInto(source, isDirectory ? join(place, basename(path)) : place);
  }
}

/** Links stay links, modes modes; everything is root's, as Docker makes it. */
async function copyInto(from: string, to: string): Promise<void> {
  await run('cp', ['-a', '--no-preserve=ownership', from, to]);
}

/** Asks apt whether what the step installs could be installed here. */
async function askForPackages(text: string): Promise<void> {
  const packages = /apt-get install -y --no-install-recommends ([a-z0-9 .+-]+?) &&/
    .exec(text)![1]!
    .split(' ');
  await run('apt-get', ['install', '--simulate', '--no-install-recommends', ...packages]);
}

/** `A=b C=d$A` */
function variablesOf(text: string, known: Readonly<Record<string, string>>): Record<string, string> {
  const pairs = text.split(/\s+/).map((pair) => {
    const [, name, value] = /^(\w+)=(.*)$/.exec(pair)!;
    return [name!, value!.replaceAll(/\$(\w+)/g, (_, variable: string) => known[variable] ?? '')] as const;
  });
  return Object.fromEntries(pairs);
}

function environmentOfNpm(): Record<string, string> {
  const kinds = /^(npm_config_|https?_proxy$|no_proxy$|node_extra_ca_certs$|ssl_cert_)/i;
  const named = Object.entries(process.env).filter(([name]) => kinds.test(name));
  return {
    ...Object.fromEntries(named.map(([name, value]) => [name, value ?? ''])),
    npm_config_prefer_offline: 'true',
    npm_config_better_sqlite3_local_prebuilds: PREBUILDS,
  };
}

/** Bytes of the files below a directory; a file with several names counts once, a link as nothing. */
export async function treeBytes(directory: string): Promise<number> {
  if (!existsSync(directory)) return 0;
  const { stdout } = await run('du', ['-sb', '--apparent-size', directory]);
  assert((await readdir(directory)).length > 0);
  return Number(stdout.split('\t')[0]);
}
