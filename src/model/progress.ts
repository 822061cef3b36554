/** How long work on a model (download, import) tells how far it is. */

export interface Progress {
  /** What is being done, in a few words; a new phase begins when it changes. */
  readonly phase: string;
  readonly done: number;
  readonly total: number;
  /** Unit of `done` and `total`; without one only their ratio means something. */
  readonly unit?: 'bytes';
}

export type OnProgress = (progress: Progress) => void;
