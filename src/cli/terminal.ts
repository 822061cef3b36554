/**
 * What the command line shows: results on stdout, notes and progress on stderr.
 *
 * On a terminal progress is a bar; elsewhere (a log, a pipe) it is a plain line every few seconds, without control
 * characters. So are numbers that are shown again and again: on a terminal each frame takes the place of the one before.
 */
import cliProgress from 'cli-progress';
import { formatBytes } from '../config/bytes.js';
import type { Clock } from '../model/clock.js';
import type { OnProgress, Progress } from '../model/progress.js';

export interface Terminal {
  /** A line of the result, to stdout. */
  print(line: string): void;
  /** Lines of the result that take the place of the last frame on a terminal; elsewhere a block with an empty line behind. */
  frame(lines: readonly string[]): void;
  /** A line about what is going on, to stderr. */
  note(line: string): void;
  readonly progress: OnProgress;
  /** Ends the progress under way; the next call to `progress` begins another. */
  endProgress(): void;
}

/** The parts of `process.stdout` and `process.stderr` that the terminal uses. */
export interface OutputStream extends NodeJS.WritableStream {
  readonly isTTY?: boolean;
}

const LINE_EVERY_MS = 5000;

/** To the top left, and nothing from there on. */
const CLEAR = '\u001b[H\u001b[J';

export function createTerminal(stdout: OutputStream, stderr: OutputStream, clock: Clock): Terminal {
  const view = stderr.isTTY === true ? barView(stderr) : lineView(stderr, clock);
  let phase: string | undefined;
  const endProgress = () => {
    if (phase !== undefined) view.end();
    phase = undefined;
  };
  return {
    print(line) {
      endProgress();
      stdout.write(`${line}\n`);
    },
    frame(lines) {
      endProgress();
      const text = `${lines.join('\n')}\n`;
      stdout.write(stdout.isTTY === true ? `${CLEAR}${text}` : `${text}\n`);
    },
    note(line) {
      endProgress();
      stderr.write(`${line}\n`);
    },
    progress(progress) {
      if (progress.phase !== phase) {
        endProgress();
        phase = progress.phase;
        view.begin(progress);
      } else view.update(progress);
    },
    endProgress,
  };
}

interface ProgressView {
  begin(progress: Progress): void;
  update(progress: Progress): void;
  end(): void;
}

function barView(stream: NodeJS.WritableStream): ProgressView {
  let bar: cliProgress.SingleBar | undefined;
  return {
    begin(progress) {
      const format = '{phase} [{bar}] {percentage}% {amount}';
      // Line wrapping stays on: turned off, it would stay off after Ctrl-C.
      const options = { format, stream, barsize: 24, linewrap: true };
      bar = new cliProgress.SingleBar(options, cliProgress.Presets.rect);
      bar.start(Math.max(progress.total, 1), progress.done, {
        phase: progress.phase,
        amount: amount(progress),
      });
    },
    update(progress) {
      bar?.setTotal(Math.max(progress.total, 1));
      bar?.update(progress.done, { amount: amount(progress) });
    },
    end() {
      bar?.stop();
      bar = undefined;
    },
  };
}

function lineView(stream: NodeJS.WritableStream, clock: Clock): ProgressView {
  let latest: Progress;
  let shown: Progress;
  let shownAt = 0;
  const show = (progress: Progress) => {
    const percent = progress.total > 0 ? Math.floor((100 * progress.done) / progress.total) : 0;
    stream.write(`${progress.phase}: ${percent}% ${amount(progress)}`.trimEnd().concat('\n'));
    shown = progress;
    shownAt = clock.now();
  };
  return {
    begin(progress) {
      latest = progress;
      show(progress);
    },
    update(progress) {
      latest = progress;
      if (clock.now() - shownAt >= LINE_EVERY_MS) show(progress);
    },
    end() {
      if (latest !== shown) show(latest);
    },
  };
}

function amount(progress: Progress): string {
  if (progress.unit !== 'bytes') return '';
  return `${formatBytes(progress.done)} of ${formatBytes(progress.total)}`;
}
