/** Work that is repeated while the page is visible, and only then. */

export interface Polling {
  /** Does the work now, unless the page is hidden, and counts the time anew. */
  soon(): void;
}

/** Repeats `work` from now on, each time `everyMs` after the last one ended. Its signal fires when the page is hidden. */
export function poll(everyMs: number, work: (signal: AbortSignal) => Promise<void>): Polling {
  let aborter = new AbortController();
  let timer: number | undefined;
  const stop = () => {
    aborter.abort();
    clearTimeout(timer);
  };
  const start = () => {
    stop();
    if (document.visibilityState === 'hidden') return;
    aborter = new AbortController();
    const { signal } = aborter;
    const turn = async () => {
      await work(signal);
      if (!signal.aborted) timer = setTimeout(() => void turn(), everyMs);
    };
    void turn();
  };
  document.addEventListener('visibilitychange', start);
  start();
  return { soon: start };
}
