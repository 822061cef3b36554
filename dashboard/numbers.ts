/** Numbers as operators read them; what is not known is a dash. Knows no DOM. */

type Known = number | null | undefined;

const UNKNOWN = '–';
const BINARY_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

function known(value: Known, text: (value: number) => string): string {
  return value === null || value === undefined || Number.isNaN(value) ? UNKNOWN : text(value);
}

/** Of a share from 0 to 1: `53.8 %`. */
export function percent(share: Known): string {
  return known(share, (value) => `${(value * 100).toFixed(1)} %`);
}

/** Whole, by thousands: `12,400`. */
export function count(value: Known): string {
  return known(value, (whole) => Math.round(whole).toLocaleString('en'));
}

/** One decimal below 100: `3.4`, `240`. */
export function rate(value: Known): string {
  return known(value, (perSecond) =>
    perSecond > 0 && perSecond < 99.95 ? perSecond.toFixed(1) : count(perSecond),
  );
}

/** In binary units with at most one decimal: `1.5 GiB`, `640 B`. */
export function bytes(value: Known): string {
  return known(value, (whole) => {
    let size = whole;
    let index = 0;
    while (Math.round(size * 10) / 10 >= 1024 && index < BINARY_UNITS.length - 1) {
      size /= 1024;
      index += 1;
    }
    return `${Math.round(size * 10) / 10} ${BINARY_UNITS[index]}`;
  });
}

/** Of milliseconds, as `seconds`. */
export function milliseconds(value: Known): string {
  return seconds(value === null || value === undefined ? value : value / 1000);
}

/** `340 ms`, `5.04 s`, `12 min`, `3.2 h`. */
export function seconds(value: Known): string {
  return known(value, (time) => {
    if (time < 1) return `${Math.round(time * 1000)} ms`;
    if (time < 100) return `${Number(time.toFixed(2))} s`;
    if (time < 6000) return `${Math.round(time / 60)} min`;
    return `${Number((time / 3600).toFixed(1))} h`;
  });
}
