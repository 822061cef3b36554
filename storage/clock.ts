/** The wall clock as a port. It may jump, also backwards: who uses it bounds what a jump can do. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
}
