export { EXPLORER_PAGE } from './explorer-page.js';
export { bytes, count, percent, rate, seconds } from './numbers.js';
export { PAGE } from './page.js';
export {
  type Counts,
  freshRates,
  hitShares,
  type ProcessStats,
  type Rates,
  TIERS,
  type WindowStats,
} from './readings.js';
export { STYLE } from './style.js';
