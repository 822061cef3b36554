/** A library over a file of its own, which can be closed and opened again. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { DocumentLibrary, type DocumentOrder, type LibraryOptions } from '../../src/documents/library.js';
import { FakePassages } from '../support/fake-passages.js';
import { ManualClock } from '../support/manual-clock.js';

export class Shelf {
  readonly directory = mkdtempSync(join(tmpdir(), 'radixkv-documents-'));
  readonly file = join(this.directory, 'documents.sqlite');
  readonly clock = new ManualClock();
  readonly passages = new FakePassages();
  library: DocumentLibrary;
  readonly #options: Partial<LibraryOptions>;

  constructor(options: Partial<LibraryOptions> = {}) {
    this.#options = options;
    this.library = this.open();
  }

  open(options = this.#options): DocumentLibrary {
    const { file, clock, passages } = this;
    this.library = DocumentLibrary.open({ file, clock, passages, ...options });
    return this.library;
  }

  async reopen(options = this.#options): Promise<DocumentLibrary> {
    await this.library.close();
    return this.open(options);
  }

  put(id: string, text: string, order: Partial<DocumentOrder> & { readonly namespace?: string } = {}) {
    const { namespace = '', ...rest } = order;
    const passage = { title: undefined, text };
    return this.library.put(namespace, id, { passage, ttlMs: undefined, isPinned: false, ...rest });
  }

  /** What is told of a document once nothing is queued any more. */
  async settled(id: string, namespace = '') {
    for (;;) {
      const reading = this.library.read(namespace, id);
      if (reading?.status !== 'queued' && reading?.status !== 'computing') return reading;
      await setImmediate();
    }
  }

  async dispose(): Promise<void> {
    await this.library.close();
    rmSync(this.directory, { recursive: true });
  }
}

export function shelf(
  t: { after(hook: () => Promise<void>): void },
  options: Partial<LibraryOptions> = {},
): Shelf {
  const made = new Shelf(options);
  t.after(() => made.dispose());
  return made;
}

/** Until what was begun has come as far as it comes by itself. */
export async function pause(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await setImmediate();
}
