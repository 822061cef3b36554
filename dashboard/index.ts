export { EXPLORER_PAGE } from './explorer-page.js';
export { bytes, count, milliseconds, percent, rate, seconds } from './numbers.js';
export { PAGE } from './page.js';
export {
  type Counts,
  type Evicted,
  freshRates,
  HITS,
  hitShares,
  type ProcessStats,
  type Rates,
  TIERS,
  type WindowStats,
} from './readings.js';
export { STYLE } from './style.js';
