/**
 * The Hub protocol: list a repository at a revision, download its files.
 *
 * 1. `GET {endpoint}/api/models/{repo}/revision/{revision}?blobs=true` → commit and files with size and SHA-256.
 * 2. `GET {endpoint}/{repo}/resolve/{commit}/{file}`, with ranges, for each file. The commit and not the revision, so
 *    that a push between two files can't mix versions.
 *
 * Files land in `{directory}/{org}--{name}/{commit}/`, and stay there: a second import downloads nothing.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { RadixkvError } from '../../errors.js';
import type { Clock } from '../clock.js';
import type { OnProgress } from '../progress.js';
import { download } from './download.js';
import { get, type HttpOptions, networkReason, TransientError, withRetries } from './http.js';
import { chooseHubFiles, type HubFile } from './hub-files.js';

export interface HubRevision {
  readonly commit: string;
  readonly files: readonly HubFile[];
}

const DEFAULT_ENDPOINT = 'https://huggingface.co';
const ATTEMPTS_MAX = 5;

const REVISION = z.object({
  sha: z.string().regex(/^[0-9a-f]{7,64}$/),
  siblings: z.array(
    z.object({
      rfilename: z.string().min(1),
      size: z.number().int().nonnegative().nullish(),
      lfs: z.object({ sha256: z.string().regex(/^[0-9a-f]{64}$/) }).nullish(),
    }),
  ),
});

/** Endpoint and token from `HF_ENDPOINT` and `HF_TOKEN`. */
export function hubFromEnvironment(environment: NodeJS.ProcessEnv, clock: Clock): HttpOptions {
  const text = environment.HF_ENDPOINT || DEFAULT_ENDPOINT;
  if (!URL.canParse(text) || !/^https?:/.test(text)) {
    throw new RadixkvError('invalid_value', `HF_ENDPOINT must be an http(s) URL, got "${text}"`);
  }
  return { endpoint: new URL(text), token: environment.HF_TOKEN || undefined, clock };
}

/**
 * @param limits.timeoutMs Limit for the answer's headers; `limits.attemptsMax` 1 makes it a quick reachability check.
 * @throws RadixkvError `model_not_found` or `download_failed`.
 */
export async function listRevision(
  hub: HttpOptions,
  repo: string,
  revision: string,
  limits: { readonly timeoutMs?: number; readonly attemptsMax?: number } = {},
): Promise<HubRevision> {
  const subject = `model ${repo}${revision === 'main' ? '' : `@${revision}`}`;
  const url = hubUrl(hub, `/api/models/${repo}/revision/${encodeURIComponent(revision)}?blobs=true`);
  const attemptsMax = limits.attemptsMax ?? ATTEMPTS_MAX;
  const { timeoutMs } = limits;
  const body = await withRetries({ clock: hub.clock, subject, attemptsMax }, async () => {
    const response = await get(hub, url, timeoutMs === undefined ? { subject } : { subject, timeoutMs });
    return response.text().catch((cause: unknown) => {
      throw new TransientError(networkReason(cause), { cause });
    });
  });
  return parseRevision(subject, body);
}

function parseRevision(subject: string, body: string): HubRevision {
  let json: unknown;
  try {
    json = JSON.parse(body);
  } catch {
    json = undefined;
  }
  const parsed = REVISION.safeParse(json);
  if (!parsed.success)
    throw new RadixkvError('download_failed', `${subject}: the answer is not a list of model files`);
  return {
    commit: parsed.data.sha,
    files: parsed.data.siblings.map((file) => ({
      path: file.rfilename,
      bytes: file.size ?? undefined,
      sha256: file.lfs?.sha256,
    })),
  };
}

/** Downloads one file of a commit; see `download` for resuming, checks and errors. */
export async function downloadHubFile(
  hub: HttpOptions,
  from: { readonly repo: string; readonly commit: string; readonly file: HubFile },
  destination: string,
  onProgress: OnProgress | undefined,
): Promise<void> {
  const path = from.file.path.split('/').map(encodeURIComponent).join('/');
  await download(hub, {
    url: hubUrl(hub, `/${from.repo}/resolve/${from.commit}/${path}`),
    destination,
    subject: from.file.path,
    bytes: from.file.bytes,
    sha256: from.file.sha256,
    onProgress,
  });
}

/**
 * Downloads the model of a repository.
 *
 * @returns Path of the GGUF file or of the directory with the safetensors, and the commit it is from.
 * @throws RadixkvError as `listRevision`, `chooseHubFiles` and `download` do.
 */
export async function downloadHubModel(
  hub: HttpOptions,
  from: { readonly repo: string; readonly revision: string; readonly file: string | undefined },
  directory: string,
  onProgress: OnProgress | undefined,
): Promise<{ readonly path: string; readonly commit: string }> {
  const { commit, files } = await listRevision(hub, from.repo, from.revision);
  const choice = chooseHubFiles(from.repo, files, from.file);
  const target = join(directory, from.repo.replace('/', '--'), commit);
  for (const file of choice.files) {
    await downloadHubFile(hub, { repo: from.repo, commit, file }, join(target, file.path), onProgress);
  }
  return { path: choice.format === 'gguf' ? join(target, choice.files[0]!.path) : target, commit };
}

/** Keeps a path prefix of the endpoint (a mirror may live below one). */
function hubUrl(hub: HttpOptions, path: string): URL {
  return new URL(hub.endpoint.href.replace(/\/$/, '') + path);
}
