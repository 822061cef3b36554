/**
 * Passages without a model: words instead of tokens, and "KV" that is there or not. Computing waits where a test holds
 * it, and says what it was asked.
 */
import { RadixkvError } from '../../src/errors.js';
import { NO_TOKENS } from '../../src/serving/completion.js';
import type { Passage, PassageJob, PassageReading, PassageService } from '../../src/serving/passages.js';

export const WORDS_MAX = 50;

const keyOf = (namespace: string, { title, text }: Passage): string =>
  JSON.stringify([namespace, title, text]);

export class FakePassages implements PassageService {
  /** Namespace and passage of what is cached, as JSON. */
  readonly kept = new Set<string>();
  readonly jobs: PassageJob[] = [];
  /** Jobs under way. */
  running = 0;
  runningMost = 0;
  /** What a job does before it is done. */
  work: (job: PassageJob) => Promise<void> = () => Promise.resolve();

  tokens(passage: Passage): number {
    const tokens = words(passage);
    if (tokens <= WORDS_MAX) return tokens;
    throw new RadixkvError('context_length_exceeded', `the document has ${tokens} tokens`, { param: 'text' });
  }

  read(namespace: string, passage: Passage): PassageReading {
    const tokens = words(passage);
    return { tokens, cached: this.has(namespace, passage) ? { ...NO_TOKENS, host: tokens } : NO_TOKENS };
  }

  has(namespace: string, passage: Passage): boolean {
    return this.kept.has(keyOf(namespace, passage));
  }

  async prepare(job: PassageJob): Promise<void> {
    this.jobs.push(job);
    this.runningMost = Math.max(this.runningMost, ++this.running);
    try {
      await this.work(job);
      job.signal.throwIfAborted();
      this.kept.add(keyOf(job.namespace, job.passage));
    } finally {
      this.running--;
    }
  }

  forget(namespace: string, passage: Passage): void {
    this.kept.delete(keyOf(namespace, passage));
  }
}

function words({ title, text }: Passage): number {
  return `${title ?? ''} ${text}`.trim().split(/\s+/).length;
}

/** Work that goes on when `open` is called, or its job is aborted. */
export function gate(): { readonly work: (job: PassageJob) => Promise<void>; readonly open: () => void } {
  let open!: () => void;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  const work = ({ signal }: PassageJob) =>
    new Promise<void>((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      void opened.then(resolve);
    });
  return { work, open };
}
