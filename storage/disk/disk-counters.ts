/** What happened on the disk since the start, by kind. */

export interface DiskCounters {
  writesStored: number;
  /** The medium refused, or the thread died. */
  writesFailed: number;
  /** Not tried, because writes failed a moment ago. */
  writesPaused: number;
  /** Bytes that no longer matched their checksum before they were written. */
  writesCorrupt: number;
  /** The volume was full. */
  noSpace: number;
  /** Of chunks, before encoding. */
  writtenBytes: number;
  readsHit: number;
  /** Of chunks, after decoding. */
  readBytes: number;
  /** Read, but not what was written. */
  readsCorrupt: number;
  /** The medium refused. */
  readsFailed: number;
  /** The file was gone. */
  missingFiles: number;
  /** Removals, and notes of uses, that the medium refused; mended at the next start. */
  troubles: number;
  /** Mended at starts; see `LoadReport`. */
  droppedRows: number;
  orphansAdopted: number;
  orphansCollected: number;
  cataloguesRebuilt: number;
  /** Times that the disk's thread or catalogue was lost in use. */
  restarts: number;
}

export function zeroCounters(): DiskCounters {
  return {
    writesStored: 0,
    writesFailed: 0,
    writesPaused: 0,
    writesCorrupt: 0,
    noSpace: 0,
    writtenBytes: 0,
    readsHit: 0,
    readBytes: 0,
    readsCorrupt: 0,
    readsFailed: 0,
    missingFiles: 0,
    troubles: 0,
    droppedRows: 0,
    orphansAdopted: 0,
    orphansCollected: 0,
    cataloguesRebuilt: 0,
    restarts: 0,
  };
}
