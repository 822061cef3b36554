/** A histogram of Prometheus whose counts somebody else keeps: they are read when it is scraped. */
import { Histogram, type HistogramConfiguration } from 'prom-client';
import { type HistogramReading, observed } from '../histogram.js';

/** The name of the label, and each of its values with what is known of it now. */
export type CopiedFrom = [label: string, read: () => readonly (readonly [string, HistogramReading])[]];

export class CopiedHistogram extends Histogram {
  readonly #from: CopiedFrom;
  readonly #config: Pick<HistogramConfiguration<string>, 'name' | 'help'>;

  constructor(config: Omit<HistogramConfiguration<string>, 'labelNames'>, ...from: CopiedFrom) {
    super({ ...config, labelNames: [from[0]] });
    this.#config = config;
    this.#from = from;
  }

  /** What the registry asks of a histogram to print it, though it is not in its type. */
  async getForPromString() {
    const { name, help } = this.#config;
    const [label, read] = this.#from;
    const values = read().flatMap(([value, { bounds, counts, sum }]) => {
      const sharedLabels = { [label]: value };
      let below = 0;
      const buckets = counts.map((count, i) => {
        below += count;
        return {
          metricName: `${name}_bucket`,
          labels: { le: bounds[i] ?? '+Inf' },
          sharedLabels,
          value: below,
        };
      });
      return [
        ...buckets,
        { metricName: `${name}_sum`, labels: {}, sharedLabels, value: sum },
        { metricName: `${name}_count`, labels: {}, sharedLabels, value: observed({ counts }) },
      ];
    });
    return { name, help, type: 'histogram', aggregator: 'sum', values };
  }
}
